"""What a pipeline's stages take per microbatch: from recordings of a job, or from a table of layers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..attribution import attribute
from ..errors import UsageError
from ..optimize.partition import even_split
from ..sources import gather
from . import _rounds, _tables

Array = np.ndarray[Any, Any]

PARTS = 20  # of a stage whose layers nobody counted
NS = 1e9
SLOW_REPLICA_RATIO = 1.2


@dataclass(frozen=True)
class Measured:
    """A pipeline as measured, for one microbatch at speed 1.

    `forward_s`, `backward_s` [layers]; `sizes` [stages] layers of each stage today; `speeds` [stages]; `first_s` and
    `last_s` [2] forward and backward of what stands beside the layers on the outer stages; `kept_bytes`,
    `activation_bytes` [layers] or None; `step_s` a recorded step, NaN where none; `unit` what a layer is called;
    `spread_ratio` [steps, stages] each step's compute over the stage's median, or None.
    """

    forward_s: Array
    backward_s: Array
    sizes: Array
    speeds: Array
    microbatches: int
    first_s: Array = field(default_factory=lambda: np.zeros(2))
    last_s: Array = field(default_factory=lambda: np.zeros(2))
    kept_bytes: Array | None = None
    activation_bytes: Array | None = None
    step_s: float = float("nan")
    unit: str = "layers"
    warnings: tuple[str, ...] = ()
    spread_ratio: Array | None = None

    def stages_s(self, sizes: Array) -> tuple[Array, Array]:
        """Return (forward, backward) [stages] in seconds per microbatch, for `sizes` [stages] layers.

        >>> one = Measured(np.ones(4), 2 * np.ones(4), np.array([2, 2]), np.array([1.0, 0.5]), 8)
        >>> [part.tolist() for part in one.stages_s(np.array([3, 1]))]
        [[3.0, 2.0], [6.0, 4.0]]
        """
        cuts = np.concatenate([[0], np.cumsum(sizes)])
        found = []
        for kind, layers in enumerate((self.forward_s, self.backward_s)):
            work = np.diff(np.concatenate([[0.0], np.cumsum(layers)])[cuts])
            work[0] += self.first_s[kind]
            work[-1] += self.last_s[kind]
            found.append(work / self.speeds)
        return found[0], found[1]


def read(args: argparse.Namespace) -> Measured:
    """Return the pipeline that the arguments name; raises UsageError or Unreadable."""
    if bool(args.layers) == bool(args.paths):
        raise UsageError("give recordings, or --layers FILE with a table of layers, and not both")
    sizes = None if args.split is None else _tables.wholes(args.split, "--split")
    if args.paths:
        made = recorded([Path(path) for path in args.paths], sizes, args.microbatches, args.backward_ratio)
    else:
        made = table(Path(args.layers), sizes, args)
    stages = len(made.sizes)
    if args.speeds is not None:
        made = replace(made, speeds=_tables.numbers(args.speeds, stages, "--speeds"))
    ratio = args.backward_ratio
    parts = np.array([1.0, ratio]) / (1 + ratio)
    return replace(made, first_s=made.first_s + args.first * parts, last_s=made.last_s + args.last * parts)


def table(path: Path, sizes: Array | None, args: argparse.Namespace) -> Measured:
    """Return the pipeline of a table with one row per layer: `forward_s` and `backward_s`, or `seconds` for both."""
    rows = _tables.read(path)
    names = set(rows.columns)
    if {"forward_s", "backward_s"} <= names:
        forward, backward = (_tables.column(rows, name, path) for name in ("forward_s", "backward_s"))
    elif "seconds" in names:
        both = _tables.column(rows, "seconds", path)
        forward, backward = both / (1 + args.backward_ratio), both * args.backward_ratio / (1 + args.backward_ratio)
    else:
        raise UsageError(f"{path}: wants columns forward_s and backward_s, or seconds; has {', '.join(sorted(names))}")
    if args.stages is None and sizes is None:
        raise UsageError("--stages P is missing: over how many stages do the layers go?")
    if args.microbatches is None:
        raise UsageError("--microbatches M is missing: how many does a stage run per step?")
    now = even_split(len(rows), args.stages) if sizes is None else sizes
    if now.sum() != len(rows) or (now < 1).any() or (args.stages or len(now)) != len(now):
        raise UsageError(f"{len(rows)} layers in {path}, today's split {now.tolist()} over {args.stages or len(now)} "
                         "stages: every stage wants a layer, and the layers must add up (--split)")  # fmt: skip
    held = [_tables.column(rows, name, path) if name in names else None for name in ("kept_bytes", "activation_bytes")]
    return Measured(forward, backward, now, np.ones(len(now)), args.microbatches, kept_bytes=held[0],
                    activation_bytes=held[1])  # fmt: skip


def recorded(paths: list[Path], sizes: Array | None, microbatches: int | None, ratio: float) -> Measured:
    """Return the pipeline of recordings: stages' own compute, medians over steps and replicas."""
    recording = gather(paths)
    derived = attribute(recording.tables)
    tables = {**recording.tables, **derived.tables}
    steps = tables["rank_steps"] if "rank_steps" in tables else pd.DataFrame({"stage": []})
    steps = steps[(steps["stage"] >= 0).to_numpy()]
    stages = int(steps["stage"].nunique())
    if stages < 2 or sorted(steps["stage"].unique()) != list(range(stages)):
        raise UsageError(
            "the recordings show no pipeline (several stages, numbered from 0); give --layers FILE instead"
        )
    count = microbatches or _microbatches(tables, steps)
    if not count:
        raise UsageError("--microbatches M is missing: the recordings do not tell how many a stage runs per step")
    per_rank = steps.groupby(["stage", "rank"])[["forward_ns", "backward_ns", "compute_ns"]].median()
    stage = per_rank.groupby("stage").median() / NS / count
    warnings = [*recording.warnings, *derived.warnings, *_uneven_replicas(per_rank)]
    forward, backward = stage["forward_ns"].to_numpy(), stage["backward_ns"].to_numpy()
    if not np.isfinite([forward, backward]).all():
        whole = stage["compute_ns"].to_numpy()
        forward, backward = whole / (1 + ratio), whole * ratio / (1 + ratio)
        warnings.append(f"forward and backward are not told apart: backward is taken as {ratio:g} times forward")
    step_s = float(tables["step_times"]["duration_ns"].median() / NS)
    made = spread(forward, backward, sizes, count)
    by_step = steps.pivot_table(index="step", columns="stage", values="compute_ns", aggfunc="median").to_numpy()
    ratios = by_step[np.isfinite(by_step).all(axis=1)] / np.nanmedian(by_step, axis=0)
    return replace(made, step_s=step_s, warnings=(*warnings, *made.warnings), spread_ratio=ratios)


def spread(forward_s: Array, backward_s: Array, sizes: Array | None, microbatches: int) -> Measured:
    """Return stages as equal layers that explain the times of the stages.

    What a middle stage needs beyond the others is its speed, what an outer one needs stands beside its layers
    (embedding, head).

    >>> one = spread(np.array([4.0, 4, 4, 8]), np.array([8.0, 8, 8, 16]), np.array([8, 8, 8, 8]), 8)
    >>> one.last_s.tolist(), one.speeds.tolist(), one.stages_s(one.sizes)[0].tolist()
    ([4.0, 8.0], [1.0, 1.0, 1.0, 1.0], [4.0, 4.0, 4.0, 8.0])
    """
    stages = len(forward_s)
    now = np.full(stages, PARTS) if sizes is None else sizes
    if len(now) != stages or (now < 1).any():
        raise UsageError(f"--split {','.join(map(str, now))}: the recordings have {stages} stages; one number each")
    whole = forward_s + backward_s
    if not (whole > 0).all():
        raise UsageError(f"stage {int(whole.argmin())}: no compute was recorded, so what its layers take is unknown; "
                         "give --layers FILE instead")  # fmt: skip
    usual = np.array([_usual(one / now) for one in (forward_s, backward_s)])
    base = usual.sum() * now
    speeds = base / whole
    extra = np.zeros((2, 2))
    for place, stage in enumerate((0, stages - 1)):
        if speeds[stage] < 1:
            extra[place] = np.array([forward_s[stage], backward_s[stage]]) - usual * now[stage]
            speeds[stage] = 1.0
    layers = int(now.sum())
    warnings = ["an outer stage's surplus is taken as its embedding or head, a middle stage's as a slow device; "
                "say --speeds if an outer device is slow"]  # fmt: skip
    if sizes is None:
        warnings.append(f"layers per stage are unknown (--split): each stage counts as {PARTS} equal parts")
    return Measured(np.full(layers, usual[0]), np.full(layers, usual[1]), now, speeds, microbatches, extra[0], extra[1],
                    unit="layers" if sizes is not None else f"parts of {100 // PARTS} % of a stage",
                    warnings=tuple(warnings))  # fmt: skip


def _usual(per_layer_s: Array) -> float:
    """Return what a layer takes: the lower median of the stages, so that half of them may be heavy.

    >>> _usual(np.array([1.0, 1.0, 2.0, 2.0]))
    1.0
    """
    return float(np.sort(per_layer_s)[(len(per_layer_s) - 1) // 2])


def _microbatches(tables: Mapping[str, pd.DataFrame], steps: pd.DataFrame) -> int:
    """Return how many microbatches a step has: as numbered, else as many as the first stage sends; 0 unknown."""
    numbered = tables["ops"]["microbatch"].max() if "ops" in tables and len(tables["ops"]) else -1
    if numbered >= 0:
        return int(numbered) + 1
    calls = tables.get("collectives")
    if calls is None:
        return 0
    first = steps.loc[(steps["stage"] == 0).to_numpy(), "rank"].unique()
    sends = calls[((calls["op"] == "send") & calls["rank"].isin(first) & (calls["step"] >= 0)).to_numpy()]
    return int(sends.groupby(["rank", "step"]).size().median()) if len(sends) else 0


def _uneven_replicas(per_rank: pd.DataFrame) -> list[str]:
    found = []
    for stage, rows in per_rank["compute_ns"].reset_index().groupby("stage"):
        work = rows["compute_ns"].to_numpy()
        ratio = float(work.max() / np.median(work))
        if ratio > SLOW_REPLICA_RATIO:
            rank = int(rows["rank"].to_numpy()[work.argmax()])
            found.append(f"stage {stage}: rank {rank} needs {ratio:.2f} times its replicas' median: a slow rank, which "
                         "no partition mends; the median is planned with")  # fmt: skip
    return found


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where the stages come from."""
    add = parser.add_argument
    add("paths", nargs="*", metavar="PATH", help="recordings of one job: files or folders")
    rows = (
        "instead: a table of layers (CSV, Parquet): forward_s and backward_s or seconds; kept_bytes, activation_bytes"
    )
    add("--layers", metavar="FILE", help=rows)
    add("--stages", type=_rounds.whole, metavar="P", help="stages (recordings: as recorded)")
    add("--microbatches", type=_rounds.whole, metavar="M", help="microbatches of a step (recordings: as recorded)")
    add("--split", metavar="N,N...", help="layers of each stage today (default: even)")
    add("--speeds", metavar="V[,V...]", help="speed of each stage's device, 1 the usual one")
    add("--first", type=_rounds.seconds, default=0.0, metavar="S", help="seconds of the embedding, per microbatch")
    add("--last", type=_rounds.seconds, default=0.0, metavar="S", help="seconds of head and loss, per microbatch")
    unknown = "backward over forward where they are not told apart (default: %(default)s)"
    add("--backward-ratio", type=_tables.positive, default=2.0, metavar="R", help=unknown)
