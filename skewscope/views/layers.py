"""How long does each layer compute, forward and backward, and which layer differs between ranks or steps?

A layer is an instance of the nn.Module class that holds most device time and comes more than once (the decoder layers
of a transformer); without modules, a named range that comes more than once per step; without either, the repeated
block in the sequence of operators that launch kernels, which is *inferred* and said to be. Backward time goes to the
layer of the forward operator with the same sequence number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ..contracts import Frames, Picture, Shown
from ..errors import NoData
from . import _blocks, _calls, _device_rows, _modules

Array = np.ndarray[Any, Any]

LEAST_SHARE = 0.2  # of device time: ranges that hold less are no layers


@dataclass(frozen=True)
class Layers:
    """View of layers; `kind` names the module class or range to take as layer where the largest one is not wanted."""

    needs: ClassVar[tuple[str, ...]] = ("operators", "device_work")
    kind: str = ""
    rows_count: int = 5000

    def show(self, tables: Frames) -> Shown:
        """Return device time per layer, and per layer, rank and step. NoData where no layer can be told."""
        forest = _calls.calls(tables["operators"])
        work = _device_rows.work(tables)
        row = _device_rows.above(work, forest)
        found = self._named(forest, work, row) or _inferred(forest, work, row)
        if found is None:
            raise NoData(
                "no modules, no repeated ranges and no repeated block of operators; profile with with_stack=True"
            )
        kind, how, layer, backward = found
        made = pd.DataFrame(
            {
                "layer": layer,
                "rank": work["rank"],
                "step": work["step"],
                "length_s": work["length_ns"] / 1e9,
                "backward": backward,
                "communication": (work["kind"] == "communication").to_numpy(),
            }
        )[np.array([name != "" for name in layer])]
        by_step = _by_step(made)
        table = _by_layer(by_step, float(work["length_ns"].sum()) / 1e9)
        notes = (
            (f"Layers are inferred: {kind}. Profile with with_stack=True for the modules.",)
            if how == "inferred"
            else ()
        )
        return Shown(
            {"layers": table.head(self.rows_count), "by_step": by_step.head(self.rows_count)},
            _said(table, kind),
            notes,
            (
                Picture("layers", "stacked", "Device time by layer", "layer", parts=("forward_s", "backward_s")),
                Picture("by_step", "heatmap", "Device time by layer and rank", "layer", "rank", "device_s"),
            ),
        )

    def _named(self, forest: _calls.Calls, work: pd.DataFrame, row: Array) -> tuple[str, str, Array, Array] | None:
        """Return (class, how, layer of each work row, whether it is backward) from modules, else from ranges."""
        whose = _modules.belonging(forest)
        safe = np.maximum(row, 0)
        backward = np.where(row >= 0, whose.backward[safe], False)
        length = work["length_ns"].to_numpy().astype(float)
        for how, home in (("module", whose.module), ("annotation", whose.forward)):
            wanted = forest.of_kind(how)
            names = forest.frame["name"].array
            plain = np.array([*map(_modules.plain, names.categories), ""], dtype=object)[names.codes]
            kinds = np.array([_modules.kind_of(name) for name in names.categories] + [""], dtype=object)[names.codes]
            at = np.where(row >= 0, home[safe], -1)
            kind = self.kind or _largest(forest, wanted, plain, kinds, at, length, by_rank=how == "module")
            chosen = wanted & (kinds == kind)
            if not kind or not chosen.any():
                continue
            layer = _calls.outermost(forest, chosen)
            row_of = np.where(at >= 0, layer[np.maximum(at, 0)], -1)
            title = plain if how == "module" else _numbered(forest, chosen, plain)
            return kind, how, np.where(row_of >= 0, title[np.maximum(row_of, 0)], ""), backward
        return None


def _largest(
    forest: _calls.Calls, wanted: Array, plain: Array, kinds: Array, at: Array, length: Array, *, by_rank: bool
) -> str:
    """Return the class with several instances that holds most device time; "" where none repeats."""
    own = np.bincount(at[at >= 0], weights=length[at >= 0], minlength=len(wanted))
    below = _calls.below(forest, own)
    rows = np.flatnonzero(wanted & (below > 0) & ~np.char.startswith(plain.astype(str), "ProfilerStep"))
    made = pd.DataFrame(
        {
            "kind": kinds[rows],
            "name": plain[rows],
            "below": below[rows],
            "step": forest.frame["step"].to_numpy()[rows],
            "rank": forest.frame["rank"].to_numpy()[rows],
        }
    )
    if by_rank:
        several = made.groupby("kind")["name"].nunique() > 1
    else:
        several = made.groupby(["kind", "rank", "step"]).size().groupby("kind").median() > 1
    sums = made.groupby("kind")["below"].sum()[several]
    least = 0.0 if by_rank else LEAST_SHARE * float(length.sum())
    return str(sums.idxmax()) if len(sums) and sums.max() > least else ""


def _numbered(forest: _calls.Calls, chosen: Array, plain: Array) -> Array:
    """Return the names with the number of each range in its rank and step: that is the layer."""
    rows = np.flatnonzero(chosen)
    made = forest.frame.iloc[rows][["rank", "step"]].assign(name=plain[rows])
    number = made.groupby(["rank", "step", "name"], observed=True).cumcount().to_numpy()
    title = plain.copy()
    title[rows] = [f"{name} {index}" for name, index in zip(plain[rows], number, strict=True)]
    return title


def _inferred(forest: _calls.Calls, work: pd.DataFrame, row: Array) -> tuple[str, str, Array, Array] | None:
    """Return layers from the block of operators that repeats most on the first rank and step, found in all others."""
    top = _calls.outermost(forest, forest.of_kind("operator"))
    whose = _modules.belonging(forest)
    backward = np.where(row >= 0, whose.backward[np.maximum(row, 0)], False)
    source = np.where(row >= 0, whose.forward[np.maximum(row, 0)], -1)
    owner = np.where(source >= 0, top[np.maximum(source, 0)], -1)
    calls = np.unique(owner[(owner >= 0) & ~backward])
    rank, step = (forest.frame[name].to_numpy()[calls] for name in ("rank", "step"))
    code = forest.frame["name"].array.codes.astype(np.int64)
    layer = np.full(len(forest.start), "", dtype=object)
    told = False
    pattern = ""
    for _, part in pd.DataFrame({"rank": rank, "step": step, "call": calls}).groupby(["rank", "step"], sort=True):
        mine = part["call"].to_numpy()
        block = _blocks.repeated(code[mine])
        if block is None:
            continue
        names = forest.names(mine[block.first : block.first + block.length])
        pattern = pattern or f"the {block.length} operators from {names[0]} to {names[-1]} repeat {block.times} times"
        told = True
        inner = mine[block.first : block.first + block.length * block.times]
        layer[inner] = [f"block {index // block.length}" for index in range(len(inner))]
    titles = np.where(owner >= 0, layer[np.maximum(owner, 0)], "")
    held = work["length_ns"].to_numpy()[titles != ""].sum()
    if not told or held < LEAST_SHARE * work["length_ns"].sum():
        return None
    return pattern, "inferred", titles, backward


def _by_step(made: pd.DataFrame) -> pd.DataFrame:
    """Return device time per layer, rank and step."""
    made = made.assign(
        forward_s=made["length_s"].where(~made["backward"], 0.0),
        backward_s=made["length_s"].where(made["backward"], 0.0),
        communication_s=made["length_s"].where(made["communication"], 0.0),
    )
    found = made.groupby(["layer", "rank", "step"], sort=False)[["forward_s", "backward_s", "communication_s"]].sum()
    kernels = made.groupby(["layer", "rank", "step"], sort=False).size()
    found = found.assign(device_s=found["forward_s"] + found["backward_s"], kernels_count=kernels).reset_index()
    return found.sort_values(["layer", "rank", "step"], key=_natural, kind="stable").reset_index(drop=True)


def _natural(part: pd.Series) -> pd.Series:
    """Return keys that put layer 10 behind layer 9."""
    if part.name != "layer":
        return part
    cut = part.str.extract(r"^(.*?)(\d*)$")
    return cut[0].str.cat(cut[1].str.zfill(9))


def _by_layer(by_step: pd.DataFrame, whole_s: float) -> pd.DataFrame:
    """Return the median over ranks and steps per layer, and how far ranks and steps are apart."""
    groups = by_step.groupby("layer", sort=False)
    parts = ["device_s", "forward_s", "backward_s", "communication_s"]
    found = groups[parts].median().assign(kernels_count=groups["kernels_count"].median())
    found["share_ratio"] = groups["device_s"].sum() / max(whole_s, 1e-12)
    ranks = by_step.groupby(["layer", "rank"], sort=False)["device_s"].median().unstack()
    steps = by_step.groupby(["layer", "step"], sort=False)["device_s"].median().unstack()
    for name, wide in (("rank", ranks), ("step", steps)):
        wide = wide.reindex(found.index)
        found[f"{name}_spread_ratio"] = wide.max(axis=1) / wide.median(axis=1)
    found["slowest_rank"] = ranks.reindex(found.index).idxmax(axis=1)
    return found.reset_index()


def _said(table: pd.DataFrame, kind: str) -> tuple[str, ...]:
    time = table["device_s"]
    worst = table.iloc[int(time.to_numpy().argmax())]
    told = [
        f"{len(table)} layers ({kind}) take {table['share_ratio'].sum():.0%} of device time, "
        f"{time.median() * 1e3:.4g} ms each; "
        f"the longest is {worst['layer']} with {worst['device_s'] * 1e3:.4g} ms."
    ]
    if (table["backward_s"] > 0).any():
        ratio = table["backward_s"].sum() / max(table["forward_s"].sum(), 1e-12)
        told.append(f"Backward takes {ratio:.2f} times forward.")
    far = table[table["rank_spread_ratio"] > 1.1]
    for name, rank, spread in zip(far["layer"][:1], far["slowest_rank"][:1], far["rank_spread_ratio"][:1], strict=True):
        told.append(
            f"{len(far)} layers differ by more than 10 % between ranks: "
            f"{name} takes {spread:.2f} times the median on rank {rank}."
        )
    return tuple(told)
