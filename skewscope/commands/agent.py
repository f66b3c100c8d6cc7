"""Export what one node's GPUs, NICs, links, host and collectives are doing, for Prometheus.

Runs in the foreground until SIGTERM; SIGHUP reads the settings again. It needs no privileges; what is missing without
one is said by --list. Samples come on the agent's own clock, and a scrape only hands out the page of the last tick.

Examples:
  skewscope agent                                  serve http://127.0.0.1:9709/metrics
  skewscope agent --list                           what can be read here, and why not the rest
  skewscope agent --once                           print one exposition and end
  skewscope agent --collectors nvml-device,rdma    only these
  skewscope agent --collectors=-nfs --every rdma=5 all but NFS; InfiniBand counters every 5 s
  skewscope agent --listen :9709 --web-config web.yml   to the network, with TLS and passwords
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from .. import memory
from ..errors import UsageError

ONCE_WITHIN_S = 8.0
log = logging.getLogger("skewscope.agent")


class Agent:
    """`skewscope agent`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("--listen", metavar="ADDR:PORT", default="127.0.0.1:9709", help="or unix:/PATH (default %(default)s)")
        add("--interval", metavar="S", type=_seconds, default=1.0, help="seconds between fast samples (default 1)")
        add("--slow-interval", metavar="S", type=_seconds, default=15.0, help="between slow samples (default 15)")
        add("--every", metavar="NAME=S,...", type=_every, default={}, help="interval of single collectors")
        add("--collectors", metavar="NAME,...", type=_names, default=(), help="only these; -NAME takes one away")
        add("--deadline", metavar="S", type=_seconds, default=5.0, help="give a collector up after so long (default 5)")
        add("--spool", metavar="DIR", type=Path, default=Path("/run/skewscope/spool"), help="where ranks write rings")
        add("--archive", metavar="DIR", type=Path, help="keep full collective records there (default: SPOOL/archive)")
        add("--option", metavar="KEY=VALUE,...", type=_pairs, default={}, help="collectors' own, as ras.address=...")
        add("--web-config", "--web.config.file", metavar="FILE", type=Path, help="TLS and passwords (YAML)")
        add("--web-allow-plain", "--web.allow-plain", action="store_true", help="serve the network without TLS")
        add("--path-proc", metavar="DIR", type=Path, default=Path("/proc"), help="root of procfs")
        add("--path-sys", metavar="DIR", type=Path, default=Path("/sys"), help="root of sysfs")
        add("--path-dev", metavar="DIR", type=Path, default=Path("/dev"), help="root of the device files")
        add("--most-series", metavar="N", type=int, default=5000, help="cap of series a collector (default 5000)")
        add("--once", action="store_true", help="print one exposition and end")
        add("--list", action="store_true", help="say which collectors can run here, and why the others cannot")
        add("--json", action="store_true", help="--list as JSON")

    def run(self, args: argparse.Namespace) -> int:
        """Run the agent, or one look with it."""
        from ..catalogue import load

        gc.enable()  # `main` turns it off for short work; this one stays
        told = settings(args)
        if args.once or args.list:  # a look leaves no trace: the archive is the daemon's
            return _look(load("agents.node").Node(dataclasses.replace(told, archive=None)), args)
        node = load("agents.node").Node(told, lambda: settings(_again(args)))
        started_s = time.monotonic()
        node.obey_signals()
        node.serve()
        host, port = node.address
        log.info("serving %s:%s after %.0f ms", host, port, (time.monotonic() - started_s) * 1e3)
        memory.settle()
        node.run()
        return 0


def settings(args: argparse.Namespace) -> Any:  # noqa: ANN401 - the agent's class stands in a wing
    """Return the agent's settings; raises UsageError for an interval below 0.2 s or of no collector."""
    from ..catalogue import load, room

    for name in args.every:
        room("agents.collectors", name)  # raises for one that does not exist
    made = load("agents.settings")
    least_s = made.LEAST_INTERVAL_S
    if min((args.interval, args.slow_interval, *args.every.values())) < least_s:
        raise UsageError(f"an interval below {least_s} s disturbs the job that is measured; give {least_s} or more")
    return made.Settings(
        listen=args.listen, interval_s=args.interval, slow_interval_s=args.slow_interval, every=args.every,
        collectors=args.collectors, deadline_s=args.deadline, spool=args.spool,
        archive=args.archive or args.spool / "archive", proc=args.path_proc, sys=args.path_sys, dev=args.path_dev,
        options=args.option, web_config=args.web_config, allow_plain=args.web_allow_plain,
        most_series=args.most_series,
    )  # fmt: skip


def _again(args: argparse.Namespace) -> argparse.Namespace:
    """Return the arguments as a start with the same words would give them now."""
    from . import _parsed

    try:
        return _parsed(list(args.words))[0]
    except SystemExit:
        raise UsageError("the settings file does not fit the flags") from None


def _look(node: Any, args: argparse.Namespace) -> int:  # noqa: ANN401 - the agent's class stands in a wing
    try:
        node.tick(render_within_s=ONCE_WITHIN_S)
        sys.stdout.write(_listed(node, args.json) if args.list else node.pages.text().decode())
    finally:
        node.close()
    return 0


def _listed(node: Any, as_json: bool) -> str:  # noqa: ANN401 - the agent's class stands in a wing
    rows = [
        {
            "collector": one.id, "process": one.process, "group": one.group, "interval_s": one.interval_s,
            "state": last.state if last else "no answer", "series": last.series if last else 0,
            "seconds": round(last.seconds, 6) if last else None, "reason": last.reason if last else "",
        }
        for one, last in node.outcomes()
    ]  # fmt: skip
    if as_json:
        return json.dumps(rows, indent=2) + "\n"
    lines = [f"{'collector':18} {'state':10} {'series':>6} {'ms':>7} {'every':>6}  why not"]
    for row in rows:
        took = "" if row["seconds"] is None else f"{row['seconds'] * 1e3:.1f}"
        shown = f"{row['interval_s']:g}s"
        lines.append(
            f"{row['collector']:18} {row['state']:10} {row['series']:6} {took:>7} {shown:>6}  {row['reason']}".rstrip()
        )
    return "\n".join(lines) + "\n"


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 86_400:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds between 0 and a day")
    return seconds


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _pairs(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    key = ""
    for part in _names(text):
        name, equals, value = part.partition("=")
        if equals and not set(name) & set("/:?"):
            key, found[name] = name, value
        elif key:  # one more of a list, as in serving.urls=URL,URL
            found[key] += f",{part}"
        else:
            raise argparse.ArgumentTypeError(f"{part!r} is not KEY=VALUE")
    return found


def _every(text: str) -> dict[str, float]:
    return {name: _seconds(value) for name, value in _pairs(text).items()}
