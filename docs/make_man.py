"""Writes the manual page from what the commands declare: docs/skewscope.1, which the wheel installs for `man`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from skewscope import __version__, catalogue
from skewscope.commands import _parser

OUT = Path(__file__).with_name("skewscope.1")
EXAMPLES = re.compile(r"^Examples?:\n", re.M)
COMMON = "common"
MANY = {"*": "[{} ...]", "+": "{} ...", "?": "[{}]", argparse.REMAINDER: "{} ..."}


def main() -> int:
    """Write the page anew; the exit code is 0."""
    OUT.write_text(page(), "utf-8")
    return 0


def page() -> str:
    """Return the page as roff with the macros of man(7)."""
    os.environ.pop("XDG_STATE_HOME", None)  # or the defaults of whoever writes it would stand there
    parser = _parser.build()
    places = _parser.commands(parser)
    lines = [
        f'.TH SKEWSCOPE 1 "" "skewscope {__version__}" "User Commands"', ".SH NAME",
        f"skewscope \\- {escaped(_parser.ABOUT.partition('.')[0])}", ".SH SYNOPSIS", ".B skewscope",
        r"\fICOMMAND\fR [OPTIONS] ...", ".SH DESCRIPTION", *described(_parser.ABOUT), ".SH COMMON OPTIONS",
        *options(parser, COMMON), ".SH COMMANDS",
    ]  # fmt: skip
    for name, place in places.items():
        lines += command(name, place)
    lines += [".SH SETTINGS AND EXIT CODES", *described(_parser.MORE)]
    return "\n".join(lines) + "\n"


def command(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the part of one command: how it is called, what it does, its options."""
    called = ["skewscope", *name.split(".")]
    yield f".SS {escaped(' '.join(called))}"
    yield rf"\fB{escaped(' '.join(called))}\fR {escaped(' '.join(('[OPTIONS]', *_positionals(parser))))}"
    yield ".PP"
    yield from described(parser.description or catalogue.room("commands", called[1]).title())
    yield from options(parser)


def described(text: str) -> Iterator[str]:
    r"""Yield the paragraphs of a text, and its examples line by line.

    >>> list(described("One.\n\nTwo.\n\nExamples:\n  ls -l"))
    ['One.', '.PP', 'Two.', '.PP', 'Examples:', '.PP', '.nf', '  ls \\-l', '.fi']
    """
    said, *examples = EXAMPLES.split(text.strip(), maxsplit=1)
    for number, part in enumerate(said.strip().split("\n\n")):
        if number:
            yield ".PP"
        yield from (escaped(line.strip()) for line in part.splitlines())
    for lines in examples:
        yield from (".PP", "Examples:", ".PP", ".nf", *map(escaped, lines.splitlines()), ".fi")


def options(parser: argparse.ArgumentParser, group: str = "") -> Iterator[str]:
    """Yield the options of a parser: those of the group with this title, or all but the common ones."""
    for one in parser._action_groups:
        if (one.title == COMMON) != (group == COMMON):
            continue
        for action in one._group_actions:
            if not isinstance(action, argparse._SubParsersAction | argparse._HelpAction):
                yield from (".TP", _named(action), escaped(_help(parser, action)))


def _named(action: argparse.Action) -> str:
    """Return an option as it is written: flags bold, what they take in italics."""
    taken = "" if action.nargs == 0 else rf" \fI{escaped(_metavar(action))}\fR"
    flags = [rf"\fB{escaped(flag)}\fR{taken}" for flag in action.option_strings]
    return ", ".join(flags) or taken.strip()


def _positionals(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if not action.option_strings:
            yield MANY.get(str(action.nargs), "{}").format(_metavar(action))


def _metavar(action: argparse.Action) -> str:
    named = action.metavar if isinstance(action.metavar, str) else ""
    return named or ("{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper())


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return parser._get_formatter()._expand_help(action) if action.help else ""


def escaped(text: str) -> str:
    r"""Return a line that roff shows as it stands.

    >>> print(escaped("a-b"), escaped(".x"), escaped(r"\d"))
    a\-b \&.x \ed
    """
    made = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{made}" if made[:1] in (".", "'") else made


if __name__ == "__main__":
    sys.exit(main())
