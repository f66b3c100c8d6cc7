"""Show a report, recordings or a live fleet in the browser: who is slow, since when, why, and what to do.

Reads one source and serves pages until Ctrl-C. What is selected, and what of a map is zoomed to, stands in the address,
so a link shows the same. Live sources are asked again and again; recordings are analysed once, at the start; large
tables of a report stay in their files, of which pages read what they show.

Proposals of a `skewscope watch --act` are answered on the Actions page: give the service the same file as --decisions
that is --audit here.

Who is signed in is kept in memory alone: nothing on the disk can be stolen or forged, signing out and taking a name out
of --web-config hold at once, and a restart asks everybody for the password again.

Examples:
  skewscope dashboard --report runs/7           what `skewscope analyze --out runs/7` wrote
  skewscope dashboard traces/ logs/             recordings, analysed first
  skewscope dashboard --watch http://127.0.0.1:9710
  skewscope dashboard --store /var/lib/skewscope/store --hours 2
  skewscope dashboard --prometheus http://prometheus:9090 --watch http://watch:9710
  skewscope dashboard --watch https://watch:9710 --ca-file ca.pem --user ann --password-file watch-password
  skewscope dashboard --acts audit.jsonl        what `skewscope watch --act` or `act` did, from its audit file
  skewscope dashboard --report runs/7 --listen :8790 --web-config web.yml --operators ann --audit decisions.jsonl
"""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import memory
from ..errors import UsageError
from . import _access, _work

log = logging.getLogger("skewscope.dashboard")


def _nobody(address: str) -> None:
    """Tell nobody."""


class Dashboard:
    """`skewscope dashboard`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        parser.set_defaults(alternatives=(("paths",), ("report",), ("store", "watch"), ("prometheus", "watch")))
        add("paths", nargs="*", metavar="PATH", help="recordings: files or folders")
        add("--report", metavar="FILE", type=Path, help="report.json or the folder that `analyze --out` wrote")
        add("--store", metavar="DIR", type=Path, help="the store of a `skewscope watch`")
        add("--watch", metavar="URL", default="", help="a `skewscope watch` service: its report and incidents")
        add("--prometheus", metavar="URL", default="", help="windows from a Prometheus-compatible server")
        add("--acts", metavar="FILE", type=Path, help="acts from an engine's audit file; joins any other source")
        add("--selector", metavar="MATCHERS", default="", help='only such series, as cluster="a"')
        add("--hours", metavar="H", type=float, default=1.0, help="how far live sources look back (default 1)")
        add("--every", metavar="S", type=float, default=15.0, help="between two looks at a live source (default 15)")
        add("--workers", type=_work.whole_number, metavar="N", help="processes that read files (default: all cores)")
        add("--listen", metavar="ADDR:PORT", default="127.0.0.1:8790", help="default %(default)s")
        add("--web-config", metavar="FILE", type=Path, help="TLS and passwords (YAML)")
        add("--web-allow-plain", action="store_true", help="serve the network without TLS or passwords")
        add("--auth-header", metavar="NAME", default="", help="who asks, told by a proxy, as X-Remote-User")
        add("--trusted-proxy", metavar="CIDR,...", type=_listed, default=(), help="only these may tell it")
        add("--external-url", metavar="URL", default="", help="where people reach the pages, behind a proxy")
        add("--operators", metavar="NAME,...", type=_listed, default=(), help='who may act; "local" without login')
        add("--audit", metavar="FILE", type=Path, help="decisions are appended there, one JSON line each")
        _access.flags(parser, "the source")

    def run(self, args: argparse.Namespace) -> int:
        """Serve until told to end."""
        return serve(serving(source(args), args))


def serve(served: Any, told: Callable[[str], None] = _nobody) -> int:  # noqa: ANN401 - a class of a wing
    """Serve until told to end; the address is printed, then given to `told`."""
    gc.enable()  # `main` turns it off for short work; this one stays
    signal.signal(signal.SIGTERM, _end)
    served.start()
    try:
        sys.stdout.write(f"dashboard  {served.address}/\n")
        sys.stdout.flush()
        told(f"{served.address}/")
        memory.settle()
        served.run()
    except KeyboardInterrupt:
        log.info("ending")
    finally:
        served.stop()
    return 0


def on_loopback(source: Any, port: int) -> Any:  # noqa: ANN401 - classes of a wing
    """Return the dashboard of a source for this machine alone, not started; raises UsageError."""
    options = argparse.Namespace(
        listen=f"127.0.0.1:{port}", web_config=None, web_allow_plain=False, auth_header="", trusted_proxy=(),
        external_url="", operators=(), audit=None,
    )  # fmt: skip
    return serving(source, options)


def _end(*_: object) -> None:
    raise KeyboardInterrupt


def serving(source: Any, args: argparse.Namespace) -> Any:  # noqa: ANN401 - classes of a wing
    """Return the dashboard's server, not started; raises UsageError for flags that do not go together."""
    from ..catalogue import load

    if not (args.auth_header or args.web_config) and set(args.operators) - {"local"}:
        raise UsageError('--operators names people, but nobody signs in; give --web-config, or name "local"')
    if bool(args.operators) != bool(args.audit):
        raise UsageError("--operators and --audit go together: who may act, and where it is written down")
    return load("dashboards._serving").Serving(source, args)


def source(args: argparse.Namespace) -> Any:  # noqa: ANN401 - classes of a wing
    """Return the source of views; raises UsageError where two are given that cannot be one."""
    from ..catalogue import load

    made = _source(args)
    if not args.acts:
        return made
    if args.audit and args.audit.resolve() == args.acts.resolve():
        raise UsageError("--acts and --audit name one file; what people answer is kept apart from what an engine did")
    acts = load("dashboards._act_file")
    return acts.WithActs(made, acts.ActFile(args.acts))


def _source(args: argparse.Namespace) -> Any:  # noqa: ANN401 - classes of a wing
    from ..catalogue import load

    given = [bool(args.paths), bool(args.report), bool(args.store), bool(args.prometheus)]
    if sum(given) > 1 or (args.watch and (args.paths or args.report)):
        raise UsageError("give one source: PATH..., --report, --store, --prometheus; --watch may join the last two")
    made = load("dashboards._sources")
    if args.report:
        return made.Fixed(made.from_report(args.report))
    if args.paths:
        from .analyze import analysed

        analysis = analysed(_work.read(args.paths, args.workers))
        return made.Fixed(made.from_analysis(analysis, ", ".join(args.paths)))
    if not (args.watch or args.store or args.prometheus):
        return made.Fixed(made.View())
    return load("dashboards._live_sources").live(
        watch=args.watch, store=args.store, prometheus=args.prometheus, selector=args.selector, hours=args.hours,
        every_s=args.every, access=_access.checked(args),
    )  # fmt: skip


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
