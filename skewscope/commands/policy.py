"""What may be done to a cluster, and when: check a policy, write one to start from, close the breaker.

A policy is one TOML file with all limits: modes, budgets, evidence, cool-downs, approvals. The default looks on and
does nothing.

Examples:
  skewscope policy init --out policy.toml       every key with its default, and what it does
  skewscope policy check policy.toml            all safe-guards with the file's values, and what is dangerous in it
  skewscope policy reset-breaker --audit acts.jsonl --person anna --reason "the switch is mended"
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from ..catalogue import class_name

PREFIX = "_policy_"


class Policy:
    """`skewscope policy`. A command below is a file `_policy_NAME.py` here, with the class `PolicyName`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare nothing: all flags are those of the commands below."""

    def nest(self, parser: argparse.ArgumentParser) -> None:
        """Declare the commands below: each has a page, its class's docstring, `arguments` and `run`."""
        places = parser.add_subparsers(prog="skewscope policy", dest="below", metavar="NAME", required=True)
        for file in sorted(Path(__file__).parent.glob(f"{PREFIX}*.py")):
            kind = getattr(import_module(f".{file.stem}", __package__), class_name(file.stem.removeprefix("_")))
            page = (kind.__doc__ or "").strip()
            place = places.add_parser(
                file.stem.removeprefix(PREFIX).replace("_", "-"), help=page.splitlines()[0].rstrip("."),
                description=page, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
            )  # fmt: skip
            command = kind()
            command.arguments(place)
            place.set_defaults(called=command)

    def run(self, args: argparse.Namespace) -> int:
        """Do what was called."""
        return int(args.called.run(args))
