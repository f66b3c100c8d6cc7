"""Builds the parser from the rooms of this folder: each module docstring is the help of its command."""

from __future__ import annotations

import argparse
import os
from typing import Any

from .. import __version__
from ..catalogue import rooms
from ._usage import Parser

ABOUT = """Says which rank, link, stage or host makes a GPU training job slow, what it costs and what to do.

Examples:
  skewscope demo                          analyse the shipped samples, no server needed
  skewscope analyze traces/               analyse your own recordings
  skewscope analyze traces/ --fail-on S2  the same as a gate in a pipeline
  skewscope conditions                    what can be found, and how"""

MORE = """`skewscope COMMAND --help` explains one command, with examples.
Settings come from flags, then SKEWSCOPE_* variables (SKEWSCOPE_WORKERS=4), then --config FILE (TOML). Where a command
reads one source, the one that a flag names beats a setting that names another.
Exit codes: 0 done, 1 a finding at or above --fail-on (or a failure), 2 wrong usage, 3 nothing readable,
130 interrupted."""


def build(only: str = "", nested: bool = True) -> argparse.ArgumentParser:
    """Return the whole parser; `args.run` of the parsed arguments is the command to call.

    With the id of a command as `only`, the others are not even imported: the agent runs on every node and stays small.
    Without `nested`, no command is imported and each has its title only: the list of commands needs no more.
    """
    form: Any = _form
    parser = Parser("skewscope", description=ABOUT, epilog=MORE, formatter_class=form, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"skewscope {__version__}")
    _shared(parser)
    parser.set_defaults(config=None, quiet=False, verbose=False, log_format="text")
    inherited = Parser(add_help=False)
    _shared(inherited)
    places = parser.add_subparsers(prog="skewscope", dest="command", metavar="COMMAND", title="commands")
    for room in rooms("commands"):
        if only and room.id != only:
            continue
        title = room.title().rstrip(".").replace("%", "%%")
        if not nested and not only:
            places.add_parser(room.id, help=title, parents=[inherited], formatter_class=form)
            continue
        place = places.add_parser(
            room.id, help=title, description=room.page().strip(), parents=[inherited], formatter_class=form,
            allow_abbrev=False,
        )  # fmt: skip
        command = room.load()
        command.arguments(place)
        if hasattr(command, "nest"):
            command.nest(place)
        for below in commands(place).values():
            _shared(below)
        place.set_defaults(run=command.run)
    return parser


def _form(prog: str) -> argparse.HelpFormatter:
    # argparse would import shutil, and with it three compressors, to learn how wide the terminal is.
    try:
        columns = int(os.environ.get("COLUMNS", "")) or os.get_terminal_size().columns
    except (ValueError, OSError):
        columns = 80
    return argparse.RawDescriptionHelpFormatter(prog, width=max(columns - 2, 40))


def named(word: str) -> str:
    """Return the word if it is the id of a command, else "".

    >>> named("agent"), named("--help")
    ('agent', '')
    """
    return word if word in {room.id for room in rooms("commands")} else ""


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command by its name; what a command holds itself is called as "plan.moe"."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, place in action.choices.items():
                found |= {name: place, **{f"{name}.{below}": one for below, one in commands(place).items()}}
    return found


def _shared(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("common")
    add = group.add_argument
    silent = argparse.SUPPRESS  # a flag before the command must survive the command's own defaults
    add("--config", metavar="FILE", default=silent, help="settings file (TOML)")
    add("-q", "--quiet", action="store_true", default=silent, help="say less on standard error")
    add("-v", "--verbose", action="store_true", default=silent, help="say more; errors come with their traceback")
    add("--log-format", choices=("text", "json"), default=silent, help="form of the messages on standard error")
