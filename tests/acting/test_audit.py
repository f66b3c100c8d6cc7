import hashlib
import json
import multiprocessing
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skewscope.acting.audit import FIRST, SCHEMA, Audit, AuditError, verify
from skewscope.acting.lines import MemoryLines


def ticking():
    now = [0]

    def clock_ns() -> int:
        now[0] += 10
        return now[0]

    return clock_ns


def filled(path, count=3):
    audit = Audit(path, ticking())
    for number in range(count):
        audit.append("held", act=f"a{number}", detail='it\'s "quoted"; and\nunicode: ü \u2028')
    return audit


def test_a_line_can_be_checked_by_anybody(tmp_path):
    filled(tmp_path / "audit.jsonl")
    prev = "0" * 64
    for number, line in enumerate((tmp_path / "audit.jsonl").read_text("ascii").splitlines()):
        told = json.loads(line)
        assert told["schema"] == SCHEMA and told["seq"] == number and told["prev"] == prev
        bare = {name: value for name, value in told.items() if name != "hash"}
        text = json.dumps(bare, sort_keys=True, separators=(",", ":"))
        prev = hashlib.sha256(text.encode()).hexdigest()
        assert told["hash"] == prev


def test_what_was_written_is_read_again(tmp_path):
    path = tmp_path / "audit.jsonl"
    before = filled(path)
    again = Audit(path, ticking())
    assert list(again.records()) == list(before.records()) and again.head == before.head
    assert again.append("done", act="a9")["prev"] == before.head
    assert [one["phase"] for one in before.records()] == ["held", "held", "held", "done"]
    assert verify(path).ok and verify(path).count == 4


def test_only_the_owner_reads_it(tmp_path):
    filled(tmp_path / "audit.jsonl")
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda lines: lines[:1] + [lines[1].replace(b'"a1"', b'"a7"')] + lines[2:], 2),
        (lambda lines: lines[:1] + lines[2:], 2),
        (lambda lines: [lines[1], lines[0], lines[2]], 1),
        (lambda lines: [*lines, lines[2]], 4),
        (lambda lines: [*lines[:2], lines[2].replace(b'":"', b'": "', 1)], 3),
        (lambda lines: [*lines[:2], b"not json"], 3),
        (lambda lines: [lines[0], b"[]", *lines[2:]], 2),
    ],
    ids=["changed", "lost", "swapped", "repeated", "spaced", "no JSON", "another thing"],
)
def test_a_broken_chain_is_found_and_nothing_is_added_to_it(tmp_path, spoil, line):
    path = tmp_path / "audit.jsonl"
    filled(path)
    path.write_bytes(b"".join(one + b"\n" for one in spoil(path.read_bytes().splitlines())))
    found = verify(path)
    assert not found.ok and found.first_bad == line and found.why.startswith(f"line {line}")
    with pytest.raises(AuditError, match=f"line {line} "):
        Audit(path)


def test_lines_cut_off_the_end_are_found_by_the_last_hash(tmp_path):
    path = tmp_path / "audit.jsonl"
    head = filled(path).head
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert verify(path).ok
    assert verify(path, head=head).first_bad == 3


def test_a_running_engine_notices_that_its_audit_was_cut_or_replaced(tmp_path):
    path = tmp_path / "audit.jsonl"
    audit = filled(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(AuditError, match="shorter"):
        audit.append("done", act="a")
    (tmp_path / "other").write_bytes(whole)
    os.replace(tmp_path / "other", path)
    with pytest.raises(AuditError, match="replaced"):
        audit.records()


@pytest.mark.parametrize("left", [0, 1, 17])
def test_a_line_that_a_crash_left_half_is_taken_away_or_finished(tmp_path, left):
    path = tmp_path / "audit.jsonl"
    filled(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 1 - left])  # the last line lacks its end
    again = Audit(path)
    assert len(again.records()) == (3 if left == 0 else 2)
    again.append("done", act="a9")
    assert verify(path).ok


def test_a_full_disk_leaves_no_half_line(tmp_path):
    class Full(MemoryLines):
        def write(self, line, offset):
            raise OSError(28, "No space left on device")

    audit = Audit(Full())
    with pytest.raises(AuditError, match="No space left"):
        audit.append("intended", act="a")
    assert list(audit.records()) == []


def test_unknown_phases_are_refused():
    with pytest.raises(ValueError, match="no phase"):
        Audit(MemoryLines()).append("begun")


def test_what_is_unknown_is_left_out():
    record = Audit(MemoryLines()).append("held", act="a", job=None, evidence={"share": float("nan")})
    assert "job" not in record and record["evidence"] == {"share": None} and record["actor"] == "skewscope"


def _append(path, count):
    audit = Audit(path)
    for _ in range(count):
        audit.append("held", act=str(os.getpid()))


def test_several_processes_keep_one_chain(tmp_path):
    path = tmp_path / "audit.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append, args=(path, 20)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert verify(path).ok and verify(path).count == 60
    assert {one["act"] for one in Audit(path).records()} == {str(worker.pid) for worker in workers}


@given(st.lists(st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.floats() | st.integers()), max_size=5))
def test_any_values_are_written_and_read(values):
    lines = MemoryLines()
    audit = Audit(lines)
    for told in values:
        audit.append("held", before=told)
    again = Audit(lines)
    assert list(again.records()) == list(audit.records())
    assert again.head == audit.head and (again.head == FIRST) == (not values)
