"""What is declared of one exported metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

KINDS = ("gauge", "counter", "histogram", "summary", "recorded")


@dataclass(frozen=True)
class Metric:
    """One metric: `kind` is gauge, counter, histogram, summary or recorded (a recording rule).

    `labels` stand in the order in which they are exported; `values` lists what a label may say where that is fixed;
    `buckets` are the upper bounds of a histogram, without +Inf.
    """

    name: str
    kind: str
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.name}: kind {self.kind!r} is none of {', '.join(KINDS)}")
