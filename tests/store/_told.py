"""Small windows that are known by their number alone, and processes that append them; `python _told.py WHAT ARG...`."""

import resource
import sys
from pathlib import Path

import numpy as np

from skewscope.frames import frame
from skewscope.store import Store, StoreFull

STEP_NS = 30 * 10**9
SERIES = 500


def window(number, series=SERIES):
    """Return window `number` (1, 2, ...); its values follow from the number."""
    values = np.arange(series) + number * 1000.0
    return frame("windows", {
        "t_ns": np.full(series, number * STEP_NS), "window_ns": STEP_NS, "node": [f"n{i % 7}" for i in range(series)],
        "device": [f"gpu{i}" for i in range(series)], "metric": [f"skewscope_metric_{i % 3}" for i in range(series)],
        "mean_value": values, "low_value": values, "high_value": values, "last_value": values, "samples_count": 2,
    })  # fmt: skip


def in_words(table):
    """Return a table with text where it has categories; pandas compares unlike categories one element at a time."""
    return table.assign(**{name: table[name].astype(str) for name in table.columns[table.dtypes == "category"]})


def numbers_of(table):
    """Return the numbers of the windows in a table; raises where one of them is not as it was told."""
    found = sorted(set((table["t_ns"] // STEP_NS).tolist()))
    for number in found:
        rows = table[(table["t_ns"] == number * STEP_NS).to_numpy()]
        device = rows["device"].astype(str).str.removeprefix("gpu").astype(int)
        assert sorted(device) == list(range(SERIES))
        assert (rows["last_value"] == device + number * 1000.0).all()
    return found


def append(directory, first, every):
    """Append windows for ever and say each number once it is kept, and compact after every so many."""
    with Store(Path(directory), segment_s=300) as store:
        for number in range(int(first), 1 << 30):
            store.append(window(number))
            print(number, flush=True)
            if number % int(every) == 0:
                store.compact()


def hold(directory):
    """Hold the store until the input ends."""
    with Store(Path(directory)) as store:
        store.append(window(1))
        print("held", flush=True)
        sys.stdin.read()


def limited(directory, most_bytes):
    """Write under a limit on the size of files: say what became of a small, a large, and another small window."""
    with Store(Path(directory)) as store:
        store.append(window(1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(most_bytes), resource.RLIM_INFINITY))
        for number, series in ((2, 200_000), (3, SERIES)):
            try:
                store.append(window(number, series))
                print(number, "kept", numbers_of(store.read(0, 1 << 62)["windows"]))
            except StoreFull as error:
                print(number, "full", numbers_of(store.read(0, 1 << 62)["windows"]), str(error).count("room"))


if __name__ == "__main__":
    {"append": append, "hold": hold, "limited": limited}[sys.argv[1]](*sys.argv[2:])
