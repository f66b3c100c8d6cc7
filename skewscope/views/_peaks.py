"""What a GPU can do at most, by its name: arithmetic per precision and memory bandwidth, from `gpu_peaks.toml`."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DATA = Path(__file__).with_name("gpu_peaks.toml")
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "fp8")


@dataclass(frozen=True)
class Peaks:
    """Peaks of one device: `flops_per_s` by precision (tensor cores but for fp32), of memory, and their source."""

    name: str
    flops_per_s: dict[str, float]
    memory_bytes_per_s: float
    source: str

    def of(self, precision: str, unit: str) -> float:
        """Return the peak of arithmetic in a precision, NaN for unknown; `vector` work does without tensor cores.

        >>> peaks("NVIDIA A100-SXM4-80GB").of("bf16", "matrix") / 1e12
        312.0
        """
        if unit == "vector":
            precision = "fp32"
        return self.flops_per_s.get(precision, float("nan"))


def peaks(device: str) -> Peaks | None:
    """Return the peaks of a device by its name as the driver gives it, None for one that is not listed.

    >>> peaks("NVIDIA H100 80GB HBM3").name, peaks("NVIDIA A100-PG509-200").name, peaks("unheard of")
    ('H100 SXM', 'A100 40GB', None)
    """
    words = set(re.split(r"[^a-z0-9]+", re.sub(r"sxm\d?", lambda found: f"{found[0]} sxm", device.lower())))
    for one in _listed():
        if all(word in words for word in one[0]):
            return one[1]
    return None


@cache
def _listed() -> tuple[tuple[tuple[str, ...], Peaks], ...]:
    data = tomllib.loads(DATA.read_text(encoding="utf-8"))
    return tuple(
        (
            tuple(one["words"]),
            Peaks(
                one["name"],
                {key: one[key] * 1e12 for key in PRECISIONS if key in one},
                one["memory"] * 1e9,
                one["source"],
            ),
        )
        for one in data["gpu"]
    )
