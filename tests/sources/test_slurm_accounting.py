import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources import _slurm_hosts, gather
from skewscope.sources.slurm_accounting import SlurmAccounting

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

TEXT = """JobID|JobName|User|State|ExitCode|NodeList|Start|End|
101|train|ada|FAILED|1:0|n[01-02]|2026-01-05T10:00:00|2026-01-05T11:00:00|
101.batch|batch||FAILED|1:0|n01|2026-01-05T10:00:00|2026-01-05T11:00:00|
101|train|ada|COMPLETED|0:0|n[03-04]|2026-01-05T11:05:00|2026-01-05T15:00:00|
102|eval|bob|CANCELLED by 1000|0:15|n07|1767607200|1767610800|
103|wait|bob|PENDING|0:0|None assigned|Unknown|Unknown|
104|run|cy|RUNNING|0:0|gpu-a|1767607200|Unknown|
105|torn|cy
"""


def told(path):
    reading = SlurmAccounting().read(path)
    return reading, frame(*reading.batches[0])


def test_parsable_text_gives_a_row_per_attempt_and_host(tmp_path):
    path = tmp_path / "sacct.txt"
    path.write_text(TEXT)
    reading, rows = told(path)
    assert SlurmAccounting().sniff(TEXT.encode(), "") > 0.9 and reading.warnings
    assert rows[["submission", "attempt", "node", "state", "exit_code"]].values.tolist() == [
        ["101", 0, "n01", "failed", 1], ["101", 0, "n02", "failed", 1], ["101", 1, "n03", "completed", 0],
        ["101", 1, "n04", "completed", 0], ["102", 0, "n07", "cancelled", 143], ["104", 0, "gpu-a", "running", 0],
    ]  # fmt: skip
    assert rows["start_ns"][0] == 1767607200 * 10**9 == rows["start_ns"][4] and rows["end_ns"].tolist()[-1] == -1


def job(state, code, nodes="n[1-2]"):
    return {"job_id": 7, "user": "ada", "nodes": nodes, "state": state, "exit_code": code,
            "time": {"start": 1767607200, "end": {"set": True, "number": 1767610800}}}  # fmt: skip


def test_json_of_old_and_new_versions(tmp_path):
    path = tmp_path / "jobs.json"
    new = job({"current": ["NODE_FAIL"], "reason": "None"}, {"return_code": {"set": True, "number": 0},
              "signal": {"id": {"set": True, "number": 9}}})  # fmt: skip
    old = job({"current": "COMPLETED"}, {"status": "SUCCESS", "return_code": 0}, "n3") | {"job_id": 8}
    path.write_text(json.dumps({"meta": {"Slurm": {}}, "jobs": [new, old, 3]}))
    reading, rows = told(path)
    assert SlurmAccounting().sniff(path.read_bytes(), "") > 0.5 and not reading.warnings
    assert rows[["submission", "node", "state", "exit_code"]].values.tolist() == [
        ["7", "n1", "node-fail", 137], ["7", "n2", "node-fail", 137], ["8", "n3", "completed", 0],
    ]  # fmt: skip
    assert rows["end_ns"][0] == 1767610800 * 10**9


@pytest.mark.parametrize("text", ["{", '{"jobs": []}', "JobID|State|NodeList|Start|End\n1|FAILED|n[1-|x|y\n"])
def test_nothing_usable_is_unreadable(tmp_path, text):
    path = tmp_path / "sacct.txt"
    path.write_text(text)
    with pytest.raises(Unreadable):
        SlurmAccounting().read(path)


def test_a_week_of_it_is_a_recording(tmp_path):
    (tmp_path / "sacct.txt").write_text(TEXT)
    assert len(gather([tmp_path], workers=1).tables["attempts"]) == 6


STATES = {"FAILED": "failed", "CANCELLED by 1000": "cancelled", "NODE_FAIL": "node-fail", "COMPLETED": "completed"}
free_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="|\r\n\0"), max_size=4)
accounts = st.dictionaries(
    st.integers(1, 99),
    st.lists(
        st.tuples(st.integers(1, 10**6), st.none() | st.integers(0, 10**6), st.sampled_from(list(STATES)),
                  st.integers(0, 255), st.integers(0, 31), st.integers(1, 3), free_text),
        min_size=1, max_size=3, unique_by=lambda job: job[0],
    ), min_size=1, max_size=4,
)  # fmt: skip


def attempts(accounted):
    """Return the rows that jobs with their attempts stand for: one a host, attempts in the order of their starts."""
    return sorted(
        (str(job), number, f"n{host:02d}", user, STATES[state], 128 + signal if signal else code,
         (1_767_607_200 + start) * 10**9, -1 if took is None else (1_767_607_200 + start + took) * 10**9)
        for job, tries in accounted.items()
        for number, (start, took, state, code, signal, count, user) in enumerate(sorted(tries, key=lambda one: one[0]))
        for host in range(1, count + 1)
    )  # fmt: skip


@drawn
@given(accounts, st.permutations(["JobID", "State", "NodeList", "Start", "End", "User", "ExitCode", "JobName"]),
       st.booleans())  # fmt: skip
@example(
    {1: [(1, None, "FAILED", 0, 0, 1, "\u2028")]},
    ["JobID", "State", "NodeList", "Start", "End", "User", "ExitCode", "JobName"],
    False,
)
def test_parsable_text_holds_what_was_written(tmp_path, accounted, head, trailing):
    lines = [head]
    for job, tries in accounted.items():
        for start, took, state, code, signal, count, user in tries:
            begin = 1_767_607_200 + start
            told = {"JobID": job, "State": state, "NodeList": f"n[01-{count:02d}]", "Start": begin, "User": user,
                    "End": "Unknown" if took is None else begin + took, "ExitCode": f"{code}:{signal}",
                    "JobName": f"a\"\u2028\x85{user}"}  # fmt: skip
            lines += [[told[name] for name in head], [f"{job}.batch" if name == "JobID" else "" for name in head]]
    path = tmp_path / "sacct.txt"
    path.write_text("".join("|".join(map(str, cells)) + "|" * trailing + "\n" for cells in lines))
    reading, rows = told_rows(path)
    assert rows == attempts(accounted) and not reading.warnings and reading.status == "ok"


@drawn
@given(accounts, st.booleans())
def test_json_holds_what_was_written(tmp_path, accounted, plain):
    def number(value):
        return value if plain else {"set": True, "infinite": False, "number": value}

    jobs = [
        {"job_id": job, "user": user, "nodes": f"n[01-{count:02d}]", "state": {"current": [state.split()[0]]},
         "exit_code": {"return_code": number(code), "signal": {"id": number(signal)}},
         "time": {"start": number(1_767_607_200 + start),
                  "end": number(0 if took is None else 1_767_607_200 + start + took)}}
        for job, tries in accounted.items() for start, took, state, code, signal, count, user in tries
    ]  # fmt: skip
    path = tmp_path / "jobs.json"
    path.write_text(json.dumps({"meta": {"slurm": {}}, "jobs": jobs}))
    assert told_rows(path)[1] == attempts(accounted)


def told_rows(path):
    reading, rows = told(path)
    names = ["submission", "attempt", "node", "user", "state", "exit_code", "start_ns", "end_ns"]
    return reading, sorted(rows[names].itertuples(index=False, name=None))


@pytest.mark.parametrize("text", ["n[1-60000]x[1-60000]", f"n[1-{'9' * 5000}]", f"n[{'0' * 5000}1-2]"])
def test_a_list_of_more_hosts_than_can_be_is_none(text):
    assert _slurm_hosts.hosts(text) == []
