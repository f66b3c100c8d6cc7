"""A live view of recordings that grow, such as the hook's spool on one node: analysed anew at every look."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .frame import NAN, Frame, Job, Row
from .watched import findings_of, verdict_of

Read = Callable[[Path], tuple[dict[str, Any], Any]]  # a report and the frame of `rank_table`


class Recorded:
    """Analyses a folder with `read`, which gives its `skewscope.report/1` and its table of ranks."""

    def __init__(self, folder: Path, read: Read, clock_ns: Callable[[], int] = time.time_ns) -> None:
        if not folder.exists():
            raise UsageError(f"--spool {folder}: no such file or folder")
        self._folder, self._read, self._clock_ns = folder, read, clock_ns

    def frame(self) -> Frame:
        """Return what the recordings say now; raises SkewscopeError where nothing is readable yet."""
        report, ranks = self._read(self._folder)
        summary, job = report["summary"], report["job"]
        known = [_row(row) for row in ranks.to_dict("records")]
        wasted = summary.get("wasted_share")
        count = int(job["ranks"] or 0)
        name = next((row.job for row in known if row.job), "job")
        made = Job(
            name, count, _number(summary["step_time_s"]["p50"]), _number(summary["slowdown"]),
            count * wasted if wasted is not None else NAN, _number(summary["wasted_gpu_hours"]),
        )  # fmt: skip
        moment = int(job["end_ns"] or -1)
        return Frame(moment if moment > 0 else self._clock_ns(), str(self._folder), verdict_of(report), (made,),
                     findings_of(report), tuple(known))  # fmt: skip


def _row(row: dict[str, Any]) -> Row:
    own, wait = _number(row["own_s"]), _number(row["wait_s"])
    parts = [one for one in (own, wait, _number(row["transfer_s"])) if math.isfinite(one)]
    whole = sum(parts)
    share = wait / whole if whole > 0 and math.isfinite(wait) else NAN
    return Row(int(row["rank"]), str(row["node"]), "", str(row["job"]), step_s=whole if parts else NAN,
               work_ratio=_number(row["versus_ratio"]), wait_ratio=share)  # fmt: skip


def _number(value: Any) -> float:  # noqa: ANN401 - any JSON
    return NAN if value is None else float(value)
