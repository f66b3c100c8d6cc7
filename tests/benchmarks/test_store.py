"""The embedded store under windows of a simulated fleet: bytes per row, rows per second, and how both grow with it."""

import json
import resource
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from _measure import measure

COPIES = (3, 12)  # fleets of 132 nodes with 1,130 series each: about 400,000 series, and four times as many
BEGIN_NS, STEP_NS = 1_750_000_500 * 10**9, 30 * 10**9  # a stretch that is joined begins there
WINDOWS, FIRST = 31, 20  # one stretch that is joined and one window more; those before the first are of a job's start
SAMPLES_PER_ROW = 2  # a scrape every 15 s, windows of 30 s
DAY_ROWS = 400_000 * 24 * 3600 // 30
MOST_DAY_BYTES, LEAST_SAMPLES_PER_S, MOST_GROWTH = 5e9, 500_000, 1.05
MOST_PEAK_BYTES = 1536 << 20  # of joining
FREE_BYTES = 10 << 30  # the simulated fleets take most of it

pytestmark = pytest.mark.benchmark


def simulated(seed):
    """Return the windows of a healthy fleet, one table each."""
    from skewscope.simulate import simulate

    table = simulate("healthy-large", seed).tables["windows"]
    t_ns = table["t_ns"].to_numpy()
    ends = np.unique(t_ns)[FIRST : FIRST + WINDOWS]
    assert len(ends) == WINDOWS
    return [table[t_ns == end].reset_index(drop=True) for end in ends]


def fleet(each, number):
    """Return window `number` of all fleets as one."""
    from skewscope.frames import concat

    parts = []
    for copy, windows in enumerate(each):
        part = windows[number].copy(deep=False)
        part["t_ns"] = BEGIN_NS + (number + 1) * STEP_NS
        part["node"] = part["node"].cat.rename_categories([f"c{copy}-{name}" for name in part["node"].cat.categories])
        parts.append(part)
    return concat("windows", parts)


def now():
    return np.array([time.perf_counter(), time.process_time()])


def append(directory, copies, answer):
    """Keep the windows of so many fleets and write what it took."""
    from skewscope.store import Store
    from skewscope.store.series import ordered

    each = [simulated(seed) for seed in range(copies)]
    took, rows, series = np.zeros(2), 0, 0
    with Store(Path(directory)) as store:
        for number in range(WINDOWS):
            told = ordered(fleet(each, number))  # as it comes from `signals.windows`
            rows, series = rows + len(told), max(series, len(told))
            begin = now()
            store.append(told)
            took += now() - begin
        told = {"rows": rows, "series": series, "single_bytes": store.size_bytes(), "append": took.tolist()}
    Path(answer).write_text(json.dumps(told))


def join(directory, answer):
    """Join what was kept, read one metric of it, and write what it took."""
    from skewscope.store import Store

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with Store(Path(directory)) as store:
        begin = now()
        store.compact()
        joined = now()
        rows = len(store.read(*store.span(), metrics={"skewscope_gpu_power_watts"})["windows"])
        read = now() - joined
        assert not store.damaged
        told = {"bytes": store.size_bytes(), "compact": (joined - begin).tolist(), "before": before}
    files = len(list(Path(directory).glob("windows-*")))
    Path(answer).write_text(json.dumps(told | {"read_per_s": rows / read[1], "files": files}))


def kept(tmp_path, copies):
    """Return what it took to keep the windows of so many fleets."""
    directory, answer = tmp_path / f"store-{copies}", tmp_path / "answer.json"
    measure(append, str(directory), copies, str(answer))
    told = json.loads(answer.read_text())
    told["peak"] = measure(join, str(directory), str(answer)).peak_bytes
    told |= json.loads(answer.read_text())
    shutil.rmtree(directory)
    told["wall"], told["cpu"] = (told["append"][at] + told["compact"][at] for at in (0, 1))
    return told | {"per_row": told["bytes"] / told["rows"], "single": told["single_bytes"] / told["rows"]}


def free_bytes():
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])


def test_a_day_fits(tmp_path, capsys):
    if free_bytes() < FREE_BYTES:
        pytest.skip(f"wants {FREE_BYTES >> 30} GiB of free memory")
    found = [kept(tmp_path, copies) for copies in COPIES]
    for told in found:
        rows = told["rows"]
        with capsys.disabled():
            print(f"\n{told['series']:,} series, {rows:,} rows of 30 s: {told['single']:.2f} bytes per row as single "
                  f"windows, {told['per_row']:.2f} when joined ({told['files']} files); appended and joined "
                  f"{rows / told['wall']:,.0f} rows/s = {SAMPLES_PER_ROW * rows / told['wall']:,.0f} samples/s "
                  f"({rows / told['cpu']:,.0f} rows per CPU s; appending {told['append'][1] / WINDOWS:.2f} CPU s a "
                  f"window, joining {told['compact'][1]:.1f} CPU s); one metric read at {told['read_per_s']:,.0f} rows "
                  f"per CPU s; joining took up to {told['peak'] / 2**20:.0f} MiB ({told['before'] / 2**20:.0f} before "
                  f"it began); 24 h of 400,000 series: {told['per_row'] * DAY_ROWS / 1e9:.2f} GB")  # fmt: skip
    one, four = found
    with capsys.disabled():
        print(f"{four['series'] / one['series']:.2f} times the series: {four['bytes'] / one['bytes']:.2f} times the "
              f"bytes, {four['cpu'] / one['cpu']:.2f} times the CPU")  # fmt: skip
    for told in found:
        assert told["files"] == 2 and told["per_row"] * DAY_ROWS <= MOST_DAY_BYTES
        assert SAMPLES_PER_ROW * told["rows"] / told["cpu"] >= LEAST_SAMPLES_PER_S
        assert told["peak"] <= MOST_PEAK_BYTES
    assert four["per_row"] <= MOST_GROWTH * one["per_row"]


def test_noise_alone_fits_too(tmp_path, capsys):
    """A hard case: every series another gauge that never rests, both samples of a window of their own."""
    from skewscope.frames import frame
    from skewscope.store import Store

    chance, series = np.random.default_rng(0), 20_000
    base = np.exp(chance.normal(0, 8, series))
    with Store(tmp_path / "store") as store:
        for number in range(WINDOWS):
            first, last = base * (1 + 0.05 * chance.standard_normal((2, series)))
            store.append(frame("windows", {
                "t_ns": np.full(series, BEGIN_NS + (number + 1) * STEP_NS), "window_ns": STEP_NS, "node": "n",
                "rank": np.arange(series), "metric": "skewscope_gpu_power_watts", "mean_value": (first + last) / 2,
                "low_value": np.minimum(first, last), "high_value": np.maximum(first, last), "last_value": last,
                "samples_count": SAMPLES_PER_ROW,
            }))  # fmt: skip
        store.compact()
        per_row = store.size_bytes() / (series * WINDOWS)
    with capsys.disabled():
        print(f"\nnoise alone: {per_row:.2f} bytes per row; 24 h of 400,000 series: {per_row * DAY_ROWS / 1e9:.2f} GB")
    assert per_row * DAY_ROWS <= 1.1 * MOST_DAY_BYTES
