"""Try the live product: an agent, the watching service and its pages, on this machine, in a minute.

Starts the node agent (or, with --simulate, a simulated fleet in which a fault began a few minutes ago) and the service
that watches it without any server, and the web pages on top, all on loopback, and prints where to look. Ctrl-C ends
everything. --with-prometheus runs a Prometheus and an Alertmanager beside, where installed, with skewscope's rules, on
loopback alone. With --web-config it asks by TLS, trusts the certificate that is served, and gives the password out of
--password-file.

Examples:
  skewscope up --simulate gpu-hw-slowdown      a GPU of 64 runs hot; see who is named
  skewscope up                                 this machine
  skewscope up --simulate nic-link-down --with-prometheus
  skewscope up --with-prometheus --web-config web.yml --password-file password
  curl -s http://127.0.0.1:9710/api/v1/report | python3 -m json.tool
"""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from . import _access
from .watch import options, served

if TYPE_CHECKING:
    from ..feeds.contract import Feed
    from ..watch.live import Live

log = logging.getLogger("skewscope.watch")
AGENT, PAGES = "127.0.0.1:9709", "127.0.0.1:8790"


class Up:
    """`skewscope up`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("--simulate", metavar="SCENARIO", help="a simulated fleet (`skewscope simulate --list`), not this machine")
        add("--seed", type=int, default=0, metavar="N", help="of the simulation (0)")
        add("--ranks", type=int, default=0, metavar="N", help="ranks of the scenario's first job")
        add("--agent", metavar="ADDR:PORT", default=AGENT, help="where the agent listens (default %(default)s)")
        # The first name counts for settings: SKEWSCOPE_PROMETHEUS is the address of a server, for other commands.
        add("--with-prometheus", "--prometheus", action="store_true",
            help="start Prometheus and Alertmanager too, where installed")  # fmt: skip
        add("--dashboard", metavar="ADDR:PORT", default=PAGES, help='of the web pages, or "none" (default %(default)s)')
        served(parser)
        _access.identity(parser, "--with-prometheus", ("password-file", "cert-file", "key-file"))

    def run(self, args: argparse.Namespace) -> int:
        """Start all, say where, wait for the end."""
        from ..watch.live import Live

        gc.enable()  # `main` turns it off for short work; this one stays
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skewscope-up-")))
            reading = _reading(args, folder)
            feed, targets = (_simulated if args.simulate else _real)(args, folder, stack)
            args.store = args.store or folder / "store"  # the pages draw from it
            live = Live(feed, options(args))
            live.start()
            stack.callback(live.close)
            if args.with_prometheus:
                from ..watch.beside import prometheus_and_alertmanager

                for line in prometheus_and_alertmanager(folder, targets, live.address, stack, reading):
                    _say(line)
            _say(f"report     {live.address}/api/v1/report")
            _say(f"incidents  {live.address}/api/v1/incidents")
            _say(f"metrics    {live.address}/metrics")
            _say(f"dashboard  {_pages(args, folder, live, stack)}")
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: live.stop())
            _say("Ctrl-C ends everything")
            live.run()
        return 0


def _reading(args: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Return how Prometheus is to read the service; raises UsageError where it could not."""
    from ..web.access import Access
    from ..web.scraped import scraped

    if not args.with_prometheus:
        return {}
    if args.listen.startswith("unix:"):
        raise UsageError(f"--with-prometheus: Prometheus reads no {args.listen}; give --listen HOST:PORT")
    if not args.web_config:
        return {}
    own = Access(args.user, args.password_file, certificate_file=args.cert_file, key_file=args.key_file)
    return scraped(args.web_config, own, folder)


def _pages(args: argparse.Namespace, folder: Path, live: Live, stack: ExitStack) -> str:
    """Start the web pages beside the service; return their address, or why there are none: the rest works without."""
    if args.dashboard == "none":
        return "none, as asked"
    from ..catalogue import load
    from ..web.web_config import WebConfig
    from . import dashboard

    people = WebConfig(args.web_config).users if args.web_config else ()
    shown = argparse.Namespace(
        listen=args.dashboard, web_config=args.web_config, web_allow_plain=args.web_allow_plain, auth_header="",
        trusted_proxy=(), external_url="", operators=tuple(people) or ("local",), audit=folder / "decisions.jsonl",
    )  # fmt: skip
    try:
        source = load("dashboards._live_sources").live(
            watch=live.address, store=args.store, prometheus="", selector="", hours=1.0, every_s=10.0,
            pages=live.api.pages,
        )  # fmt: skip
        pages = dashboard.serving(source, shown)
        pages.start()
    except (UsageError, ModuleNotFoundError) as error:
        return f"none: {error}"
    stack.callback(pages.stop)
    threading.Thread(target=pages.run, name="dashboard", daemon=True).start()
    return f"{pages.address}/"


def _end(*_: object) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _simulated(args: argparse.Namespace, folder: Path, stack: ExitStack) -> tuple[Feed, tuple[str, ...]]:
    from ..feeds.scrape import Scrape
    from ..watch.rehearsal import Rehearsal, WithPast
    from ..web.shown import without_login

    _say(f"simulating {without_login(args.simulate)} ...")
    rehearsal = Rehearsal(args.simulate, args.seed, args.ranks)
    rehearsal.start()
    stack.callback(rehearsal.stop)
    for fault in rehearsal.simulation.truth["faults"]:
        _say(f"truth      {fault['condition']} on {fault['subject']}")
    return WithPast(Scrape(rehearsal.targets), rehearsal.past), rehearsal.targets


def _real(args: argparse.Namespace, folder: Path, stack: ExitStack) -> tuple[Feed, tuple[str, ...]]:
    from ..feeds.scrape import Scrape
    from ..watch.beside import agent
    from ..web.server import reachable

    if not args.web_allow_plain and reachable(args.agent):
        raise UsageError(
            f"--agent {args.agent}: other machines can reach it, and `up` starts the agent without TLS; give "
            "--web-allow-plain if the network is trusted, or start `skewscope agent --web-config` and `skewscope watch`"
        )
    place = agent(args.agent, folder, stack, allow_plain=args.web_allow_plain)
    _say(f"agent      http://{place}/metrics")
    return Scrape((place,)), (place,)
