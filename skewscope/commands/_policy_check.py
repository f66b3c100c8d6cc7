"""`skewscope policy check`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    from ..policy.settings import Policy

WIDTH = 118


class PolicyCheck:
    """Explain all safe-guards with a file's values, and say what is wrong or dangerous in it."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("file", metavar="FILE", help="the policy (TOML)")
        parser.add_argument("--changed", action="store_true", help="only what differs from the defaults")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def run(self, args: argparse.Namespace) -> int:
        """Print the table and the dangers; exit code 2 for a file that cannot be meant."""
        from ..policy.dangers import dangers
        from ..policy.explained import rows
        from ..policy.settings import Policy

        policy = Policy.load(Path(args.file))
        check_schedulers(policy, args.file)
        table = [row for row in rows(policy) if row.default or not args.changed]
        warnings = dangers(policy)
        if args.json:
            told = {"version": policy.version, "guards": [row._asdict() for row in table], "dangers": warnings}
            print(json.dumps(told, indent=2))
            return 0
        for row in table:
            number = f"{row.number:2}" if row.number else " -"
            instead = f" (default {row.default})" if row.default else ""
            print(f"{number}  {f'{row.key} = {row.value}' if row.key else row.value}{instead}")
            print("\n".join(wrap(row.does, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)))
        print()
        for warning in warnings:
            print(f"danger: {warning}")
        print(
            f"{args.file}: sound, version {policy.version}, {len(warnings)} danger{'' if len(warnings) == 1 else 's'}"
        )
        return 0


def check_schedulers(policy: Policy, where: str) -> None:
    """Raise UsageError for a scheduler that nobody can act on, or a setting that its actuator does not take."""
    from ..acting.rooms import actuators

    try:
        actuators(policy, tuple(policy.schedulers))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
