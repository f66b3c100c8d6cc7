"""What earlier versions kept on disk is read by this one; what a later one kept is refused and left as it is."""

from __future__ import annotations

import json
import logging
import re
import shutil
from functools import partial
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from skewscope.acting.audit import Audit, AuditError, read, verify
from skewscope.errors import UsageError
from skewscope.sources._cache_file import MAGIC, Damaged, decoded
from skewscope.store import Reader, Store, StoreError
from skewscope.store.folder import VERSION
from skewscope.watch.notify.alertmanager import Alertmanager
from skewscope.watch.notify.messages import notification
from skewscope.watch.notify.outbox import Outbox

HERE = Path(__file__).parent
F = SimpleNamespace(**run_path(str(HERE / "_formats.py")))
W = SimpleNamespace(**run_path(str(HERE.parent / "watch" / "_watched.py")))
FORMATS = sorted((HERE / "formats").iterdir())
MOST_BYTES = 200_000


@pytest.fixture(params=FORMATS, ids=lambda folder: folder.name)
def copy(request, tmp_path: Path) -> Path:
    """Return a copy of what was kept in one format."""
    return Path(shutil.copytree(request.param, tmp_path / "kept"))


def every_file(folder: Path) -> dict[str, tuple[bytes, int]]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def test_the_fixtures_are_small_and_those_of_today_are_among_them():
    assert [one.name for one in FORMATS] == [str(number + 1) for number in range(VERSION)] and F.NOW == VERSION
    assert sum(len(content) for content, _ in every_file(HERE / "formats").values()) < MOST_BYTES


def same(found: pd.DataFrame, wanted: pd.DataFrame) -> bool:
    names = {"windows": ["node", "device", "metric", "t_ns"], "events": ["t_ns", "node"]}
    keys = names["windows" if "metric" in wanted else "events"]
    plain = [
        one.astype({name: str for name in one.select_dtypes("category")}).sort_values(keys) for one in (found, wanted)
    ]
    pd.testing.assert_frame_equal(*(one.reset_index(drop=True)[list(wanted)] for one in plain))
    return True


def test_a_store_is_read(copy: Path):
    before = every_file(copy)
    reader = Reader(copy / "store")
    windows, events = F.kept()
    first_ns, last_ns = reader.span()
    assert (first_ns, last_ns) == (F.START_NS, F.START_NS + (F.WINDOWS_COUNT - 1) * F.STEP_NS)
    assert same(reader.windows(first_ns, last_ns), windows) and same(reader.events(first_ns, last_ns), events)
    assert reader.damaged == [] and every_file(copy) == before


def test_a_store_is_written_on(copy: Path):
    with Store(copy / "store") as store:
        store.append(F.window(F.WINDOWS_COUNT))
        store.append(F.window(F.WINDOWS_COUNT + 30))
        store.compact()
        assert len(store.windows(*store.span())) == 4 * (F.WINDOWS_COUNT + 2) and store.damaged == []


def watched(folder: Path, receiver) -> tuple[SimpleNamespace, Outbox, Alertmanager]:
    box = Outbox("webhook-0", partial(notification, link=""), receiver, folder)
    mail = Alertmanager("http://127.0.0.1:1", folder=folder)
    return W.Watched(only=(F.HOT,), folder=folder, outboxes=[box], alertmanagers=[mail]), box, mail


def test_a_watcher_goes_on_with_its_incidents_and_tells_nothing_twice(copy: Path, caplog):
    receiver = W.Receiver()
    expected = json.loads((copy / "expected.json").read_text())
    made, box, mail = watched(copy / "watch", receiver)
    board = made.service.board
    told = [[one.id, one.state, one.root.condition, one.root.subject.id, one.opened_ns] for one in board.incidents]
    assert told == expected["incidents"] and made.service.totals.job_lost_gpu_s == expected["lost_gpu_s"]
    assert box.waiting == expected["waiting"] == 1
    made.turn(*W.told(F.HOT, 5, 6))
    assert [one.id for one in made.service.board.incidents] == [told[0][0]]
    box.send_next()
    assert [what for what, *_ in receiver.got] == ["opened"] and box.waiting == 0
    assert mail.waiting == 1  # the one alert, once more: Alertmanager is away
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_an_audit_is_verified_read_and_gone_on_with(copy: Path):
    path = copy / "audit.jsonl"
    before = verify(path)
    assert (before.ok, before.count) == (True, len(F.PHASES))
    records = read(path)
    assert [one["phase"] for one in records] == list(F.PHASES)
    assert all(one[name] == value for one in records for name, value in F.ACT.items())
    audit = Audit(path)
    assert audit.head == before.head and audit.append("held", act="a2")["prev"] == before.head
    assert verify(path).ok and verify(path).count == before.count + 1


def test_a_reading_of_the_cache_is_the_one_that_was_kept_or_none(copy: Path):
    """The cache is no archive: what another version kept may be read anew from its recording, but never as another."""
    content = (copy / "kineto.reading").read_bytes()
    if content[: len(MAGIC)] != MAGIC:
        with pytest.raises(Damaged):
            decoded(content, "rank3.json")
        return
    found, wanted = decoded(content, "rank3.json"), F.reading()
    ((table, columns),) = found.batches
    assert (table, found.format, found.rank, found.warnings) == ("ops", "kineto", 3, ["cut"])
    assert columns["rank"] == 3 and columns["end_ns"].tolist() == wanted.batches[0][1]["end_ns"].tolist()
    assert columns["op"].codes.tolist() == [0, 1, 1, 0, 1] and list(columns["op"].values) == ["forward", "sync"]


# What a later version would write.


def test_a_later_store_is_refused_and_left(copy: Path):
    about = copy / "store" / ".store.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "version": VERSION + 1}))
    before = every_file(copy)
    for opened in (Reader, Store):
        with pytest.raises(StoreError, match=f"format {VERSION + 1}.* up to {VERSION}: use a newer skewscope"):
            opened(copy / "store")
    assert every_file(copy) == before


@pytest.mark.parametrize(
    ("name", "schema"),
    [("state.json", "skewscope.watch-state/2"), ("outbox-webhook-0.json", "skewscope.outbox/2"),
     ("alertmanager-0.json", "skewscope.sent/2")],
)  # fmt: skip
def test_a_later_state_is_refused_and_left(copy: Path, name: str, schema: str):
    path = copy / "watch" / name
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": schema}))
    before = every_file(copy)
    with pytest.raises(UsageError, match=f"{name} is {schema}, of a newer skewscope.*: use the newer one"):
        watched(copy / "watch", W.Receiver())
    assert every_file(copy) == before


def test_a_later_audit_is_refused_and_left(copy: Path):
    path = copy / "audit.jsonl"
    path.write_text(path.read_text().replace("skewscope.action/1", "skewscope.action/2"))
    before = every_file(copy)
    for opened in (Audit, read):
        with pytest.raises(AuditError, match="line 1 .* is skewscope.action/2, of a newer skewscope"):
            opened(path)
    told = verify(path)
    assert not told.ok and "newer" in told.why and every_file(copy) == before


def test_a_later_reading_of_the_cache_is_refused():
    content = bytearray((HERE / "formats" / str(F.NOW) / "kineto.reading").read_bytes())
    content[: len(MAGIC)] = MAGIC[:-1] + b"9"
    with pytest.raises(Damaged, match="another version"):
        decoded(bytes(content), "rank3.json")


def shape(told: object) -> object:
    """Return the names and kinds of values, not what they are: findings and their words change with the rooms."""
    if isinstance(told, dict):
        named = all(not re.fullmatch(r"[0-9a-f]{12}", name) for name in told)
        return {name if named else "id": shape(one) for name, one in told.items()}
    return [shape(one) for one in told[:1]] if isinstance(told, list) else None


def test_today_s_code_still_keeps_what_the_fixtures_hold(tmp_path: Path, monkeypatch):
    """Whoever changes what is written learns here that a reader of yesterday will meet it."""
    F.main.__globals__["FOLDER"] = tmp_path
    try:
        assert F.main() == 0
    finally:
        F.main.__globals__["FOLDER"] = F.FOLDER
    made, there = (every_file(folder / str(F.NOW)) for folder in (tmp_path, HERE / "formats"))
    assert set(made) == set(there)
    for name in ("store/.store.json", "audit.jsonl"):
        assert made[name][0] == there[name][0], f"{name}: a new format wants a new number"
    for name in ("watch/outbox-webhook-0.json", "watch/alertmanager-0.json", "watch/state.json"):
        now, then = (shape(json.loads(one[name][0])) for one in (made, there))
        assert now == then, f"{name}: a new format wants a new number, or values of yesterday for what is missing"
    (first, columns), (second, others) = (decoded(one["kineto.reading"][0], "x").batches[0] for one in (made, there))
    assert first == second and np.array_equal(columns["end_ns"], others["end_ns"])
