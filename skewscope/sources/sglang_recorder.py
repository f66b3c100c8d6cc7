"""Expert distributions that SGLang's recorder dumps (`.pt`), and maps for its `--init-expert-location`.

Modes `stat` and `stat_approx` write one file with `logical_count` [buffer, layers, experts], summed over ranks; the
buffer is a ring, so its places are no times. `per_pass` and `per_token` write a file per rank with a record for each
forward pass: tokens per slot, which the map of slots folds to experts. The files are read without PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..contracts import Reading
from ..errors import Unreadable
from . import _bytes, _expert_join, _expert_rows
from ._torch_file import TorchFile, is_mapping

Array = np.ndarray[Any, Any]

KEYS = (b"logical_count", b"global_physical_count", b"physical_to_logical_map", b"topk_ids_of_layer")
PHASES = {1: "prefill", 2: "decode", 5: "decode"}  # values of ForwardMode: extend, decode, verify of drafted tokens
MAP, LAST_MAP, COUNT, PICKS = "physical_to_logical_map", "last_physical_to_logical_map", *(
    "global_physical_count", "topk_ids_of_layer"
)  # fmt: skip


class SglangRecorder:
    """Reads `expert_distribution_recorder_*.pt`."""

    format: ClassVar[str] = "sglang-recorder"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1; other files of PyTorch get a little, so that their refusal is told."""
        if not head.startswith(b"PK\x03\x04") or b"data.pkl" not in head[:512]:
            return 0.0
        return 0.97 if any(key in head for key in KEYS) else 0.3

    def read(self, path: Path) -> Reading:
        """Return `expert_loads` and `expert_placements`; raises Unreadable for files that hold neither."""
        content, damage = _bytes.whole(path)
        file = TorchFile(content)
        reading = Reading(str(path), self.format)
        value = file.value
        if not is_mapping(value):
            raise Unreadable("a PyTorch file without the dictionary of a recorder")
        if "logical_count" in value:
            self._stat(file, value, reading)
        elif isinstance(value.get("records"), Sequence) and value["records"]:
            self._passes(file, value, reading)
        elif MAP in value:
            table = file.array(value[MAP])
            reading.batches.append(_expert_rows.placements(_map(table), np.arange(len(table)), source=self.format))
        else:
            raise Unreadable(
                "a PyTorch file without logical_count, records or a map of slots",
                "start the recording before the load, dump it after",
            )
        reading.events = sum(_expert_rows.length(columns) for _, columns in reading.batches)
        if damage:
            reading.status, reading.error = "partial", damage
        return reading

    def _stat(self, file: TorchFile, value: Mapping[str, Any], reading: Reading) -> None:
        counts = file.array(value["logical_count"])
        counts = counts[None] if counts.ndim == 2 else counts
        steps, layers = (np.arange(size) for size in (*counts.shape, 0, 0)[:2])
        made, told = _expert_rows.loads(counts, steps, layers, source=f"{self.format}-stat", unordered=len(steps) > 1)
        reading.batches, reading.warnings = made, told
        reading.job = {"join": _expert_join.sum_ranks}
        rate = value.get("average_utilization_rate_over_window")
        if isinstance(rate, float) and 0 < rate <= 1:
            reading.batches.append(("balance_reports", {
                "job": "job", "step": [-1], "layer": -1, "definition": "sglang", "balance_ratio": [rate],
                "source": self.format,
            }))  # fmt: skip

    def _passes(self, file: TorchFile, value: Mapping[str, Any], reading: Reading) -> None:
        passes: dict[str, dict[int, Array]] = {}
        table = _map(file.array(value[LAST_MAP])) if LAST_MAP in value else None
        slots = 0 if table is None else table.shape[1]
        broken, reason = 0, ""
        for record in value["records"]:
            try:
                phase, step, counts = _record(file, record, slots)
            except Unreadable as error:
                broken, reason = broken + 1, reason or str(error)
                continue
            known = passes.setdefault(phase, {}).get(step)
            if known is not None and known.shape != counts.shape:
                broken, reason = broken + 1, reason or "records of one pass with different shapes"
            else:
                passes[phase][step] = counts if known is None else known.astype(np.int64) + counts
            reading.rank = max(reading.rank, _number(record.get("rank"), -1))
        if not passes:
            raise Unreadable(f"none of {broken} records can be read: {reason}")
        for phase, found in sorted(passes.items()):
            self._phase(phase, found, table, reading)
        if table is not None and reading.batches:
            first = min(min(found) for found in passes.values())
            layers = np.arange(len(table))
            reading.batches.append(_expert_rows.placements(table, layers, source=self.format, step=first))
        reading.job = {"join": _expert_join.sum_ranks}
        if broken:
            reading.status, reading.error = "partial", f"{broken} of {len(value['records'])} records left out: {reason}"

    def _phase(self, phase: str, found: Mapping[int, Array], table: Array | None, reading: Reading) -> None:
        steps = sorted(found)
        shape = found[steps[0]].shape
        fitting = [step for step in steps if found[step].shape == shape]
        if table is None:
            reading.warnings.append("the file holds no map of slots: each slot is taken for an expert of its own")
        elif table.shape != shape:
            raise Unreadable(f"the map of slots is {table.shape}, the counts are {shape}")
        elif len(np.unique(table)) < table.shape[1]:
            reading.warnings.append(
                "all passes are folded with the map at the recording's end: a rebalance in between would misplace "
                "tokens; record between two rebalances"
            )
        if len(fitting) < len(steps):
            reading.warnings.append(f"{len(steps) - len(fitting)} passes of another shape are left out")
        counts = np.stack([found[step] for step in fitting])
        made, told = _expert_rows.loads(
            counts, fitting, np.arange(shape[0]), source=self.format, rank=reading.rank, experts=table, phase=phase
        )
        reading.batches += made
        reading.warnings += told


def _record(file: TorchFile, record: Any, slots: int) -> tuple[str, int, Array]:  # noqa: ANN401 - of a foreign file
    """Return phase, number and tokens per slot [L, P] of one forward pass; raises Unreadable."""
    if not is_mapping(record):
        raise Unreadable("a record that is no dictionary")
    step = _number(record.get("forward_pass_id"), -1)
    if step < 0:
        raise Unreadable("a record without forward_pass_id")
    phase = PHASES.get(_number(record.get("forward_mode"), 0), "")
    if COUNT in record:
        counts = file.array(record[COUNT])
    elif PICKS in record:
        counts = _picks(file.array(record[PICKS]), slots)
    else:
        raise Unreadable(f"a record without {COUNT} and {PICKS}")
    if counts.ndim != 2 or not counts.size:
        raise Unreadable(f"counts of one pass want [layers, slots], not {counts.shape}")
    return phase, step, _expert_rows.whole(counts)


def _picks(ids: Array, slots: int) -> Array:
    """Return counts [L, P] of picks [L, tokens, k]; -1 is padding, and there are `slots`, or more where one is picked.

    >>> _picks(np.array([[[0, 2], [2, -1]]]), 4).tolist()
    [[1, 0, 2, 0]]
    """
    if ids.ndim != 3 or ids.dtype.kind not in "iu" or not len(ids):
        raise Unreadable(f"picks want whole numbers [layers, tokens, k], not {ids.dtype} {ids.shape}")
    width = max(slots, int(ids.max(initial=-1)) + 1)
    if not 0 < width <= _expert_rows.MOST_EXPERTS:
        raise Unreadable(f"picks of slot {width - 1} cannot be meant")
    layer = np.broadcast_to(np.arange(len(ids))[:, None, None], ids.shape)
    held = ids >= 0
    return np.bincount(layer[held] * width + ids[held], minlength=len(ids) * width).reshape(len(ids), width)


def _map(table: Array) -> Array:
    if table.ndim != 2 or table.dtype.kind not in "iu" or not table.size:
        raise Unreadable(f"a map of slots wants whole numbers [layers, slots], not {table.dtype} {table.shape}")
    return table.astype(np.int64)


def _number(value: Any, otherwise: int) -> int:  # noqa: ANN401 - of a foreign file
    return value if isinstance(value, int) and 0 <= value < 1 << 53 else otherwise
