"""A live view of node agents: their GPUs and ranks, asked for directly.

Shares and step times are those since the look before; at the first look, since the rank's job began.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ..errors import SkewscopeError
from ..feeds.targets import Target, Targets
from ..web import ask
from ..web.access import Access
from . import samples
from .frame import NAN, Frame, Row

AT_ONCE = 32
GPU = "skewscope_gpu_"
GAUGES = {
    f"{GPU}utilization_ratio": ("util", {}), f"{GPU}power_watts": ("power", {"kind": "average"}),
    f"{GPU}power_limit_watts": ("limit", {"kind": "enforced"}),
    f"{GPU}temperature_celsius": ("warm", {"sensor": "gpu"}), f"{GPU}memory_used_bytes": ("used", {}),
    f"{GPU}memory_total_bytes": ("total", {}),
}  # fmt: skip
STEPS, STEP_S = "skewscope_steps_total", "skewscope_step_seconds_total"
PHASES, CALLS = "skewscope_phase_seconds_total", "skewscope_collective_seconds_total"
JOBS = f"{GPU}job_info"
FAMILIES = {*GAUGES, STEPS, STEP_S, PHASES, CALLS, JOBS}
WAITING = "comm_wait"
Counters = dict[tuple[str, str, str], list[float]]  # node, job, rank -> steps, seconds in steps, waiting, in calls


class Agents:
    """Asks agents: `targets` as `skewscope watch --scrape` takes them."""

    def __init__(
        self, targets: Sequence[str], access: Access | None = None, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._targets, self._access, self._clock_ns = Targets(targets), access or Access(), clock_ns
        self._before: Counters = {}

    def frame(self) -> Frame:
        """Return the GPUs and ranks of all agents; raises SkewscopeError where none of them answers."""
        targets, wrong = self._targets.now()
        if not targets:
            raise SkewscopeError(wrong or "no agents are named")
        with ThreadPoolExecutor(min(AT_ONCE, len(targets))) as pool:
            pages = list(pool.map(self._asked, targets))
        silent = [(target, page) for target, page in zip(targets, pages, strict=True) if isinstance(page, str)]
        if len(silent) == len(targets):
            raise SkewscopeError(silent[0][1])
        counters: Counters = {}
        rows: list[Row] = []
        for target, page in zip(targets, pages, strict=True):
            rows += [Row(node=target.node, state="silent", why=page)] if isinstance(page, str) else _rows(
                target.node, page, counters)  # fmt: skip
        timed = with_times(rows, counters, self._before)
        self._before = counters
        said = [page for _, page in silent[:3]] + ([f"and {len(silent) - 3} more agents"] if len(silent) > 3 else [])
        return Frame(self._clock_ns(), f"{len(targets)} agents", rows=tuple(timed),
                     wrong=tuple([*([wrong] if wrong else []), *said]))  # fmt: skip

    def _asked(self, target: Target) -> list[samples.One] | str:
        try:
            return list(samples.of(ask.page(target.url, self._access, accept="text/plain;version=0.0.4"), FAMILIES))
        except SkewscopeError as error:
            return str(error)


def _rows(node: str, page: Sequence[samples.One], counters: Counters) -> list[Row]:
    """Return the GPUs of one node, with the ranks that run there; counters of ranks are added up in `counters`."""
    gpus: dict[str, dict[str, float]] = defaultdict(dict)
    ranks: dict[tuple[str, str], str] = {}
    jobs: dict[str, str] = {}
    for one in page:
        if one.name in GAUGES:
            name, wanted = GAUGES[one.name]
            if all(one.labels.get(label) == value for label, value in wanted.items()):
                gpus[one.labels.get("gpu", "")][name] = one.value
        elif one.name == JOBS:
            jobs[one.labels.get("gpu", "")] = one.labels.get("job_id", "")
        elif "rank" in one.labels:
            job, rank = one.labels.get("job_id", ""), one.labels["rank"]
            ranks[job, rank] = one.labels.get("gpu", "")
            _count(counters.setdefault((node, job, rank), [0.0] * 4), one)
    made = [
        _row(node, gpus.pop(gpu, {}), int(rank), gpu, job) for (job, rank), gpu in ranks.items() if rank.isdecimal()
    ]
    return made + [_row(node, numbers, -1, gpu, jobs.get(gpu, "")) for gpu, numbers in gpus.items()]


def _count(into: list[float], one: samples.One) -> None:
    at = {STEPS: 0, STEP_S: 1, CALLS: 3}.get(one.name, 2 if one.labels.get("phase") == WAITING else -1)
    if at >= 0:
        into[at] += one.value


def _row(node: str, numbers: dict[str, float], rank: int, gpu: str, job: str) -> Row:
    util, power, limit, warm, used, total = (numbers.get(name, NAN) for name, _ in GAUGES.values())
    return Row(rank, node, gpu, job, util, power, limit, warm, used / total if total > 0 else NAN)


def with_times(rows: Sequence[Row], now: Counters, before: Counters) -> list[Row]:
    """Return the rows with step time, share of waiting, and work against the ranks of the same job.

    Waiting is the phase of that name, else the time in collectives, which holds transfers too.
    """
    spent: dict[tuple[str, str, str], tuple[float, float]] = {}
    for key, values in now.items():
        old = before.get(key, [0.0] * 4)
        if old[0] > values[0]:  # it began anew
            old = [0.0] * 4
        steps, seconds, waited, called = (one - other for one, other in zip(values, old, strict=True))
        if steps > 0 and seconds > 0:
            spent[key] = seconds / steps, min(1.0, (waited if values[2] > 0 else called) / seconds)
    own: dict[str, list[float]] = defaultdict(list)
    for (_, job, _), (step_s, waiting) in spent.items():
        own[job].append(step_s * (1 - waiting))
    usual = {job: statistics.median(values) for job, values in own.items()}
    made = []
    for row in rows:
        told = spent.get((row.node, row.job, str(row.rank)))
        if told is None:
            made.append(row)
            continue
        work = told[0] * (1 - told[1])
        peers = usual[row.job] if len(own[row.job]) > 1 else NAN
        ratio = work / peers if peers > 0 and math.isfinite(peers) else NAN
        made.append(replace(row, step_s=told[0], wait_ratio=told[1], work_ratio=ratio))
    return made
