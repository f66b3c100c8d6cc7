"""Lines of server and training logs that tell of expert balance: what each engine prints, and what it means."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

NEVER, DIGITS = -1, 15
VLLM = re.compile(
    r"EPLB step:(?: (\d{1,15}) for model (.+?):)? avg_tokens=([\d.]+), max_tokens=(\d+), balancedness=([\d.]+)"
    r"(?:, steps until the next rearrangement: (\d{1,9}))?"
)
VLLM_MOVED = re.compile(r"Rearranged experts(.*?)in ([\d.]+) s")
VLLM_CONFIG = re.compile(r"\bwindow_size['\"]?\s*[:=]\s*(\d{1,9})\b.*?\bstep_interval['\"]?\s*[:=]\s*(\d{1,9})\b")
SGLANG = re.compile(r"\[Expert Balancedness\] forward_pass_id=(\d{1,15}) current_pass_balancedness=([\d.]+)")
SGLANG_MOVED = re.compile(r"\[EPLBManager\] rebalance end(?: time=([\d.]+)s)?")
SGLANG_SENT = re.compile(r"\[ExpertLocationUpdater\].*?isend_nbytes_of_gpu=\[([\d, ]{0,20000})\]")
ASCEND = re.compile(
    r"Expert hotness imbalance, current: mean=([\d.]+)(?: p95=[\d.]+)? max=([\d.]+), "
    r"updated: mean=([\d.]+)(?: p95=[\d.]+)? max=([\d.]+)"
)
MEGATRON_STEP = re.compile(r"\biteration\s+(\d{1,15})\s*/")
MEGATRON = re.compile(
    r"\b((?:seq_|global_)?load_balancing_loss|(?:avg|max)_overload_factor)(?:_layer_(\d{1,4}))?: "
    r"([\d.]+(?:[eE][-+]?\d+)?)"
)
MEGATRON_NAMES = {"avg_overload_factor": "megatron-overload", "max_overload_factor": "megatron-overload-max"}
ASCEND_NAMES = ("ascend", "ascend-worst", "ascend-forecast", "ascend-forecast-worst")
DISAGREE_RATIO = 0.01
BEFORE_CHECK = (b"EPLB step:", b"[Expert Balancedness]", b"hotness imbalance", b"load_balancing_loss",
                b"overload_factor", b"Rearranged experts", b"rebalance end", b"isend_nbytes_of_gpu",
                b"step_interval")  # fmt: skip


@dataclass
class Report:
    """One number of balance: whose formula, of which step (-1 unknown) and layer (-1 all)."""

    definition: str
    ratio: float
    step: int = NEVER
    layer: int = NEVER
    mean_tokens: float = math.nan
    max_tokens: float = math.nan
    phase: str = ""


@dataclass
class Told:
    """What all lines told so far; `reports` and `moves` come with the number of the line's time."""

    reports: list[tuple[int, Report]] = field(default_factory=list)
    moves: list[tuple[int, str]] = field(default_factory=list)
    window_steps: int = 0
    interval_steps: int = 0
    disagree: list[str] = field(default_factory=list)
    unnamed_steps: int = 0  # lines of an old vLLM
    models: set[str] = field(default_factory=set)

    def take(self, line: str, at: int) -> bool:
        """Read one line whose time has the number `at`; return whether it told something."""
        return any(read(self, line, at) for read in READERS)


def _vllm(told: Told, line: str, at: int) -> bool:
    hit = VLLM.search(line)
    if not hit:
        return False
    mean, most, ratio = _number(hit[3]), _number(hit[4]), _number(hit[5])
    step = int(hit[1]) if hit[1] else told.unnamed_steps
    told.unnamed_steps += not hit[1]
    told.interval_steps = max(told.interval_steps, int(hit[6] or 0))
    if hit[2]:
        told.models.add(hit[2])
    if most > 0 and abs(mean / most - ratio) > DISAGREE_RATIO:
        told.disagree.append(
            f"step {step}: balancedness {ratio:.4f}, but {mean:g} / {most:g} tokens = {mean / most:.4f}"
        )
    told.reports.append((at, Report("vllm" if hit[1] else "vllm-old", ratio, step, NEVER, mean, most)))
    return True


def _vllm_moved(told: Told, line: str, at: int) -> bool:
    hit = VLLM_MOVED.search(line)
    if hit and "profile" not in hit[1]:  # those are the rehearsal at the engine's start
        told.moves.append((at, f"experts rearranged in {_number(hit[2]):.2f} s"))
    return bool(hit)


def _vllm_config(told: Told, line: str, at: int) -> bool:
    hit = VLLM_CONFIG.search(line)
    if hit:
        told.window_steps, told.interval_steps = int(hit[1]), int(hit[2])
    return False


def _sglang(told: Told, line: str, at: int) -> bool:
    hit = SGLANG.search(line)
    if hit:
        told.reports.append((at, Report("sglang", _number(hit[2]), int(hit[1]))))
    return bool(hit)


def _sglang_moved(told: Told, line: str, at: int) -> bool:
    hit = SGLANG_MOVED.search(line)
    if hit:
        told.moves.append((at, f"experts rearranged in {_number(hit[1]):.2f} s" if hit[1] else "experts rearranged"))
        return True
    sent = SGLANG_SENT.search(line)
    if sent:
        sizes = [int(part) for part in sent[1].split(",") if part.strip().isdecimal() and len(part) <= DIGITS]
        told.moves.append((at, f"{sum(sizes) / 2**30:.3f} GiB of expert weights sent"))
    return bool(sent)


def _ascend(told: Told, line: str, at: int) -> bool:
    hit = ASCEND.search(line)
    for name, text in zip(ASCEND_NAMES, hit.groups() if hit else (), strict=False):
        told.reports.append((at, Report(name, inverse(_number(text)))))
    return bool(hit)


def _megatron(told: Told, line: str, at: int) -> bool:
    step = MEGATRON_STEP.search(line)
    found = MEGATRON.findall(line) if step else []
    for name, layer, text in found:
        definition = MEGATRON_NAMES.get(name, f"megatron-{name.replace('_', '-')}")
        report = Report(definition, inverse(_number(text)), int(step[1]) if step else NEVER, int(layer or NEVER))
        report.phase = "train"
        told.reports.append((at, report))
    return bool(found)


READERS: tuple[Callable[[Told, str, int], bool], ...] = (
    _vllm, _vllm_moved, _vllm_config, _sglang, _sglang_moved, _ascend, _megatron,
)  # fmt: skip


def inverse(value: float) -> float:
    """Return 1 / value, which is a balance where value is a maximum over a mean; not a number where it cannot be.

    >>> inverse(2.0), inverse(0.0)
    (0.5, nan)
    """
    return 1 / value if value > 0 else math.nan


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
