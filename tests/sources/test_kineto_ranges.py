"""One trace read in ranges of its bytes is the trace read from end to end, whatever stands in it."""

import gzip
import json
from pathlib import Path

import pytest

from skewscope.frames import frame
from skewscope.sources import _gather_pool, gather
from skewscope.sources._kineto_ranges import ranged, ranges
from skewscope.sources._kineto_scan import Ask
from skewscope.sources.kineto import BLOCK_BYTES, Kineto

ROOT = Path(__file__).parents[2]
REAL = (
    "../shared/data/hta-kineto-tests/negative_queue_length_values_check__rank0.json.gz",
    "../shared/data/hta-kineto-tests/critical_path__alexnet__benchmark_result_2869224_1695835535_trace.json.gz",
    "../shared/data/local-gloo-kineto/clean-4rank/rank0.pt.trace.json.gz",
    "../shared/data/tracelens-kineto/mi300__Qwen_Qwen1.5-0.5B-Chat__1016005.json.gz",
    "../shared/data/hta-kineto-tests/amd_trace__mi250_minitoy_train_ROCm6_2_kineto.json.gz",
)
TOLD = ("rank", "node", "world_size", "events", "status", "error", "warnings", "job", "fingerprint")
HEADER = {"deviceProperties": [{"id": 0, "name": "H"}], "distributedInfo": {"rank": 1, "world_size": 2}}


def kernel(number, **more):
    return {
        "ph": "X", "cat": "kernel", "name": f"kernel_{number % 7}", "pid": 0, "tid": 7, "ts": 1000.0 + 10 * number,
        "dur": 4.0, "args": {"correlation": number, "stream": 7},
    } | more  # fmt: skip


def mark(number):
    return {"ph": "X", "cat": "user_annotation", "name": f"ProfilerStep#{number}", "pid": 9, "tid": 9,
            "ts": 1000.0 + 100 * number, "dur": 90.0}  # fmt: skip


def written(path, events, header=HEADER):
    path.write_text(json.dumps({**header, "traceEvents": events, "traceName": "t.json"}))
    return path


def same(path, range_bytes, detail=False, block_bytes=1 << 12):
    """Return the reading from end to end, after the one in ranges was found to be equal to it."""
    whole = Kineto()._read(path, detail=detail)
    parts = Kineto(block_bytes, range_bytes).read_ranges(path, 2, detail)
    assert [getattr(parts, name) for name in TOLD] == [getattr(whole, name) for name in TOLD]
    for (table, expected), (name, found) in zip(whole.batches, parts.batches, strict=True):
        assert name == table
        assert frame(table, found).astype(object).equals(frame(table, expected).astype(object)), table
    return whole


@pytest.mark.parametrize("detail", [False, True])
@pytest.mark.parametrize("name", REAL)
def test_real_traces_in_many_ranges(tmp_path, name, detail):
    if not (ROOT / name).exists():
        pytest.skip("no shared data")
    path = tmp_path / "rank0.json"
    path.write_bytes(gzip.decompress((ROOT / name).read_bytes()))
    range_bytes = path.stat().st_size // 7
    with path.open("rb") as file:
        assert len(ranges(file, path.stat().st_size, range_bytes, 1 << 16)) == 7
    assert ranged(Ask(path, 1 << 16), range_bytes, 1) is not None
    same(path, range_bytes, detail, 1 << 16)


@pytest.mark.parametrize("nested", [{}, {"list": [{"ph": "X"}] * 3}])
@pytest.mark.parametrize("range_bytes", range(700, 1500, 199))
def test_text_that_looks_like_a_border_is_none(tmp_path, range_bytes, nested):
    tricky = ('}, {"ph": "X", "name": "', '"}]}, {"ph": "X"}, {"', "}, {", "\\", '\\"}, {\\"', "]}")
    events = [
        kernel(number, name=f"k{tricky[number % len(tricky)]}", args={"correlation": number, **nested})
        for number in range(60)
    ]
    path = written(tmp_path / "rank1.json", [mark(0), *events, mark(5)])
    assert nested or ranged(Ask(path, 512), range_bytes, 1) is not None
    found = same(path, range_bytes, block_bytes=BLOCK_BYTES if nested else 512)
    assert (found.status, found.events) == ("ok", 62 + 60 * 3 * bool(nested))


def test_ranges_hold_every_byte_but_the_commas(tmp_path):
    path = written(tmp_path / "a.json", [kernel(number) for number in range(50)])
    text = path.read_bytes()
    with path.open("rb") as file:
        found = ranges(file, len(text), 1000, 1000)
    assert len(found) > 5
    assert (found[0][0], found[-1][1]) == (0, len(text))
    for (_, end), (begin, _) in zip(found, found[1:], strict=False):
        assert text[end:begin].strip() == b","
        json.loads(text[begin:].split(b', {"ph"')[0].split(b"]")[0])


@pytest.mark.parametrize("host_only", [False, True])
def test_a_trace_without_device_work(tmp_path, host_only):
    events = [kernel(number, cat="cpu_op", tid=number % 3) for number in range(60)]
    path = written(tmp_path / "rank1.json", [mark(0), *events], {} if host_only else HEADER)
    assert len(dict(same(path, 1500).batches)["ops"]["start_ns"]) == 60


def broken(text):
    return text.replace(b'"correlation": 41', b'"correlation": 41 41')


def control(text):
    return text.replace(b"kernel_3", b"kern\tel_3")


def cut(text):
    return text[: len(text) * 3 // 4]


def cut_between(text):
    return text[: text.rindex(b', {"ph"')]


def bare(text):
    return b"[" + text[text.index(b'[{"ph"') + 1 : text.rindex(b"]")]


@pytest.mark.parametrize("harm", [broken, control, cut, cut_between, bare])
def test_damage_is_told_as_from_end_to_end(tmp_path, harm):
    path = written(tmp_path / "rank1.json", [mark(0), *(kernel(number) for number in range(80))])
    path.write_bytes(harm(path.read_bytes()))
    found = same(path, 1500)
    assert found.status == ("ok" if harm in (control, bare) else "partial")


@pytest.mark.parametrize(
    "late",
    [
        {"tid": "stream seven"},  # numbered as it is met
        {"ts": 2.0**44 + 0.25},  # from here on times are read as decimals
    ],
)
def test_what_a_range_cannot_know_is_read_from_end_to_end(tmp_path, late):
    events = [mark(0), *(kernel(number) for number in range(60)), *(kernel(number, **late) for number in range(60, 80))]
    path = written(tmp_path / "rank1.json", events)
    assert ranged(Ask(path, 1 << 12), 1500, 1) is None
    same(path, 1500)


def test_compressed_traces_and_others_have_no_ranges(tmp_path):
    path = written(tmp_path / "rank1.json", [mark(0), *(kernel(number) for number in range(80))])
    text = path.read_bytes()
    path.write_bytes(gzip.compress(text, 0))
    assert ranged(Ask(path, 1 << 12), 1500, 1) is None
    same(path, 1500)
    path.write_bytes(b"[" + b"1, " * 4000 + b"1]")
    assert ranged(Ask(path, 1 << 12), 1500, 1) is None


def test_a_large_trace_is_shared_by_the_processes_and_others_are_not(tmp_path, monkeypatch):
    for rank in range(2):
        written(tmp_path / f"rank{rank}.json", [mark(0), *(kernel(number) for number in range(80 - 60 * rank))],
                {**HEADER, "distributedInfo": {"rank": rank, "world_size": 2}})  # fmt: skip
    asked = []
    monkeypatch.setattr(Kineto, "read_ranges", lambda self, path, workers, detail: asked.append((path.name, workers))
                        or self.read(path))  # fmt: skip
    monkeypatch.setattr(_gather_pool, "RANGED_BYTES", (tmp_path / "rank1.json").stat().st_size)
    kept = gather([tmp_path], workers=3)
    assert asked == [("rank0.json", 3)]
    assert [(item.rank, item.status) for item in kept.inputs] == [(0, "ok"), (1, "ok")]
    gather([tmp_path], workers=1)
    assert len(asked) == 1
