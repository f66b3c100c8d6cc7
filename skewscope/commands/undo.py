"""Take an act back: restore what was there before, unless somebody else changed it since.

Without --apply it only says what would be changed. An act is named by the first letters of its id; `skewscope audit
list` shows them.

Examples:
  skewscope undo 3f9a                                  what would be taken back
  skewscope undo 3f9a --apply --reason "fan replaced"  do it
  skewscope undo 3f9a --audit acts.jsonl --policy policy.toml --apply
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Mapping
from typing import Any

from ..errors import SkewscopeError
from . import _acting


class Undo:
    """`skewscope undo`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("act", metavar="ACT", help="the id of the act, or its first letters")
        add("--apply", action="store_true", help="do it; else nothing is changed")
        add("--reason", metavar="TEXT", default="asked for by hand", help="written into the audit")
        _acting.flags(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Show, and with --apply do it; exit code 1 where it is refused or fails."""
        from ..acting import undoing

        logging.getLogger("skewscope.acting").setLevel(logging.WARNING)  # what is printed says it all
        path = _acting.audit_file(args.audit, there=True)
        policy = _acting.policy_of(args.policy)
        person = _acting.person()
        if not args.apply:
            record, command = undoing.look(policy, path, args.act, time.time_ns())
            print(f"{record['scheduler']}: {record['verb']} {record['target']}: ", end="")
            print("cannot be taken back" if command["refused"] else "is taken back with --apply")
            print("\n".join([*_acting.changed(command), *_refusal(command)]))
            return 1 if command["refused"] else 0
        came = undoing.undo(policy, path, args.act, person, args.reason)
        if came["phase"] != "undone":
            raise SkewscopeError(f"act {came['of']} still stands: {came.get('detail') or came.get('result')}")
        print(f"{came['scheduler']}: {came['verb']} {came['target']}: taken back")
        print("\n".join(_acting.changed(came)))
        return 0


def _refusal(command: Mapping[str, Any]) -> list[str]:
    if command["refused"]:
        return [_acting.line("refused", command["refused"])]
    return [_acting.line("", "it is so already")] if command["nothing"] else []
