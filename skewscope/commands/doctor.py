"""Say what skewscope can use here, from packages and counters to servers, and what to do about the rest.

Looks at this machine, and at the servers and files that are named. What is absent and not asked for is no trouble; the
exit code is 1 where something that was asked for, or that everything needs, does not work.

Examples:
  skewscope doctor                                        this machine
  skewscope doctor --prometheus http://prometheus:9090    does it answer, as who we are?
  skewscope doctor --agent n1:9709,n2:9709 --watch http://127.0.0.1:9710
  skewscope doctor --settings skewscope.toml              are all keys known, and do their values fit?
  skewscope doctor --json                                 for scripts (skewscope.doctor/1)
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _access

if TYPE_CHECKING:
    from ..doctor import Answer

SCHEMA = "skewscope.doctor/1"
MARKS = {"ok": "[ok]", "absent": "[--]", "trouble": "[!!]"}


class Doctor:
    """`skewscope doctor`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("--prometheus", metavar="URL", default="", help="a Prometheus-compatible server")
        add("--alertmanager", metavar="URL", default="", help="an Alertmanager")
        add("--watch", metavar="URL", default="", help="a `skewscope watch` service")
        add("--agent", metavar="HOST:PORT,...", type=_listed, default=(), help="agents")
        add("--settings", metavar="FILE", type=Path, help="a settings file (TOML): every key of every command in it")
        add("--spool", metavar="DIR", type=Path, default=Path("/run/skewscope/spool"), help="where ranks write rings")
        add("--store", metavar="DIR", type=Path, help="where `watch --store` would write")
        _access.flags(parser, "the servers")
        add("--json", action="store_true", help="print JSON (skewscope.doctor/1)")

    def run(self, args: argparse.Namespace) -> int:
        """Look at everything, print it, and return 1 where there is trouble."""
        answers = list(examined(args))
        sys.stdout.write(_as_json(answers) if args.json else _page(answers))
        return int(any(one.state == "trouble" for one in answers))


def examined(args: argparse.Namespace) -> Iterator[Answer]:
    """Yield the answers of all examinations that the flags ask for."""
    from ..doctor.collectors import collectors
    from ..doctor.folders import folders
    from ..doctor.packages import packages
    from ..doctor.programs import programs
    from ..doctor.services import services
    from ..doctor.settings_file import settings_file

    yield from packages()
    yield from collectors(args.spool)
    others = {"working folder": Path.cwd(), **({"store": args.store} if args.store else {})}
    yield from folders(args.spool, others)
    yield from programs()
    if args.settings:
        yield from settings_file(args.settings, _keys())
    named = {kind: url for kind in ("prometheus", "alertmanager", "watch") if (url := getattr(args, kind))}
    named |= {f"agent {one}": one if "://" in one else f"http://{one}" for one in args.agent}
    yield from services(named, _access.given(args))


def _keys() -> Any:  # noqa: ANN401 - a function of a private module
    from . import _parser, _settings

    parser = _parser.build()
    return lambda path: _settings.complaints(str(path), parser, _parser.commands(parser))


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _as_json(answers: list[Answer]) -> str:
    rows = [{name: getattr(one, name) for name in ("area", "name", "state", "found", "mend")} for one in answers]
    troubles = sum(one.state == "trouble" for one in answers)
    return json.dumps({"schema": SCHEMA, "troubles": troubles, "answers": rows}, indent=2) + "\n"


def _page(answers: list[Answer]) -> str:
    from ..reports.wording import clean

    width = max(len(one.name) for one in answers)
    lines: list[str] = []
    for area in dict.fromkeys(one.area for one in answers):
        lines += ["", area]
        for one in (one for one in answers if one.area == area):
            lines.append(f"  {MARKS[one.state]} {one.name:{width}}  {clean(one.found)}")
            if one.mend and one.state != "ok":
                lines.append(f"       {'':{width}}  -> {clean(one.mend)}")
    troubles = sum(one.state == "trouble" for one in answers)
    absent = sum(one.state == "absent" for one in answers)
    said = "Nothing is in trouble" if not troubles else f"{troubles} in trouble"
    return "\n".join([*lines[1:], "", f"{said}; {absent} absent, which matters only where it is wanted."]) + "\n"
