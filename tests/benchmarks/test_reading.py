"""Our trace reader beside the floor: decompression and typed decoding of the same bytes, in one process each."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # also when a fresh process loads this file alone

from _measure import measure  # noqa: E402
from _sets import REAL, large, negq  # noqa: E402

BENCH = HERE.parents[1] / ".bench"
MOST_CPU = 1.35  # of the floor, imports left out on both sides
RUNS = 3
MOST_BYTES = 200 << 20
LARGE_BYTES = 2_000_000_000

pytestmark = [pytest.mark.benchmark, pytest.mark.skipif(not REAL.exists(), reason="no shared data")]


def floor(*paths: str) -> None:
    """Decompress and decode, keeping nothing."""
    import msgspec
    from isal import igzip

    args = msgspec.defstruct("Args", [
        ("stream", int | None, None), ("correlation", int | None, None), ("bytes", int | None, None),
        ("coll", str | None, msgspec.field(name="Collective name", default=None)),
        ("nin", int | None, msgspec.field(name="In msg nelems", default=None)),
        ("nout", int | None, msgspec.field(name="Out msg nelems", default=None)),
        ("size", int | None, msgspec.field(name="Group size", default=None)), ("dtype", str | None, None),
        ("group", str | None, msgspec.field(name="Process Group Name", default=None)),
        ("seq", int | None, msgspec.field(name="Seq", default=None)),
    ], gc=False)  # fmt: skip
    event = msgspec.defstruct("Event", [
        ("ph", str, ""), ("cat", str, ""), ("name", str, ""), ("pid", int | str, 0), ("tid", int | str, 0),
        ("ts", float, 0.0), ("dur", float, 0.0), ("args", args | None, None),
    ], gc=False)  # fmt: skip
    decoder = msgspec.json.Decoder(msgspec.defstruct("Trace", [("traceEvents", list[event])]))
    gc.disable()
    for path in paths:
        with igzip.open(path) as file:
            decoder.decode(file.read())


def ours(*paths: str) -> None:
    """Read with the product's reader, keeping nothing."""
    from skewscope.sources.kineto import Kineto

    for path in paths:
        assert Kineto().read(Path(path)).status == "ok"


def ours_in_ranges(path: str) -> None:
    """Read one large file with two processes, keeping nothing."""
    from skewscope.sources.kineto import Kineto

    assert Kineto().read_ranges(Path(path), 2).status == "ok"


@pytest.mark.parametrize("ranks", [4, 16])
def test_reading_stays_near_the_floor(ranks, capsys):
    paths = [str(path) for path in negq(BENCH / f"negq-{ranks}", ranks)]
    base, base_start, own, own_start = _least(floor, *paths), _least(floor), _least(ours, *paths), _least(ours)
    ratio = (own.cpu_s - own_start.cpu_s) / (base.cpu_s - base_start.cpu_s)
    with capsys.disabled():
        print(
            f"\n{ranks:3d} ranks: floor {base.cpu_s:.2f} CPU s (of it imports {base_start.cpu_s:.2f}), "
            f"ours {own.cpu_s:.2f} ({own_start.cpu_s:.2f}), ratio of reading {ratio:.2f}, of all "
            f"{own.cpu_s / base.cpu_s:.2f}; peak {base.peak_bytes / 2**20:.0f} and {own.peak_bytes / 2**20:.0f} MiB"
        )
    assert ratio <= MOST_CPU
    assert own.peak_bytes <= MOST_BYTES


def _least(what, *paths):
    """Return the cheapest of a few runs: other work on the machine only ever adds."""
    return min((measure(what, *paths) for _ in range(RUNS)), key=lambda cost: cost.cpu_s)


def test_a_file_of_two_gigabytes_fits_in_memory(capsys):
    path = large(BENCH, LARGE_BYTES)
    cost = measure(ours, str(path))
    with capsys.disabled():
        print(f"\n2 GB file: ours {cost.cpu_s:.2f} CPU s, peak {cost.peak_bytes / 2**20:.0f} MiB")
    assert cost.peak_bytes <= MOST_BYTES


def test_two_gigabytes_in_ranges_fit_in_memory(capsys):
    path = large(BENCH, LARGE_BYTES, plain=True)
    try:
        alone, shared = measure(ours, str(path)), measure(ours_in_ranges, str(path))
    finally:
        path.unlink()
    with capsys.disabled():
        for name, cost in (("from end to end", alone), ("in ranges", shared)):
            print(f"\n2 GB of plain text {name}: {cost.cpu_s:.2f} CPU s, {cost.wall_s:.1f} s, largest process "
                  f"{cost.peak_bytes / 2**20:.0f} MiB")  # fmt: skip
    assert shared.peak_bytes <= MOST_BYTES
