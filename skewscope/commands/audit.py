"""Read the record of all acts: what was done, why, by whom; and whether the record was changed.

Each line of the audit holds the hash of the line before it, so that no line can be changed, lost or put in without
being noticed. Lines cut off the end are noticed with --head: the hash that the service shows (`head` of /api/v1/acts).

Examples:
  skewscope audit verify acts.jsonl               one unbroken chain?
  skewscope audit verify acts.jsonl --head 9f3c   and nothing cut off its end?
  skewscope audit list acts.jsonl                 acts, the newest last; --standing: those that hold now
  skewscope audit show 3f9a acts.jsonl            all that is known of one act
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import UsageError
from . import _acting

QUIET = ("held", "observed")  # what was not done: shown with --all


class Audit:
    """`skewscope audit`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare nothing: all flags are those of the commands below."""

    def nest(self, parser: argparse.ArgumentParser) -> None:
        """Declare verify, list and show."""
        places = parser.add_subparsers(prog="skewscope audit", dest="below", metavar="NAME", required=True)
        for name, page, call in (("verify", "whether the chain is whole", _verify), ("list", "the acts", _list),
                                 ("show", "one act", _show)):  # fmt: skip
            place = places.add_parser(name, help=page, description=page, allow_abbrev=False)
            if name == "show":
                place.add_argument("act", metavar="ACT", help="the id of the act, or its first letters")
            place.add_argument("file", metavar="FILE", nargs="?", type=Path, help="the audit")
            place.set_defaults(called=call)
            _more(name, place)

    def run(self, args: argparse.Namespace) -> int:
        """Do what was called."""
        called: Callable[[argparse.Namespace, Path], int] = args.called
        return called(args, _acting.audit_file(args.file, there=True))


def _more(name: str, place: argparse.ArgumentParser) -> None:
    add = place.add_argument
    if name == "verify":
        add("--head", metavar="HASH", default="", help="what the last line must be, or its first letters")
    if name == "list":
        add("--standing", action="store_true", help="only acts that stand now")
        add("--all", action="store_true", help="also what was only observed or held back")
        add("--target", metavar="NODE", default="", help="only acts on this node")
        add("--json", action="store_true", help="the records as they are, a line each")
    if name == "show":
        add("--json", action="store_true", help="the records as they are, a line each")


def _verify(args: argparse.Namespace, path: Path) -> int:
    from ..acting.audit import verify

    found = verify(path, args.head)
    if found.ok:
        print(f"{path}: {found.count} records, one unbroken chain; the last is {found.head}")
        return 0
    print(f"{path}: {found.why}; the {found.count} records before it are sound")
    return 1


def _records(path: Path) -> list[Mapping[str, Any]]:
    from ..acting.audit import read

    return read(path)


def _list(args: argparse.Namespace, path: Path) -> int:
    records = _records(path)
    if args.standing:
        from ..policy.ledger import Ledger

        records = list(Ledger.of(records).standing.values())
    some = [one for one in records if (args.all or one["phase"] not in QUIET)
            and (not args.target or one.get("target") == args.target)]  # fmt: skip
    print("\n".join(json.dumps(one) if args.json else _row(one) for one in some) or "no acts")
    return 0


def _row(record: Mapping[str, Any]) -> str:
    from ..reports.wording import clean

    said = record.get("detail") or record.get("reason") or ""
    name = record.get("of") or record.get("act") or ""
    return clean(f"{_when(record)} {name:12} {record['phase']:11} {record.get('scheduler', ''):10} "
                 f"{record.get('verb', ''):10} {record.get('target', ''):12} {record['actor']:12} {said}")  # fmt: skip


def _when(record: Mapping[str, Any]) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(record["time_ns"] / 1e9))


def _show(args: argparse.Namespace, path: Path) -> int:
    found = [one for one in _records(path) if str(one.get("of") or one.get("act") or "").startswith(args.act)]
    names = {str(one.get("of") or one.get("act")) for one in found}
    if len(names) != 1:
        told = f"may be {', '.join(sorted(names))}" if names else f"is no act of {path}"
        raise UsageError(f"{args.act!r} {told}; `skewscope audit list` shows them")
    print("\n".join([json.dumps(one) for one in found] if args.json else _story(found)))
    return 0


def _story(records: list[Mapping[str, Any]]) -> Iterator[str]:
    for record in records:
        yield _row(record)
        for said in record.get("why") or ():
            yield _acting.line(said["guard"], said["text"])
        yield from _acting.changed(record)
