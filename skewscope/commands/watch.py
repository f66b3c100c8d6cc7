"""Watch a cluster: name what makes jobs slow, keep incidents, raise each alert once.

Reads metrics of skewscope's agents (also of dcgm-exporter and node_exporter) from a Prometheus-compatible server, or
asks the agents itself, without any server. Every 30 seconds all conditions are looked for; findings become incidents,
which are served as metrics and JSON and sent to Alertmanager, webhooks and chat. Ends at SIGTERM or Ctrl-C.

Examples:
  skewscope watch --scrape n1:9709,n2:9709 --store /var/lib/skewscope/store      no server needed
  skewscope watch --scrape @agents.txt --state /var/lib/skewscope                 targets from a file, re-read
  skewscope watch --prometheus http://prometheus:9090 --alertmanager http://alertmanager:9093
  skewscope watch --prometheus https://mimir/prometheus --header X-Scope-OrgID=gpu --bearer-token-file token
  skewscope watch --scrape n1:9709 --webhook https://hook/skewscope --slack-file /etc/skewscope/slack-url
  skewscope watch --scrape @agents.txt --state /var/lib/skewscope --act slurm --policy policy.toml   keep bad nodes away
  curl -s http://127.0.0.1:9710/api/v1/incidents?state=open,growing               what is wrong now
"""

from __future__ import annotations

import argparse
import gc
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from . import _access

if TYPE_CHECKING:
    from ..feeds.contract import Feed
    from ..watch.acting import ActOptions
    from ..watch.live import Live, Options

log = logging.getLogger("skewscope.watch")
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


class Watch:
    """`skewscope watch`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        parser.set_defaults(alternatives=(("prometheus",), ("scrape",)))
        add("--prometheus", metavar="URL", help="Prometheus, VictoriaMetrics, Thanos or Mimir")
        add("--scrape", metavar="HOST:PORT,...", type=_listed, default=(), help="ask these agents; @FILE names a list")
        add("--scrape-interval", metavar="S", type=float, default=15.0, help="between two pages (default 15)")
        add("--selector", metavar="MATCHERS", default="", help='only such series, as cluster="a"')
        add("--node-label", metavar="NAME", default="", help="label that names the host (default: found)")
        served(parser)
        acts(parser)
        _access.flags(parser, "the source")

    def run(self, args: argparse.Namespace) -> int:
        """Watch until told to end."""
        from ..watch.live import Live, open_files_for

        gc.enable()  # `main` turns it off for short work; this one stays
        open_files_for(max(len(args.scrape), 1024))
        return watched(Live(feed(args), options(args)))


def served(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of the service itself, which `up` shares."""
    add = parser.add_argument
    add("--listen", metavar="ADDR:PORT", default="127.0.0.1:9710", help="or unix:/PATH (default %(default)s)")
    add("--web-config", metavar="FILE", type=Path, help="TLS and passwords (YAML)")
    add("--web-allow-plain", action="store_true", help="serve the network without TLS")
    add("--state", metavar="DIR", type=Path, help="incidents and what was told outlive a restart there")
    add("--store", metavar="DIR", type=Path, help="keep windows there: history after a restart, and for `analyze`")
    add("--keep-hours", metavar="H", type=float, default=24.0, help="of the store (default 24)")
    add("--keep-bytes", metavar="SIZE", type=size, default=5 * 10**9, help="of the store, as 20G (default 5G)")
    add("--alertmanager", metavar="URL,...", type=_listed, default=(), help="send alerts to its API v2")
    add("--webhook", metavar="URL,...", type=_listed, default=(), help="post skewscope.notification/1 documents")
    add("--slack-file", metavar="FILE", type=Path, help="file with addresses of Slack-compatible webhooks, one a line")
    add("--external-url", metavar="URL", default="", help="where people reach this service, for links in alerts")
    add("--horizon", metavar="N", type=int, default=24, help="windows of 30 s that are looked at (default 24)")
    add("--clear-after", metavar="S", type=float, default=180.0, help="close what was not seen so long (default 180)")
    add("--only", metavar="CONDITION,...", type=_listed, default=(), help="look for these conditions only")


def acts(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of acting on schedulers."""
    add = parser.add_argument
    add("--act", metavar="NAME,...", type=_listed, default=(),
        help="act on these schedulers, as slurm; what may be done says the policy, by default nothing")  # fmt: skip
    add("--policy", metavar="FILE", type=Path, help="limits, modes and settings: `skewscope policy init` writes one")
    add("--audit", metavar="FILE", type=Path, help="the record of all acts (default: audit.jsonl in --state)")
    add("--decisions", metavar="FILE", type=Path, help="what people answered: the --audit of `skewscope dashboard`")
    add("--lease", metavar="NAME", default="", help="of watchers on several hosts one acts: kubernetes keeps the lease")


def act_options(args: argparse.Namespace) -> ActOptions | None:
    """Return what is acted on, None for nothing; raises UsageError for flags that say nothing without --act."""
    from ..watch.acting import ActOptions

    if not args.act:
        for flag in ("policy", "audit", "decisions", "lease"):
            if getattr(args, flag, None):
                raise UsageError(f"--{flag}: wants --act NAME too, the scheduler that is acted on")
        return None
    audit = args.audit or (args.state / "audit.jsonl" if args.state else None)
    if audit is None:
        raise UsageError(
            "--act: wants --audit FILE, or --state DIR for an audit.jsonl in it: every act is written down"
        )
    if not args.audit:
        args.state.mkdir(parents=True, exist_ok=True, mode=0o750)
    return ActOptions(args.act, audit, args.policy, args.decisions, args.lease)


def feed(args: argparse.Namespace) -> Feed:
    """Return the source of metrics; raises UsageError unless one is named."""
    access = _access.given(args)
    if bool(args.prometheus) == bool(args.scrape):
        raise UsageError("give one source: --prometheus URL, or --scrape HOST:PORT,... for agents without a server")
    if args.prometheus:
        from ..feeds.prometheus import Prometheus

        return Prometheus(args.prometheus, selector=args.selector, access=access, node_label=args.node_label)
    from ..feeds.scrape import Scrape

    if not 1.0 <= args.scrape_interval <= 30.0:
        raise UsageError(f"--scrape-interval {args.scrape_interval:g}: wants 1 to 30 s, since windows are 30 s long")
    for name in args.scrape:
        if name.startswith("@") and not Path(name[1:]).is_file():
            raise UsageError(f"--scrape {name}: there is no such file")
    return Scrape(args.scrape, access=access, interval_s=args.scrape_interval)


def options(args: argparse.Namespace) -> Options:
    """Return how the service is to be; raises UsageError for what cannot be."""
    from ..catalogue import room
    from ..watch.incidents import Patience
    from ..watch.live import Options

    for name in args.only:
        room("detectors", name)  # raises with near names
    if args.horizon < 12:
        raise UsageError(
            f"--horizon {args.horizon}: wants 12 windows or more; conditions need some past to compare with"
        )
    return Options(
        listen=args.listen, web_config=args.web_config, allow_plain=args.web_allow_plain, folder=args.state,
        store=args.store, keep_s=args.keep_hours * 3600, keep_bytes=args.keep_bytes, alertmanagers=args.alertmanager,
        webhooks=args.webhook, chats=_lines(args.slack_file), link=args.external_url.rstrip("/"), length=args.horizon,
        patience=Patience(clear_s=args.clear_after), only=args.only,
        act=act_options(args) if "act" in args else None,
    )  # fmt: skip


def watched(live: Live) -> int:
    """Run a live service until SIGTERM or SIGINT and return the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: live.stop())
    live.start()
    log.info("watching; %s/api/v1/report, /api/v1/incidents, /metrics", live.address)
    live.run()
    return 0


def size(text: str) -> int:
    """Return bytes from a text such as 500M.

    >>> size("2G"), size("1000")
    (2000000000, 1000)
    """
    number, unit = text[:-1], text[-1:].lower()
    if unit.isdigit():
        number, unit = text, ""
    if unit not in UNITS or not number.replace(".", "", 1).isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no size, as 500M or 20G")
    return int(float(number) * UNITS[unit])


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _lines(path: Path | None) -> list[str]:
    """Return the addresses in a file: they are as secret as passwords, so no flag takes them."""
    if path is None:
        return []
    try:
        told = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--slack-file {path}: cannot be read: {error}") from None
    return [line for line in told if line and not line.startswith("#")]
