"""The command line: one file, one command; `main` finds them by their file names."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
import traceback
from collections.abc import Sequence

from ..errors import SkewscopeError, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 a finding or failure, 2 usage, 3 unreadable, 130 interrupted.

    Never raises: every error becomes one line on standard error, and `-v` adds the traceback.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(words, last=argv is None)
        sys.stdout.flush()
        return code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        _tell("interrupted")
        return 130
    except BrokenPipeError:
        _drop_output()
        return 0
    except SkewscopeError as error:
        return _failed(error, str(error), error.exit_code, words)
    except ModuleNotFoundError as error:
        return _failed(error, f'this needs {error.name}: pip install "skewscope[all]"', 2, words)
    except MemoryError as error:
        return _failed(error, "out of memory; analyse fewer files at once, or a shorter --window A:B", 1, words)
    except Exception as error:  # the last door before the shell: a fault becomes one line
        said = f"unexpected {type(error).__name__}: {error}; please report it, with the traceback that -v prints"
        return _failed(error, said, 1, words)


def _run(words: list[str], *, last: bool) -> int:
    from . import _logging

    args, parser = _parsed(words)
    if args.command is None:
        parser.print_help(sys.stderr)
        return 2
    _logging.start(args.log_format, args.verbose - args.quiet)
    args.words = tuple(words)
    run = args.run
    collecting = gc.isenabled()
    gc.disable()  # millions of short-lived rows and no cycles: collecting costs a tenth of a large analysis
    try:
        code: int = run(args)
    finally:
        if last:
            gc.freeze()  # else the interpreter looks through all that is left before it ends: a quarter of a second
        if collecting:
            gc.enable()
    return code


def _parsed(words: list[str]) -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    from . import _parser, _settings, _usage

    named = [word for word in words if _parser.named(word)]
    parser = _parser.build(_parser.named(words[0]) if words else "", nested=bool(named))
    try:
        before = _settings.apply(parser, _parser.commands(parser), words, os.environ)
    except UsageError:  # a settings file may speak of other commands too
        parser = _parser.build()
        before = _settings.apply(parser, _parser.commands(parser), words, os.environ)
    args, strange = parser.parse_known_args(words)
    if strange:
        parser.error(_usage.unrecognized(strange, _settings.flags(parser, _parser.commands(parser), words)))
    _settings.give_way(args, words, before)
    return args, parser


def _failed(error: BaseException, message: str, code: int, words: Sequence[str]) -> int:
    from ._usage import without_logins

    logger = logging.getLogger("skewscope")
    message = without_logins(message, words)
    verbose = any(word == "--verbose" or (word[:2] == "-v" and set(word[1:]) == {"v"}) for word in words)
    if logger.handlers:
        told = "".join(traceback.format_exception(error)) if verbose else ""
        logger.error(message, exc_info=error if told and told == without_logins(told, words) else None)
    else:
        _tell(message)
    return code


def _tell(message: str) -> None:
    try:
        print(f"skewscope: {message}", file=sys.stderr)
    except OSError:  # nobody reads standard error any more
        pass


def _drop_output() -> None:
    # Python flushes standard output once more at exit, which would complain about the closed pipe.
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass
