"""Print the completion script for a shell.

Examples:
  source <(skewscope completion bash)                                      this bash
  skewscope completion zsh > "${fpath[1]}/_skewscope"                      every zsh
  skewscope completion fish > ~/.config/fish/completions/skewscope.fish    every fish
"""

from __future__ import annotations

import argparse
import sys

from ..catalogue import rooms
from ..errors import UsageError

FILES = ("PATH", "FILE", "REPORT.json", "LOADS", "PLACEMENT", "PROFILE", "LENGTHS", "LINKS", "FLOWS")


class Completion:
    """`skewscope completion`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="which shell")

    def run(self, args: argparse.Namespace) -> int:
        """Print the script."""
        from . import _parser

        try:
            import shtab
        except ImportError:
            raise UsageError('completion needs shtab: pip install "skewscope[analysis]"') from None
        parser = _parser.build()
        for place in (parser, *_parser.commands(parser).values()):
            for action in place._actions:
                if action.metavar in (*FILES, "DIR"):
                    vars(action)["complete"] = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE
                elif (
                    action.metavar == "VIEW,..."
                ):  # any list of them may be given, so the command itself has no choices
                    action.choices = [room.id for room in rooms("views")]
        sys.stdout.write(shtab.complete(parser, args.shell) + "\n")
        return 0
