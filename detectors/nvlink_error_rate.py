"""An NVLink sends again and recovers all the time: its signal is bad.

Why it hurts
    What is sent again takes bandwidth and time, so that every transfer inside the node becomes slower for all of its
    ranks. It often ends with the link down.

How it is seen
    Replays, recoveries or checksum errors of a GPU's links grow in more than half of the windows of seven minutes, and
    its peers have three times less; from ten a window on most of the last windows are enough. Or the effective bit
    error ratio, after correction, exceeds one in a million.

Look-alikes
    One burst after a reset or retraining. Symbol errors before correction are normal on fast links. All GPUs alike:
    how the driver counts. `nvlink-down`: links are lost.

What to do
    See which link has the errors (`skewscope_gpu_nvlink_link_errors_total`) and which GPU or switch is at its other
    end. Reseat or replace the tray at the next occasion; drain the node where the job becomes slower.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.impact import costs
from skewscope.signals.peers import peer_median
from skewscope.signals.persistence import STRONG_RATIO, lasting
from skewscope.signals.view import Signal, signal

from . import _clocks, _crowds, _live, _xids
from ._live_worlds import Fleet

Array = np.ndarray[Any, Any]
ERRORS, BY_LINK = "skewscope_gpu_nvlink_errors_total", "skewscope_gpu_nvlink_link_errors_total"
RATIO = "skewscope_gpu_nvlink_bit_error_ratio"
KINDS = ("replay", "recovery", "crc_flit", "crc_data")
NAME = "nvlink-error-rate"
GPUS = ("gpu0", "gpu1", "gpu2", "gpu3")


@dataclass(frozen=True)
class NvlinkErrorRate:
    """Thresholds: in how many windows errors grow, against peers, bit errors, and what is more than a note."""

    category: ClassVar[str] = "nvlink"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    errors_count: float = 1.0  # nvidia-resiliency-ext: any growth in a window
    grows_count: int = 8  # nvidia-resiliency-ext: more than half, there 16 of 30; A12: act after four minutes
    of_count: int = 15
    times_ratio: float = 3.0  # OWN: against peers
    bit_error_ratio: float = 1e-6  # conditions A4: cyclecloud-healthagent warns of the effective ratio
    often_count: float = 10.0  # OWN: errors in a window: no chance, so it need not be so for minutes
    held_count: int = 3  # A12
    ratio_of_count: int = 4
    cost_ratio: float = 0.005  # OWN: of the step; below it is a note

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return a finding per GPU with bad links, or per host or rack where most have them."""
        grown = signal(tables, ERRORS, take="increase", absent=0.0, error=KINDS)
        bits = signal(tables, RATIO, take="low", kind="effective")
        told = _clocks.union([grown, bits])
        if not len(told):
            return
        count, ratio = told.aligned(grown), told.aligned(bits)
        usual = np.nan_to_num(peer_median(count, np.zeros(len(told))))
        many = (count >= self.errors_count) & (count >= self.times_ratio * usual)
        worse = ratio > self.bit_error_ratio
        often, more = count >= self.often_count, count >= STRONG_RATIO * self.often_count
        mask = lasting(many, self.grows_count, self.of_count)
        mask |= lasting(many & often, self.held_count, self.ratio_of_count, strong=more)
        mask |= lasting(worse, self.held_count, self.ratio_of_count, strong=ratio > STRONG_RATIO * self.bit_error_ratio)
        for one in _crowds.found(told, mask, tables):
            yield self._finding(tables, told, one, count, ratio)

    def _finding(self, tables: Frames, told: Signal, one: _crowds.Found, count: Array, ratio: Array) -> Finding:
        rate, bits = one.mean(count) / told.window_s * 60.0, one.mean(ratio)
        links = "" if one.subject else _links(tables, told, one.column)
        what = [f"{rate:.0f} replays and recoveries a minute"] if rate >= 1 else []
        what += [f"an effective bit error ratio of {bits:.1g}"] if bits > self.bit_error_ratio else []
        found = _live.finding(
            NAME, tables, told, one.column, one.mask, role="culprit", subject=one.subject, ranks=(), confidence=0.85,
            least="S3",
            evidence=(
                Evidence("nvlink_errors", 0.0 if rate != rate else rate / 60.0, 0.0, self.errors_count / told.window_s,
                         "per_s"),
                Evidence("effective_bit_errors", np.nan_to_num(bits), None, self.bit_error_ratio, "ratio"),
            ),
            summary=f"{one.where(told)}: {' and '.join(what) or f'{rate:.2f} link errors a minute'}{links}",
            advice="look at the link's connector, tray or switch; reseat or replace it at the next occasion",
        )  # fmt: skip
        node, device = str(told.node[one.column]), str(told.device[one.column])
        known = costs(tables).of_device(node, device)[0] is not None
        return replace(found, role="context", severity="S4") if known and found.lost_share < self.cost_ratio else found

    def alert(self) -> Rule:
        """Return the alert: growth all the time, or bit errors after correction."""
        window = f"[{self.of_count * 30}s:30s]"
        kinds = "|".join(KINDS)
        return Rule(
            "SkewscopeNvlinkErrorRate",
            f"sum by (node, gpu) (count_over_time((increase({ERRORS}{{error=~\"{kinds}\"}}[1m]) >= "
            f"{self.errors_count:g}){window})) >= {self.grows_count:g} or "
            f'{RATIO}{{kind="effective"}} > {self.bit_error_ratio:g}',
            60, "warning", "NVLinks of GPU {{ $labels.gpu }} have errors all the time",
            "NVLinks of GPU {{ $labels.gpu }} of {{ $labels.node }} send again or recover all the time",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: none, now and then, one burst, symbols, all alike; replays, bit errors, a whole host."""
        yield World("quiet", _errors(0.0).tables())
        sparse = np.where(np.arange(30) % 15 % 2, 4.0, 0.0)  # seven of any fifteen windows
        yield World("near-miss", _errors(sparse).tables())
        yield World("burst-after-reset", _errors(np.where(np.arange(30) == 12, 900.0, 0.0)).tables())
        yield World("symbols", _errors(50.0, error="symbol").tables())
        yield World("all-alike", _errors(5.0, nodes=("n0", "n1"), devices=GPUS).tables())
        yield World("few-bit-errors", _errors(0.0, bits=9e-7).tables())
        yield World("replays", _errors(3.0).slow_transfer(0.05).tables(), frozenset({"n1/gpu2"}))
        yield World("recoveries", _errors(1.0, error="recovery").tables(), frozenset({"n1/gpu2"}))
        yield World("bit-errors", _errors(0.0, bits=4e-6).tables(), frozenset({"n1/gpu2"}))
        yield World("host", _errors(5.0, devices=GPUS, count=3).tables(), frozenset({"n1"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: replays, recoveries, bits, links that are lost."""
        rate = f"increase({ERRORS}{{error=%r}}[5m])"
        return (
            Check("replays", "Do its links send again?", ERRORS, "rate", f">= {self.errors_count / 30:.3g}",
                  rate.replace("%r", '"replay"'), "see which link it is; go on with `down`", "recoveries",
                  {"error": "replay"}),
            Check("recoveries", "Do its links recover?", ERRORS, "rate", f">= {self.errors_count / 30:.3g}",
                  rate.replace("%r", '"recovery"'), "see which link it is; go on with `down`", "bits",
                  {"error": "recovery"}, ("replays",)),
            Check("bits", "Are there bit errors after correction?", RATIO, "high", f"> {self.bit_error_ratio:g}",
                  f'{RATIO}{{kind="effective"}}', "the signal is bad: connector or tray", "its links are clean now",
                  {"kind": "effective"}, ("recoveries",)),
            Check("down", "Are links inactive?", "skewscope_gpu_nvlink_links", "last", ">= 1",
                  'skewscope_gpu_nvlink_links{state="inactive"}', "see `nvlink-down`",
                  "replace it at the next occasion; drain the node where the job is slower", {"state": "inactive"},
                  ("replays", "recoveries")),
        )  # fmt: skip


def _links(tables: Frames, told: Signal, column: int) -> str:
    """Return which link of a GPU has most of the errors, as the end of a sentence."""
    found = []
    for link in range(36):
        if not _xids.has_label(tables, f"link={link},"):
            continue
        one = signal(tables, BY_LINK, take="increase", link=str(link), error=KINDS)
        mine = (one.node == told.node[column]) & (one.device == told.device[column])
        found.append((float(np.nansum(one.values[:, mine])), link))
    most, link = max(found, default=(0.0, -1))
    return f", most on link {link}" if most > 0 else ""


def _errors(
    each: float | Array, *, error: str = "replay", nodes: tuple[str, ...] = ("n1",), bits: float = 1e-16,
    devices: tuple[str, ...] = ("gpu2",), count: int = 2,
) -> Fleet:  # fmt: skip
    fleet = Fleet(count, windows_count=30)
    fleet.put(ERRORS, 0.0, labels="error=replay", devices=fleet.gpus)
    fleet.put(RATIO, 1e-16, labels="kind=effective", devices=fleet.gpus)
    fleet.put(RATIO, bits, labels="kind=effective", nodes=["n1"], devices=["gpu2"], since=10)
    since = each if isinstance(each, np.ndarray) else np.where(np.arange(30) >= 10, each, 0.0)
    return fleet.put(ERRORS, since, labels=f"error={error}", nodes=nodes, devices=devices)
