"""Let a scheduler keep the culprits of a report away from the job; without --apply it only says what it would do.

Every safe-guard of the policy is asked, what would be sent and changed is shown, and the scheduler checks it where it
can. With --apply it is done, written down before and after, and `skewscope undo` takes it back. Without --policy, what
is asked for is done at your word: drain the node, within the default budgets; with one, its ladder and modes hold.

Examples:
  skewscope act --scheduler slurm report.json                     what would be done, sent and changed
  skewscope act --scheduler slurm report.json --apply             do it
  skewscope act --scheduler kubernetes report.json --verb note    only leave a note at the node
  skewscope act --scheduler slurm report.json --finding f1 --apply
  skewscope act --scheduler slurm report.json --policy policy.toml --audit acts.jsonl --apply
  skewscope act --scheduler webhook report.json --json - | jq .decisions
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..acts import LADDER
from ..errors import UsageError
from . import _acting, _files

if TYPE_CHECKING:
    from ..acting.engine import Engine
    from ..policy.cases import Case, Decision

REPORT = "skewscope.report/1"
MAX_AGE_S = 3600.0
SAID = {"hold": "held back", "leave": "left alone", "observe": "only observed: the policy's mode is observe"}
DID = {"done": "done", "failed": "failed", "refused": "refused", "waiting": "waits for the scheduler",
       "proposed": "waits for approval", "intended": "sent, but what came of it is not known"}  # fmt: skip


class Act:
    """`skewscope act`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("report", metavar="REPORT.json", type=Path, help="of `skewscope analyze --json`, or of /api/v1/report")
        add("--scheduler", metavar="NAME,...", type=_names, required=True, help="slurm, kubernetes, webhook, file, ...")
        add("--apply", action="store_true", help="do it; else nothing is changed")
        add("--verb", choices=LADDER, help="begin there (default: drain, with --policy its ladder)")
        add("--finding", metavar="ID,...", type=_names, default=(),
            help="only these, as f1: named by you, they need no further evidence")  # fmt: skip
        add("--job", metavar="ID", default="", help="the scheduler's id of the job (default: as the report names it)")
        add("--max-age", metavar="S", type=float, default=MAX_AGE_S, help="of the report's file (default %(default)g)")
        add("--json", metavar="FILE", help="write skewscope.acts/1 with the decisions; '-' is standard output")
        _acting.flags(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Decide, print, and with --apply do it; exit code 1 where an act failed."""
        from ..acting import once, rooms
        from ..policy.cases import Around

        if args.json and args.json != "-":
            _files.check_file(Path(args.json), "--json")
        logging.getLogger("skewscope.acting").setLevel(logging.WARNING)  # the page says it all
        cases = _cases(args.report, args.job, args.finding)
        own = args.policy is not None
        policy = once.asked(_acting.policy_of(args.policy), args.scheduler, args.verb or ("" if own else "drain"),
                            args.max_age, own=own, named=bool(args.finding))  # fmt: skip
        actuators = rooms.actuators(policy, args.scheduler)
        around = Around(time.time_ns())
        if args.apply:
            engine = once.act(policy, actuators, _acting.audit_file(args.audit), cases, around, _acting.person())
        else:
            engine = once.look(policy, actuators, args.audit or _acting.default_audit(), cases, around)
        self._told(args, engine, around.now_ns)
        return 1 if args.apply and any(_failed(engine, one) for one in _decisions(engine)) else 0

    def _told(self, args: argparse.Namespace, engine: Engine, now_ns: int) -> None:
        from ..acting.account import account

        document = {**account(engine, now_ns).document, "decisions": [_document(one) for one in _decisions(engine)]}
        text = json.dumps(document, indent=2) + "\n"
        if args.json == "-":
            sys.stdout.write(text)
            return
        if args.json:
            _files.write_text(Path(args.json), text)
        print("\n".join(page(engine, apply=args.apply)))


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise argparse.ArgumentTypeError("wants names, separated by commas")
    return names


def _cases(path: Path, job: str, findings: Sequence[str]) -> list[Case]:
    from ..acting.cases import of_report

    try:
        report = json.loads(path.read_bytes())
        if report["schema"] != REPORT:
            raise UsageError(f"{path} is {report['schema']!r}; wants {REPORT}, of `skewscope analyze --json`")
        known = {one["id"] for one in report["findings"] if one["role"] == "culprit"}
        if missing := [name for name in findings if name not in known]:
            there = ", ".join(sorted(known)) or "none"
            raise UsageError(f"--finding {missing[0]}: the culprits of {path} are {there}")
        return of_report(report, path.stat().st_mtime_ns, job=job, findings=findings)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: is no {REPORT}: {type(error).__name__}: {error}") from None


def _decisions(engine: Engine) -> list[Decision]:
    return [one for decisions in engine.decisions.values() for one in decisions]


def _record(engine: Engine, one: Decision) -> Mapping[str, Any]:
    """Return the last record of a decision's incident."""
    for record in reversed(engine.book.audit.records()):
        same = record.get("incident") == one.case.incident and record.get("scheduler") == one.scheduler
        if same and record["phase"] != "approved":
            return record
    return {}


def _failed(engine: Engine, one: Decision) -> bool:
    return _record(engine, one).get("phase") in ("failed", "refused", "intended")


def page(engine: Engine, *, apply: bool) -> Iterator[str]:
    """Yield the lines that people read: each culprit, what is done about it and why."""
    decisions = _decisions(engine)
    if not decisions:
        yield "The report names no culprit: there is nothing to do."
    for one in decisions:
        yield from _block(one, _record(engine, one), apply=apply)
    if decisions and not apply:
        yield "Nothing was changed; --apply does it."


def _block(one: Decision, record: Mapping[str, Any], *, apply: bool) -> Iterator[str]:
    verb, target = (one.request.verb, one.request.target) if one.request else ("", "")
    verb, target = record.get("verb", verb), record.get("target", target) or one.case.subject
    yield _acting.line(
        "", f"{one.scheduler}: {f'{verb} ' if verb else ''}{target}: {_came(one, record, apply)}"
    ).strip()
    yield _acting.line("because", one.case.summary)
    if record.get("phase") in DID or one.verdict in ("act", "ask", "observe"):
        yield from _acting.changed(record)
        told = record.get("predicted") or {}
        gain, cost = (told.get(f"{name}_gpu_hours", getattr(one, f"{name}_gpu_hours")) for name in ("gain", "cost"))
        yield _acting.line("gain", f"{gain:.1f} GPU-hours, for a cost of {cost:.1f}")
    for said in one.why if one.verdict in ("hold", "leave") and record.get("phase") != "done" else ():
        yield _acting.line(said.guard, said.text)
    if record.get("detail"):
        yield _acting.line("says", record["detail"])
    if record.get("phase") in ("done", "waiting") and apply:
        yield _acting.line("undo", f"skewscope undo {record['act']}")
    yield ""


def _came(one: Decision, record: Mapping[str, Any], apply: bool) -> str:
    phase = record.get("phase")
    if apply and phase in DID:
        return DID[phase]
    if record.get("result") == "refused":
        return "refused"
    return SAID.get(one.verdict, "would be done")


def _document(one: Decision) -> dict[str, Any]:
    from ..acting.entry import of_decision

    return {"verdict": one.verdict, "subject": one.case.subject, "summary": one.case.summary, **of_decision(one)}
