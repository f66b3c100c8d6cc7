"""A short turn of the fuzzer over every parser, and all inputs that once made a fault; `make fuzz` takes long turns."""

from __future__ import annotations

import gzip
import multiprocessing
import os
import random
import zlib
from pathlib import Path

import _corpus
import _mutate
import _parsers
import _run
import _smaller
import pytest

from skewscope.catalogue import rooms
from skewscope.errors import SkewscopeError, Unreadable

PARSERS = _parsers.parsers()
SEED = 1
BUSY_S = 0.25  # of one parser, about
MADE_WRONG = [
    pytest.param(parser, name, data, id=f"{parser}-{number}")
    for parser in PARSERS
    for number, (name, data) in enumerate(_corpus.shipped(parser, _corpus.REGRESSIONS))
]


@pytest.mark.parametrize("name", PARSERS)
def test_a_short_turn_finds_nothing(name: str):
    result = _run.fuzz(PARSERS[name], 120, SEED, seconds=BUSY_S * 8, traced_every=0, shrunk=False, busy_s=BUSY_S)
    assert not result.faults, "\n".join(fault.told for fault in result.faults.values())
    assert result.executions >= 1


@pytest.mark.parametrize(("parser", "name", "data"), MADE_WRONG)
def test_what_was_mended_stays_so(parser: str, name: str, data: bytes):
    with _run.guarded():
        fault, _ = _run.attempt(PARSERS[parser].run, name, data)
    assert fault is None, fault.told


def test_every_reader_has_a_seed_that_it_reads():
    for room in rooms("sources"):
        parser = PARSERS[room.id]
        good = 0
        for name, data in parser.seeds():
            try:
                parser.run(name, data)
                good += 1
            except SkewscopeError:
                pass  # some seeds are damaged on purpose
        assert good, f"no seed of {room.id} can be read"


def test_regressions_and_seeds_are_of_parsers():
    for folder in (_corpus.REGRESSIONS, _corpus.SEEDS, _corpus.SMALL):
        strange = {place.name for place in folder.iterdir() if place.is_dir()} - set(PARSERS)
        assert not strange, f"{folder.name} of no parser: {strange}"


def picky(name: str, data: bytes) -> None:
    if data.startswith(b"abc"):
        raise Unreadable("as it should be")
    if b"}}" in data:
        raise KeyError("a mistake")
    if b"loop" in data:
        while True:
            zlib.crc32(data)


def test_a_mistake_is_found_and_made_small():
    parser = _parsers.Parser("picky", picky, lambda: [("a", b'xyz {"a": {"b": 1}} xyz' * 9)])
    faults = _run.fuzz(parser, 3, SEED, traced_every=0).faults
    assert [fault.data for fault in faults.values()] == [b"}}"] and next(iter(faults)).startswith("KeyError")
    assert not _run.fuzz(_parsers.Parser("picky", picky, lambda: [("a", b"abc }}")]), 1, SEED).faults


def test_three_of_four_inputs_take_the_longer_way_alone():
    taken: list[str] = []
    parser = _parsers.Parser(
        "two-ways",
        lambda name, data: taken.append("both"),
        lambda: [("a", b"abc"), ("b", b"abd")],
        often=lambda name, data: taken.append("longer"),
    )
    _run.fuzz(parser, 10, SEED, traced_every=0)
    assert taken == ["both"] * 2 + ["longer"] * 2 + ["both"] + ["longer"] * 3 + ["both", "longer"]


def test_the_input_of_a_process_that_dies_is_left(tmp_path: Path):
    def dies(name: str, data: bytes) -> None:
        os._exit(3)

    path = tmp_path / "a.last"
    parser = _parsers.Parser("dies", dies, lambda: [("a", b"abc" * 9)])
    child = multiprocessing.get_context("fork").Process(target=_run.fuzz, args=(parser, 1), kwargs={"last": path})
    child.start()
    child.join()
    _run.Last.unwrap(path)
    assert child.exitcode == 3 and path.read_bytes() == b"abc" * 9


def test_seeds_are_made_smaller(tmp_path: Path):
    parser, seeds, small = PARSERS["kernel-log-text"], tmp_path / "seeds", tmp_path / "small"
    seeds.mkdir()
    lines = [f"[   {second}.000000] nfs: server of {second} OK" for second in range(40)]
    (seeds / "00--n5.dmesg.txt").write_text("\n".join(lines) + "\n")
    (seeds / "01--n5.dmesg.gz").write_bytes(gzip.compress("\n".join(lines).encode() * 9)[:-9])  # of a damaged stream
    before, after = _smaller.cut(parser, seeds, small)
    assert after < before / 2 and [path.name for path in sorted(small.iterdir())] == [
        path.name for path in sorted(seeds.iterdir())
    ]
    for path in seeds.iterdir():
        reached = [_smaller._ways(parser, path.name[4:], place.read_bytes()) for place in (path, small / path.name)]
        assert reached[0] and reached[0] <= reached[1]


def test_small_seeds_are_of_the_seeds():
    for path in _corpus.SMALL.glob("*/*--*"):
        seed = _corpus.SEEDS / path.parent.name / path.name
        assert seed.stat().st_size >= path.stat().st_size, f"{path} is no cut {seed}: run tests/fuzz/_smaller.py"


def test_what_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_run, "LONGEST_S", 0.05)
    parser = _parsers.Parser("picky", picky, lambda: [("a", b"loop")])
    assert list(_run.fuzz(parser, 1, traced_every=0, shrunk=False).faults) == ["TooLong-outside"]


def test_the_same_seed_makes_the_same_inputs():
    seeds = [data for _, data in PARSERS["flight-recorder"].seeds()]

    def made(seed: int) -> list[bytes]:
        chance = random.Random(seed)
        mutator = _mutate.Mutator(seeds, chance)
        return [mutator.mutate(chance.choice(seeds), chance.choice(seeds)) for _ in range(200)]

    assert made(3) == made(3) != made(4)


def test_new_ways_are_seen_once():
    from skewscope.kernel_messages import trouble

    lines = _run.Lines()
    with lines:
        trouble(b"NVRM: Xid (PCI:0000:18:00): 79, GPU has fallen off the bus.")
    assert lines.fresh and lines.seen
    lines.fresh = False
    with lines:
        trouble(b"NVRM: Xid (PCI:0000:18:00): 79, GPU has fallen off the bus.")
    assert not lines.fresh
