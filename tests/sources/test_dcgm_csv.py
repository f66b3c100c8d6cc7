import gzip
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources._dcgm_names import FIELDS
from skewscope.sources.dcgm_csv import DcgmCsv
from skewscope.sources.exposition_page import ExpositionPage

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

T0 = 1_700_000_000
MONITOR = """#Entity             GPUTL          POWER          TMPTR          SMCLK          XIDER          NOPE
ID                                 W              C
GPU 0               97             512.345        61             1980           0              5
GPU 1               N/A            498.000        60             1965           0              5
GPU 0               96             511.000        62             1200           79             5
GPU 1               95             499.000        60             1965           0              5
GPU-I 0             1              1              1              1              1              1
"""
CSV = """timestamp,hostname,gpu,DCGM_FI_DEV_GPU_TEMP,DCGM_FI_DEV_SM_CLOCK,DCGM_FI_PROF_PIPE_TENSOR_ACTIVE,other
1700000000,n1,0,61,1980,0.5,x
1700000030,n1,0,62,1200,0.25,x
1700000030,n2,GPU 3,63,,N/A,x
"""


def read(tmp_path, text, name="n5-dmon.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.utime(path, (T0 + 99, T0 + 99))
    return DcgmCsv().read(path)


def values(reading, metric, labels=""):
    found = frame("samples", dict(reading.batches)["samples"])
    found = found[(found["metric"] == f"skewscope_gpu_{metric}") & (found["labels"] == labels)]
    return [(row["node"], row["device"], round(row["t_ns"] / 1e9), row["value"]) for row in found.to_dict("records")]


def test_what_dmon_prints(tmp_path):
    reading = read(tmp_path, MONITOR)
    assert values(reading, "power_watts", "kind=average") == [
        ("n5", "gpu0", T0 + 98, 512.345), ("n5", "gpu0", T0 + 99, 511.0),
        ("n5", "gpu1", T0 + 98, 498.0), ("n5", "gpu1", T0 + 99, 499.0),
    ]  # fmt: skip
    assert values(reading, "utilization_ratio")[-1] == ("n5", "gpu1", T0 + 99, pytest.approx(0.95))
    assert len(values(reading, "utilization_ratio")) == 3
    assert values(reading, "clock_hertz", "domain=sm")[1] == ("n5", "gpu0", T0 + 99, 1.2e9)
    events = frame("events", dict(reading.batches)["events"])
    assert events[["device", "event", "code", "t_ns"]].values.tolist() == [["gpu0", "xid", 79, (T0 + 99) * 10**9]]
    assert reading.warnings == [
        "1 columns without a meaning here (NOPE)",
        "1 rows of links, switches, CPUs or parts of GPUs are left out",
        "no times in the file: one row a second, dcgmi's default, is taken, the last when it was written",
    ]


def test_dmon_with_times_before_its_lines_and_a_head_that_comes_again(tmp_path):
    text = (
        "2023-11-14T22:13:20 #Entity   POWER\n2023-11-14T22:13:20 ID W\n2023-11-14T22:13:20 GPU 0    500.0\n"
        "#Entity   TMPTR  POWER\nID\n1700000010.5 GPU 0   61     400.0\n"
    )
    reading = read(tmp_path, text)
    assert values(reading, "power_watts", "kind=average") == [("n5", "gpu0", T0, 500.0), ("n5", "gpu0", T0 + 10, 400.0)]
    assert not reading.warnings


def test_csv_with_names(tmp_path):
    reading = read(tmp_path, CSV)
    assert values(reading, "temperature_celsius", "sensor=gpu") == [
        ("n1", "gpu0", T0, 61.0), ("n1", "gpu0", T0 + 30, 62.0), ("n2", "gpu3", T0 + 30, 63.0),
    ]  # fmt: skip
    assert values(reading, "tensor_active_ratio") == [("n1", "gpu0", T0, 0.5), ("n1", "gpu0", T0 + 30, 0.25)]
    assert reading.warnings == ["1 columns without a meaning here (other)"] and reading.node == ""


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_csv_with_numbers_as_its_head(tmp_path, separator):
    rows = [["time", "entity", "150", "155", "9999"], ["2023-11-14 22:13:20", "GPU 2", "61", "500.5", "1"]]
    text = "\ufeff" + "\r\n".join(separator.join(row) for row in rows) + "\r\n"
    reading = read(tmp_path, text)
    assert values(reading, "temperature_celsius", "sensor=gpu") == [("n5", "gpu2", T0, 61.0)]
    assert values(reading, "power_watts", "kind=average") == [("n5", "gpu2", T0, 500.5)]


def test_bad_rows_do_not_sink_the_rest(tmp_path):
    text = CSV.replace(
        "x\n", "x\n1700000031,n1,0\nnever,n1,0,1,1,1,x\n1700000032,n1,zero,1,1,1,x\n1700000033,n1,0,hot,1,1,x\n", 1
    )
    reading = read(tmp_path, text + CSV)
    assert len(values(reading, "temperature_celsius", "sensor=gpu")) == 3
    assert reading.warnings[0] == "4 malformed lines (line 3, 4, 5, 6)" and "7 values repeat" in reading.warnings[2]


def test_blanks_of_dcgm_are_no_values(tmp_path):
    text = "time,gpu,150,155,156\n1700000000,0,2147483632,140737488355330.0,9223372036854775794\n1700000001,0,61,1,1\n"
    reading = read(tmp_path, text)
    assert reading.events == 3


def test_a_cut_file_gives_what_it_holds(tmp_path):
    reading = read(tmp_path, CSV + "1700000060,n1,0,6")
    assert (reading.status, reading.error) == ("partial", "the last line is cut") and reading.events == 7
    rng = np.random.default_rng(1)
    rows = "".join(f"{T0 + at},n1,0,{rng.integers(30, 90)},1980,{rng.random()},x\n" for at in range(5000))
    whole = gzip.compress((CSV + rows).encode())
    reading = read(tmp_path, whole[: len(whole) // 2], "n5.csv.gz")
    assert reading.status == "partial" and 1000 < reading.events < 15_000


@pytest.mark.parametrize(
    "text", ["time,gpu,9999\n1,0,5\n", "time,gpu,150\n", "#Entity  POWER\n", "#Entity NOPE\nGPU 0 5\n"]
)
def test_nothing_of_use_is_unreadable(tmp_path, text):
    with pytest.raises(Unreadable):
        read(tmp_path, text)


def test_only_such_tables_are_claimed():
    sniff = DcgmCsv().sniff
    assert sniff(MONITOR.encode(), "x") > 0.9 and sniff(CSV.encode(), "x") > 0.9
    assert sniff(b"time,gpu,150,155\n", "x") > 0.5 and sniff(b"step,rank,150\n1,2,3\n", "x") == 0
    assert sniff(b"a,b,c\n1,2,3\n", "dcgm.csv") == 0 and sniff(b"", "x") == 0
    page = b'DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-a"} 61\n'
    assert ExpositionPage().sniff(page, "x") > 0.9 and sniff(page, "x") == 0


def test_numbers_names_and_heads_of_fields_are_each_one_s_own():
    assert len({field.number for field in FIELDS}) == len(FIELDS) == len({field.head for field in FIELDS})
    names = [name for field in FIELDS for name in field.names]
    assert len(set(names)) == len(names)


METRICS = {
    "DCGM_FI_DEV_GPU_TEMP": ("temperature_celsius", "sensor=gpu", 1.0),
    "100": ("clock_hertz", "domain=sm", 1e6), "POWER": ("power_watts", "kind=average", 1.0),
    "other": ("", "", 0.0),
}  # fmt: skip


@drawn
@given(
    st.dictionaries(
        st.tuples(st.integers(0, 99), st.sampled_from(["n1", "n-2.x"]), st.integers(0, 7)),
        st.dictionaries(st.sampled_from(list(METRICS)), st.integers(0, 10**6), min_size=1), min_size=1, max_size=5,
    ),
    st.permutations(["time", "hostname", "gpu", *METRICS]), st.sampled_from([",", "\t", ";"]),
    st.sampled_from(["", "N/A", "-"]), st.booleans(),
)  # fmt: skip
def test_a_table_in_any_order_holds_what_was_written(tmp_path, told, order, separator, nothing, named):
    lines, want = [separator.join(order)], []
    for (second, host, gpu), seen in told.items():
        cells = {"time": T0 + second, "hostname": host, "gpu": f"GPU {gpu}" if named else gpu} | seen
        lines.append(separator.join(str(cells.get(head, nothing)) for head in order))
        want += [((T0 + second) * 10**9, host, f"gpu{gpu}", f"skewscope_gpu_{METRICS[head][0]}", METRICS[head][1],
                  value * METRICS[head][2]) for head, value in seen.items() if METRICS[head][0]]  # fmt: skip
    text = "# by hand\n" + "\n".join(lines) + "\n"
    if not want:
        with pytest.raises(Unreadable):
            read(tmp_path, text)
        return
    reading = read(tmp_path, text)
    rows = frame("samples", dict(reading.batches)["samples"])[["t_ns", "node", "device", "metric", "labels", "value"]]
    assert sorted(rows.itertuples(index=False, name=None)) == sorted(want)
    assert reading.warnings == ["1 columns without a meaning here (other)"] and reading.status == "ok"
