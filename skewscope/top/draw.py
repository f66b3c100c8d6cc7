"""Draws a frame for a terminal: jobs, findings, ranks, and what cannot be asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..reports import wording
from ..reports.wording import clean
from .frame import COLUMNS, SLOW_RATIO, Found, Frame, Job, Row, matching, ordered

COLOURS = {"S1": "bold red", "S2": "red", "S3": "yellow", "S4": "cyan"}
STATES = {"culprit": "bold red", "victim": "yellow", "slow": "red", "silent": "magenta", "idle": "dim", "ok": "green"}
RIGHT = ("rank", "gpu", "util", "power", "temp", "memory", "step", "work", "wait")
HOT_CELSIUS, BUSY_RATIO = 85.0, 0.9
MOST_FINDINGS = 8
FEWEST_ROWS = 3
HEAD_LINES = 3  # of a table: an empty line, names, a rule
BESIDE_ROWS = HEAD_LINES + 1  # of the table of ranks
KEYS = "q quit  <- -> sort  r reverse  / filter  up down scroll  space pause"


@dataclass(frozen=True)
class Look:
    """How the person looks at it: sort `column` ("" is by how bad), filter, first row; `trouble` is why it is old."""

    column: str = ""
    reverse: bool = False
    filter: str = ""
    typing: bool = False
    first: int = 0
    paused: bool = False
    trouble: str = ""
    trouble_since_s: float = 0.0


def page(frame: Frame | None, look: Look, now_s: float, height: int = 0, *, keys: bool = False) -> RenderableType:
    """Return the page of a frame, at most `height` lines (0: as many as it takes); None: nothing was heard yet."""
    head = _head(frame, look, now_s)
    if frame is None:
        return Group(*head)
    parts = [*head, *_jobs(frame.jobs), *_findings(frame.findings, now_s, MOST_FINDINGS if height else 0)]
    rows = ordered(matching(frame.rows, look.filter), look.column, reverse=look.reverse)
    foot = [Text(_foot(look), style="dim")] if keys else []
    above = len(head) + _lines(len(frame.jobs)) + _lines(len(frame.findings), MOST_FINDINGS) + BESIDE_ROWS + len(foot)
    room = max(FEWEST_ROWS, height - above) if height else len(rows)
    first = max(0, min(look.first, len(rows) - room))
    parts += _ranks(rows[first : first + room], len(rows), len(frame.rows), first, look)
    return Group(*parts, *foot)


def _lines(rows: int, most: int = 10**9) -> int:
    """Return the lines of a table, with one that tells how many more rows there are."""
    return HEAD_LINES + min(rows, most) + (rows > most) if rows else 0


def _head(frame: Frame | None, look: Look, now_s: float) -> list[RenderableType]:
    made: list[RenderableType] = []
    if frame is None:
        made.append(Text("skewscope top: waiting for the first answer", style="bold"))
    else:
        age_s = max(0.0, now_s - frame.time_ns / 1e9)
        when = f"as of {wording.clock(frame.time_ns)}, {_age(age_s)} ago"
        made.append(Text.assemble(("skewscope top", "bold"), f"  {clean(frame.source)}  {when}",
                                  ("  paused" if look.paused else "", "bold yellow")))  # fmt: skip
        if frame.verdict:
            made.append(_line(frame.verdict, "bold"))
        made += [_line(f"! {line}", "yellow") for line in frame.wrong]
    if look.trouble:
        since = f" since {_age(now_s - look.trouble_since_s)}" if look.trouble_since_s else ""
        old = "; what is shown is the last that was heard" if frame is not None else ""
        made.append(_line(f"! {look.trouble}{since}{old}", "bold red"))
    return made


def _line(text: str, style: str) -> Text:
    """Return one line, cut where the terminal ends."""
    return Text(clean(text), style=style, no_wrap=True, overflow="ellipsis")


def _age(seconds: float) -> str:
    """Return an age in the unit that fits.

    >>> _age(5), _age(200), _age(7300)
    ('5 s', '3 min', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _table(*columns: str, right: Sequence[str] = (), marked: str = "") -> Table:
    grid = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), collapse_padding=True)
    for name in columns:
        grid.add_column(Text(name, style="reverse" if name == marked else ""), no_wrap=True, overflow="ellipsis",
                        justify="right" if name in right else "left")  # fmt: skip
    return grid


def _jobs(jobs: Sequence[Job]) -> list[RenderableType]:
    if not jobs:
        return []
    numbers = ("ranks", "step", "slowdown", "lost now", "GPU-hours lost")
    grid = _table("job", *numbers, right=numbers)
    for job in jobs:
        lost = f"{job.lost_gpus:.3g} GPUs" if math.isfinite(job.lost_gpus) else wording.UNKNOWN
        grid.add_row(Text(clean(job.name)), str(job.ranks) if job.ranks >= 0 else wording.UNKNOWN,
                     wording.seconds(job.step_s), wording.ratio(job.slowdown), lost,
                     wording.hours(job.lost_gpu_hours))  # fmt: skip
    return [Text(), grid]


def _findings(findings: Sequence[Found], now_s: float, most: int) -> list[RenderableType]:
    if not findings:
        return []
    grid = _table(
        "sev", "condition", "who", "role", "cost/step", "share", "since", "summary", right=("cost/step", "share")
    )
    shown = findings[:most] if most else findings
    for one in shown:
        who = f"rank {one.rank} ({clean(one.subject)})" if one.rank >= 0 else clean(one.subject)
        since = _age(now_s - one.since_ns / 1e9) if 0 < one.since_ns / 1e9 <= now_s else wording.UNKNOWN
        grid.add_row(
            Text(one.severity, style=COLOURS.get(one.severity, "")), Text(clean(one.condition)), Text(who),
            Text(one.state or one.role), wording.seconds(one.cost_s if one.cost_s else None),
            wording.share(one.share if one.share else None), since, Text(clean(one.summary)),
        )  # fmt: skip
    more = [Text(f"{len(findings) - len(shown)} more findings", style="dim")] if len(findings) > len(shown) else []
    return [Text(), grid, *more]


def _ranks(rows: Sequence[Row], kept: int, whole: int, first: int, look: Look) -> list[RenderableType]:
    if not whole:
        return [Text("\nNo ranks or GPUs are known to this source; --scrape HOST:PORT,... asks agents.", style="dim")]
    grid = _table(*COLUMNS, "why", right=RIGHT, marked=look.column)
    for row in rows:
        grid.add_row(*_cells(row))
    said = f"{first + 1}-{first + len(rows)} of {kept} rows" if kept > len(rows) else f"{kept} rows"
    said += f" of {whole} (filter {look.filter!r})" if look.filter else ""
    return [Text(), grid, Text(said, style="dim")]


def _cells(row: Row) -> list[RenderableType]:
    hot = "bold red" if row.temperature_celsius >= HOT_CELSIUS else ""
    limit = f"/{row.power_limit_watts:.0f}" if math.isfinite(row.power_limit_watts) else ""
    power = f"{row.power_watts:.0f}{limit} W" if math.isfinite(row.power_watts) else wording.UNKNOWN
    warm = f"{row.temperature_celsius:.0f} C" if math.isfinite(row.temperature_celsius) else wording.UNKNOWN
    return [
        Text(row.state, style=STATES.get(row.state, "")), str(row.rank) if row.rank >= 0 else wording.UNKNOWN,
        Text(clean(row.node) or wording.UNKNOWN), Text(clean(row.gpu) or wording.UNKNOWN), Text(clean(row.job)),
        Text(wording.share(row.util_ratio), style="green" if row.util_ratio >= BUSY_RATIO else ""), power,
        Text(warm, style=hot), wording.share(row.memory_ratio), wording.seconds(row.step_s),
        Text(wording.ratio(row.work_ratio), style="red" if row.work_ratio >= SLOW_RATIO else ""),
        wording.share(row.wait_ratio),
        Text(clean(row.why)),
    ]  # fmt: skip


def _foot(look: Look) -> str:
    if look.typing:
        return f"filter: {look.filter}_   (Enter keeps it, Esc clears it)"
    order = f"sorted by {look.column}" if look.column else "worst first"
    return f"{order}{' (reversed)' if look.reverse else ''}   {KEYS}"
