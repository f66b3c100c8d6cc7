"""Watch a job live on the terminal: ranks, what slows them, what it costs and since when; worst first.

Asks a `skewscope watch` (--watch), node agents directly (--scrape), or reads the spool of the hook on this node
(--spool); the first two go together: findings and ranks from the service, GPUs and the present from the agents. What
does not answer is said, and what was heard last stays. Over a pipe it prints page after page.

Keys: q quits, left and right choose the column to sort by, r reverses, / filters, up and down scroll, space pauses.

Examples:
  skewscope top                                           the service on this machine
  skewscope top --watch http://watch:9710 --scrape @agents.txt --interval 5
  skewscope top --scrape n1:9709,n2:9709                  GPUs and ranks by node, no service needed
  skewscope top --spool /run/skewscope/spool              the ranks of this node, from the hook's rings
  skewscope top --once --json | jq '.rows[] | select(.state != "ok")'
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SkewscopeError, UsageError
from . import _access, _work

if TYPE_CHECKING:
    from ..top.draw import Look
    from ..top.loop import Asking, Source

SERVICE = "http://127.0.0.1:9710"
SHORTEST_S, LONGEST_S = 0.5, 3600.0
TICK_S = 0.2


class Top:
    """`skewscope top`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("--watch", metavar="URL", default="", help=f"a `skewscope watch` (default {SERVICE})")
        add("--scrape", metavar="HOST:PORT,...", type=_listed, default=(), help="ask these agents; @FILE names a list")
        add("--spool", metavar="DIR", type=Path, help="recordings that grow: the hook's spool, or any folder")
        add("--interval", metavar="S", type=float, default=5.0, help="between two looks (default 5)")
        add("--once", action="store_true", help="print one page and end; exit code 1 where nothing answers")
        add("--json", action="store_true", help="print skewscope.top/1 documents, one a line")
        add("--sort", metavar="COLUMN", default="", help="rank, node, gpu, util, power, temp, step, work, wait, ...")
        add("--filter", metavar="TEXT", default="", help="only rows that hold this in a name")
        _access.flags(parser, "the source")
        parser.set_defaults(alternatives=(("watch", "scrape"), ("spool",)))

    def run(self, args: argparse.Namespace) -> int:
        """Show until told to end."""
        from ..top.draw import Look
        from ..top.frame import COLUMNS
        from ..top.loop import Asking

        if not SHORTEST_S <= args.interval <= LONGEST_S:
            raise UsageError(f"--interval {args.interval:g}: wants {SHORTEST_S} to {LONGEST_S:g} s")
        if args.sort and args.sort not in COLUMNS:
            raise UsageError(f"--sort {args.sort!r}: there is {', '.join(COLUMNS)}")
        asking, look = Asking(sources(args)), Look(args.sort, filter=args.filter)
        if args.once:
            return _once(asking, look, args)
        gc.enable()  # `main` turns it off for short work; this one stays
        signal.signal(signal.SIGTERM, _end)
        asking.keep_on(args.interval)
        try:
            if args.json or not sys.stdout.isatty():
                return _pages(asking, look, args)
            return _screen(asking, look)
        except KeyboardInterrupt:
            return 0
        finally:
            asking.end()


def sources(args: argparse.Namespace) -> list[Source]:
    """Return what is asked; raises UsageError for sources that do not go together."""
    from ..top.agents import Agents
    from ..top.recorded import Recorded
    from ..top.watched import Watched

    access = _access.checked(args)
    if args.spool is not None:
        if args.watch or args.scrape:
            raise UsageError("--spool stands alone; --watch and --scrape go together")
        return [Recorded(args.spool, _analysed)]
    made: list[Any] = []
    if args.watch or not args.scrape:
        made.append(Watched(args.watch or SERVICE, access))
    if args.scrape:
        made.append(Agents(args.scrape, access))
    return made


def _analysed(folder: Path) -> tuple[dict[str, Any], Any]:
    """Return the report and the table of ranks of a folder of recordings; raises SkewscopeError."""
    from ..reports.document import document
    from ..reports.rank_table import rank_table
    from ..sources import gather
    from .analyze import analysed

    analysis = analysed(gather([folder], workers=1))
    return document(analysis), rank_table(analysis.tables)


def _once(asking: Asking, look: Look, args: argparse.Namespace) -> int:
    asking.look()
    frame, trouble, _ = asking.heard
    if frame is None:
        raise SkewscopeError(trouble)
    _print(asking, look, as_json=args.json)
    return 0


def _pages(asking: Asking, look: Look, args: argparse.Namespace) -> int:
    """Print every answer, one below the other: for pipes and files."""
    import time

    shown = 0
    while True:
        while asking.rounds == shown:
            time.sleep(TICK_S)
        shown = asking.rounds
        _print(asking, look, as_json=args.json)


def _print(asking: Asking, look: Look, *, as_json: bool) -> None:
    import time

    from ..top.draw import page
    from ..top.frame import document, matching, ordered

    frame, trouble, since_s = asking.heard
    if as_json:
        if frame is not None:
            rows = ordered(matching(frame.rows, look.filter), look.column)
            frame = replace(frame, rows=tuple(rows))
        told = document(frame) if frame is not None else {"schema": "skewscope.top/1"}
        sys.stdout.write(json.dumps(told | {"trouble": trouble}, allow_nan=False) + "\n")
    else:
        _work.show(page(frame, replace(look, trouble=trouble, trouble_since_s=since_s), time.time()), sys.stdout)
    sys.stdout.flush()


def _screen(asking: Asking, look: Look) -> int:
    """Draw on the whole terminal and follow the keys."""
    import time

    from rich.console import Console
    from rich.live import Live

    from ..top.draw import page
    from ..top.keys import pressed, raw

    console = Console(highlight=False, emoji=False, markup=False)
    source = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else -1
    held = asking.heard
    with raw(source) as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            held = held if look.paused else asking.heard
            told = replace(look, trouble=held[1], trouble_since_s=held[2])
            height = shutil.get_terminal_size().lines
            live.update(page(held[0], told, time.time(), height, keys=True), refresh=True)
            for key in keys.wait(TICK_S) if source >= 0 else _idle():
                after = pressed(look, key)
                if after is None:
                    return 0
                look = after


def _idle() -> list[str]:
    import time

    time.sleep(TICK_S)
    return []


def _end(*_: object) -> None:
    raise KeyboardInterrupt


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
