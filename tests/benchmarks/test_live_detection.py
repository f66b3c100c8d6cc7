"""What one live look costs: half an hour of a whole fleet through all rooms that read metric windows."""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from _measure import measure

BASE_RANKS, WINDOW_S = 64, 30.0
FLEETS = ((2_500, 60), (10_000, 60), (40_000, 20))  # ranks, windows: 20 keep the largest table below 6 GiB
BYTES_PER_ROW, ROWS_PER_RANK = 55, 100
LOOK_S = WINDOW_S  # a look at 10,000 ranks must be over before the next window ends

pytestmark = pytest.mark.benchmark


def base(windows):
    """Return the windows of a healthy simulated job of 64 ranks, of those metrics that any room reads."""
    from skewscope.catalogue import rooms
    from skewscope.frames import all_tables
    from skewscope.signals import view

    asked, plain = set(), view.signal

    def noting(tables, metric, **more):
        asked.add(metric)
        return plain(tables, metric, **more)

    view.signal = noting  # before any room is imported; this process makes the table and ends
    from skewscope.simulate import scenario, simulate

    plan = scenario("healthy-training")
    steps = int(windows * WINDOW_S / plan.jobs[0].step_s)
    rows = simulate(plan.sized(ranks=BASE_RANKS, steps=steps), 0).tables["windows"]
    rows = rows[(rows["t_ns"] <= np.unique(rows["t_ns"])[:windows][-1]).to_numpy()]
    hosts = rows.loc[rows["rank"] >= 0, "node"].unique().tolist()  # without spares
    rows = rows[rows["node"].isin(hosts).to_numpy()]
    for room in live(rooms("detectors")):
        list(room.load().detect(all_tables({"windows": rows})))
    return rows[rows["metric"].isin(asked).to_numpy()].reset_index(drop=True)


def live(rooms):
    return [room for room in rooms if "windows" in room.kind().needs]


def tiled(rows, times):
    """Return the rows of so many copies of a fleet as one job, as the service holds them: other hosts and ranks."""
    from skewscope.watch.rolling import SLIM

    rows = rows.astype(SLIM)
    nodes = rows["node"].cat.remove_unused_categories()
    many = len(nodes.cat.categories)
    series = np.diff(rows["metric"].cat.codes.to_numpy().astype(np.int64) * 1000 + rows["labels"].cat.codes) != 0
    begins = np.concatenate(([0], np.flatnonzero(series) + 1, [len(rows)]))
    blocks = [np.arange(begin, end, dtype=np.int32) for begin, end in zip(begins, begins[1:], strict=False)]
    index = np.concatenate([np.tile(block, times) for block in blocks])
    copy = np.concatenate([np.repeat(np.arange(times, dtype=np.int32), len(block)) for block in blocks])
    names = [f"{name}-{number}" for number in range(times) for name in nodes.cat.categories]
    made = {}
    for name in rows.columns:
        column = rows[name]
        if name == "node":
            codes = nodes.cat.codes.to_numpy().astype(np.int32)[index] + copy * many
            made[name] = pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype=object))
        elif isinstance(column.dtype, pd.CategoricalDtype):
            made[name] = pd.Categorical.from_codes(column.cat.codes.to_numpy()[index], dtype=column.dtype)
        else:
            made[name] = column.to_numpy()[index]
    made["rank"] = np.where(made["rank"] >= 0, made["rank"] + copy * BASE_RANKS, -1).astype(np.int32)
    return pd.DataFrame(made, copy=False)


def prepare(ranks, windows, path):
    tiled(base(windows), ranks // BASE_RANKS).to_pickle(path)


def detect(path, answer):
    """Ask all rooms that need windows, and write what it took."""
    from skewscope.catalogue import rooms
    from skewscope.frames import all_tables

    tables = all_tables({"windows": pd.read_pickle(path)})
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    took, found = {}, 0
    for room in live(rooms("detectors")):
        begin = time.process_time()  # a core of its own: others may share this machine
        found += sum(one.role == "culprit" for one in room.load().detect(tables))
        took[room.id] = time.process_time() - begin
    told = {"rows": len(tables["windows"]), "loaded": loaded, "took": took, "found": found}
    Path(answer).write_text(json.dumps(told))


def free_bytes():
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])


@pytest.mark.parametrize(("ranks", "windows"), FLEETS)
def test_a_live_look(ranks, windows, tmp_path, capsys):
    wanted = 3 * BYTES_PER_ROW * ROWS_PER_RANK * ranks * windows
    if free_bytes() < wanted:
        pytest.skip(f"{ranks} ranks want {wanted >> 30} GiB of free memory")
    path, answer = tmp_path / "windows.pickle", tmp_path / "answer.json"
    measure(prepare, ranks, windows, str(path))
    cost = measure(detect, str(path), str(answer))
    path.unlink()
    told = json.loads(answer.read_text())
    total = sum(told["took"].values())
    slowest = sorted(told["took"].items(), key=lambda item: -item[1])[:6]
    with capsys.disabled():
        print(f"\nlive look, {ranks} ranks x {windows} windows, {told['rows']:,} rows, {len(told['took'])} rooms: "
              f"{total:.1f} CPU s, peak {cost.peak_bytes / 2**30:.1f} GiB ({told['loaded'] / 2**30:.1f} with the table "
              f"alone), {windows * WINDOW_S / total:.0f} times real time, {told['found']} claims; slowest: "
              + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in slowest))  # fmt: skip
    if ranks <= 10_000:
        assert total < LOOK_S
