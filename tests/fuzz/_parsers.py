"""All parsers of what others write: every reader of recordings, and what is read beside them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import _corpus
from _corpus import Seed

from skewscope import ras_report
from skewscope.acting import audit
from skewscope.agents.collectors import _engine_page, _flight_dump, _inspector_line
from skewscope.catalogue import rooms
from skewscope.errors import Unreadable
from skewscope.frames import part, united
from skewscope.kernel_messages import trouble
from skewscope.policy.settings import Policy
from skewscope.simulate.scenario import load as load_scenario
from skewscope.sources import _bytes, _exposition_lines, _gather_read, _numpy_file, _plain_pickle, _safetensors
from skewscope.sources._torch_file import TorchFile
from skewscope.spool import RingReader
from skewscope.store.reader import Reader
from skewscope.web._request import Inbox
from skewscope.web.web_config import WebConfig


@dataclass(frozen=True)
class Parser:
    """One parser: `run(name, data)` gives bytes to it as a file of that name; `seeds` are inputs that it can read.

    What is mutated comes of `small`, of the seeds themselves where there are none. Where `often` is given, three of
    four inputs go to it alone: it does what a parser with two ways of reading does on the longer one.
    """

    name: str
    run: Callable[[str, bytes], object]
    seeds: Callable[[], list[Seed]]
    small: Callable[[], list[Seed]] = list
    often: Callable[[str, bytes], object] | None = None


MADE = {
    "nsys-sqlite": _corpus.databases, "simulation-truth": _corpus.truths, "skewscope-trace": _corpus.own_traces,
    "flight-recorder": _corpus.pickles,
}  # fmt: skip


@cache
def parsers() -> dict[str, Parser]:
    """Return all parsers by name, the readers of recordings first."""
    readers = [_of_reader(room.id, room.load()) for room in rooms("sources")]
    return {one.name: one for one in (*readers, *_others())}


def _of_reader(name: str, reader: Any) -> Parser:
    detail = getattr(reader, "read_detail", None)
    ways = (reader.read, detail) if detail else (reader.read,)
    often = _as_file(_reading(reader, ways[1:])) if detail else None
    return Parser(name, _as_file(_reading(reader, ways)), **_seeds(name, made=MADE.get(name, list)), often=often)


def _seeds(*folders: str, made: Callable[[], Iterable[Seed]] = list) -> dict[str, Callable[[], list[Seed]]]:
    """Return the seeds of a parser, and the small ones."""

    def of(where: Path) -> list[Seed]:
        return [*(seed for folder in folders for seed in _corpus.shipped(folder, where)), *made()]

    return {"seeds": lambda: of(_corpus.SEEDS), "small": lambda: of(_corpus.SMALL)}


def _others() -> list[Parser]:
    return [
        Parser("plain-pickle", lambda _, data: _plain_pickle.load(data), **_seeds(made=_corpus.pickles)),
        Parser("torch-file", _torch, **_seeds("sglang-recorder")),
        Parser("numpy-file", _numpy, **_seeds("expert-array", made=_corpus.arrays)),
        Parser("safetensors", lambda _, data: _safetensors.arrays(data), **_seeds(made=_corpus.safetensors)),
        Parser("exposition-lines", _exposition, **_seeds(made=_corpus.pages)),
        Parser("web-config", _as_file(WebConfig), **_seeds(made=_corpus.web_files)),
        Parser("policy", _as_file(Policy.load), **_seeds(made=_corpus.policies)),
        Parser("scenario", _as_file(load_scenario), **_seeds(made=_corpus.scenarios)),
        Parser("http-request", _request, **_seeds(made=_corpus.requests)),
        Parser("audit", _as_file(_audit), **_seeds(made=_corpus.audits)),
        Parser("store", _store, **_seeds("store-segment")),
        Parser("ring", _as_file(_ring), **_seeds("ring-spool")),
        Parser("ras-report", lambda _, data: _ras(data), **_seeds("nccl-ras")),
        Parser("agent-flight-dump", _as_file(_dump), **_seeds("flight-recorder", made=_corpus.pickles)),
        Parser("agent-engine-page", lambda _, data: _engine(data), **_seeds("exposition-page", made=_corpus.pages)),
        Parser("agent-inspector-line", lambda _, data: _inspector(data), **_seeds("nccl-inspector")),
        Parser("kernel-messages", _kernel, **_seeds("kernel-log-text")),
    ]


@cache
def base() -> Path:
    """Return the folder for inputs, in memory where the system has one; it goes with the process that asked first."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    base.kept = tempfile.TemporaryDirectory(prefix="skewscope-fuzz-", dir=place)  # type: ignore[attr-defined]
    return Path(base.kept.name)  # type: ignore[attr-defined]


@cache
def _folder() -> Path:
    """Return this process's own part of it."""
    place = base() / str(os.getpid())
    place.mkdir(exist_ok=True)
    return place


def _as_file(run: Callable[[Path], object]) -> Callable[[str, bytes], object]:
    def ran(name: str, data: bytes) -> object:
        path = _folder() / name
        path.write_bytes(data)
        try:
            return run(path)
        finally:
            path.unlink()

    return ran


def _reading(reader: Any, ways: Iterable[Callable[[Path], Any]]) -> Callable[[Path], object]:
    """Return what reads a file as `skewscope analyze` does, as far as one reader is concerned."""

    def read(path: Path) -> None:
        if path.stat().st_size:
            reader.sniff(_bytes.head(path), path.name)
        for reading in [way(path) for way in ways]:
            parts: dict[str, list[Any]] = {}
            for table, columns in reading.batches:
                parts.setdefault(table, []).append(part(table, columns))
            for table, found in parts.items():
                united(table, found)
            _gather_read.holds(reading)
            _gather_read.fingerprint(reading)

    return read


def _torch(_: str, data: bytes) -> None:
    file = TorchFile(data)
    waiting = [file.value]
    for _ in range(200):
        if not waiting:
            break
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        else:
            _unless_unreadable(lambda one=one: file.array(one))


def _unless_unreadable(run: Callable[[], object]) -> None:
    with suppress(Unreadable):
        run()


def _numpy(_: str, data: bytes) -> None:
    if data[:2] == b"PK":
        for name in _numpy_file.Archive(data).names:
            _unless_unreadable(lambda name=name: _numpy_file.arrays(data, (name.removesuffix(".npy"),)))
    else:
        _numpy_file.array(data)


def _exposition(_: str, data: bytes) -> None:
    _exposition_lines.Lines(lambda name, labels: True).take(data.decode("utf-8", "replace").split("\n"))


def _request(_: str, data: bytes) -> None:
    for size in (len(data) or 1, 7):
        inbox = Inbox()
        for at in range(0, len(data), size):
            inbox.feed(data[at : at + size])
            if inbox.refused:
                break
        inbox.close()


def _audit(path: Path) -> None:
    audit.verify(path)
    audit.read(path)


def _store(name: str, data: bytes) -> None:
    folder = _folder() / "store"
    folder.mkdir(exist_ok=True)
    (folder / _corpus.STORE_ABOUT).write_text(_corpus.STORE_SAYS)
    path = folder / name
    path.write_bytes(data)
    try:
        Reader(folder).read(0, 1 << 62)
    finally:
        path.unlink()


def _ring(path: Path) -> None:
    reader = RingReader(path)
    try:
        for _ in range(3):
            reader.refresh()
            reader.drain().rows  # noqa: B018 - making the rows is what is tried
    finally:
        reader.close()


def _kernel(_: str, data: bytes) -> None:
    for line in data.split(b"\n"):
        trouble(line)


def _ras(data: bytes) -> None:
    ras_report.reports(data.decode("utf-8", "replace"))


def _dump(path: Path) -> None:
    _flight_dump.read(str(path), os.getuid())


def _engine(data: bytes) -> None:
    _engine_page.samples(data.decode("utf-8", "replace"), "a:1")


def _inspector(data: bytes) -> None:
    for line in data.split(b"\n"):
        with suppress(ValueError, TypeError, OverflowError):  # its caller counts these as lost lines
            _inspector_line.parse(line)
