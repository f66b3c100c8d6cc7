"""`skewscope policy init`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import UsageError
from . import _files


class PolicyInit:
    """Write a policy to start from: every key with its default, and what it does."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("--out", metavar="FILE", help="write it there, where no file is yet; else it is printed")

    def run(self, args: argparse.Namespace) -> int:
        """Print or write it."""
        from ..policy.template import template

        if not args.out:
            sys.stdout.write(template())
            return 0
        path = Path(args.out)
        _files.check_file(path, "--out")
        if path.exists():
            raise UsageError(f"--out {path}: is there already; nothing is overwritten, name another")
        _files.write_text(path, template())
        print(f"written: {path}; check it with `skewscope policy check {path}`")
        return 0
