"""Print the JSON Schema (2020-12) of a document or table that skewscope writes.

Examples:
  skewscope schema report                      the report of `analyze --json` (skewscope.report/1)
  skewscope schema bench                       the figures of `bench detect --json` (skewscope.bench/1)
  skewscope schema view                        the answers of `view --json` (skewscope.view/1)
  skewscope schema incident                    one incident of `watch` (skewscope.incident/1)
  skewscope schema action                      one line of the audit of acts (skewscope.action/1)
  skewscope schema act                         what `exec` and `webhook` are sent (also verdict, advice, fleet)
  skewscope schema retest                      how fast a node is (skewscope.retest/1; also replay)
  skewscope schema plan                        what all plans of `plan --json` share (skewscope.plan.NAME/1)
  skewscope schema compare                     two runs (skewscope.compare/1; also scaling, top)
  skewscope schema collectives                 one canonical table, with the Arrow type of each column
  skewscope schema report > report.schema.json
"""

from __future__ import annotations

import argparse
import json
import sys


class Schema:
    """`skewscope schema`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        parser.add_argument("name", metavar="NAME", help="report, bench, incident, action, act, plan, ... or a table")

    def run(self, args: argparse.Namespace) -> int:
        """Print the schema."""
        from ..reports.json_schema import schema

        sys.stdout.write(json.dumps(schema(args.name), indent=2) + "\n")
        return 0
