"""The loop closes on a real Slurm: a slow node is found, its job goes elsewhere and is fast again, the node comes back.

Nothing is told beforehand: the job records itself, the analysis names the rank, the policy is the default one but for
its waiting times, and everything that was done stands in the audit before it was done.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from skewscope import commands
from skewscope.acting.audit import Audit, verify
from skewscope.acting.cases import of_report
from skewscope.acting.engine import Engine, Extras
from skewscope.acting.lease import Turns
from skewscope.acting.retesting import Judge
from skewscope.acting.rooms import actuators
from skewscope.errors import Unreadable
from skewscope.policy.cases import Around
from skewscope.policy.settings import Policy
from skewscope.retest.document import line
from skewscope.spool import KINDS, OPS, RingReader, RingWriter

HERE = Path(__file__).parent / "slurm"
C = SimpleNamespace(**run_path(str(HERE / "_cluster.py")))
S = SimpleNamespace(**run_path(str(HERE / "_speed_test.py")))
RANKS, SLOW, WINDOW_STEPS, STEPS = 5, 1.8, 8, 60
STEP, COLLECTIVE = KINDS.index("step"), KINDS.index("collective")


@pytest.fixture(scope="module")
def cluster():
    yield from C.running()


@pytest.fixture
def folder(cluster):
    """Return the folder that all nodes share: slow nodes, spools, results of tests of nodes that are well."""
    place = cluster.folder / "shared"
    place.mkdir()
    peers = "".join(line(S.measured(name, place / "none")) + "\n" for name in ("p1", "p2", "p3", "p4"))
    (place / "peers.jsonl").write_text(peers)
    return place


def policy(cluster, folder: Path) -> Policy:
    """Return the default policy for one who trusts it to act, and does not want to wait for an hour."""
    return Policy.parse({
        "schedulers": {"slurm": {"mode": "act", "dry_run": False, "conf": str(cluster.conf)}},
        "ladder": {"verbs": ["exclude", "drain"], "start": "exclude", "step_s": 0.0},
        "work": {"requeue": True}, "hysteresis": {"hold_s": 0.0}, "reconcile": {"every_s": 1.0},
        "rate": {"per_s": 100.0},
        "retest": {"after_s": 0.0, "again_s": 3.0, "timeout_s": 20.0,
                   "words": [sys.executable, str(HERE / "_speed_test.py"), str(folder)]},
    })  # fmt: skip


def step_times(spool: Path) -> list[float]:
    """Return the length (s) of each step that rank 0 recorded."""
    try:
        reader = RingReader(next(spool.glob("*-r0-*.ring")))
    except (StopIteration, Unreadable):  # there is none yet, or it is being made
        return []
    rows = reader.drain().rows
    reader.close()
    return [(row[8] - row[7]) / 1e9 for row in rows if row[1] == STEP]


def windows(spool: Path) -> list[float]:
    """Return the median step time (s) of each window of a few steps."""
    steps = step_times(spool)
    whole = range(0, len(steps) - WINDOW_STEPS + 1, WINDOW_STEPS)
    return [statistics.median(steps[at : at + WINDOW_STEPS]) for at in whole]


def analyzed(spool: Path, out: Path) -> dict:
    shutil.copytree(spool, out / "spool")
    assert commands.main(["analyze", str(out / "spool"), "--json", str(out / "report.json"), "--quiet"]) == 0
    return json.loads((out / "report.json").read_text())


class Story:
    """The engine on the cluster; `turn` does one turn now and returns its records."""

    def __init__(self, cluster, folder: Path, out: Path, job: str) -> None:
        self.policy, self.job, self.path = policy(cluster, folder), job, out / "audit.jsonl"
        extras = Extras(dry_run=False, judge=Judge(folder / "peers.jsonl"))
        made = actuators(self.policy, ["slurm"])
        self.engine = Engine(self.policy, made, Audit(self.path), Turns(self.path), extras)

    def turn(self, cases=(), step_s: float = 0.0) -> list[dict]:
        around = Around(time.time_ns(), since_checkpoint_s={self.job: 1.0})
        return list(self.engine.turn(cases, around, {self.job: step_s} if step_s else {}))

    def of(self, phase: str) -> list[dict]:
        return [one for one in Audit(self.path).records() if one["phase"] == phase]


def test_a_slow_node_is_found_left_tested_and_taken_back_end_to_end(cluster, folder, tmp_path, capsys):
    # A job of five nodes runs; one of them becomes slow.
    words = f"exec srun {sys.executable} {HERE / '_step_loop.py'} {folder}"
    job = cluster.submit(words, f"-N{RANKS}", "--ntasks-per-node=1", "--job-name=llm; $(reboot)")
    C.until((folder / "spool.0").exists)
    story = Story(cluster, folder, tmp_path, job)
    slow = story.engine.hands["slurm"].actuator.look().jobs[job].nodes[2]
    C.until(lambda: len(step_times(folder / "spool.0")) > 5)
    (folder / f"slow.{slow}").write_text(str(SLOW))
    C.until(lambda: len(step_times(folder / "spool.0")) > STEPS, 30.0)
    for step_s in windows(folder / "spool.0")[-4:]:
        story.turn(step_s=step_s)

    # The analysis names it: the job is started anew elsewhere, with the next turn the node is drained.
    report = analyzed(folder / "spool.0", tmp_path)
    found_s = time.monotonic()
    cases = of_report(report, time.time_ns(), job=job)
    assert [(case.condition, case.node) for case in cases] == [("coll-late-rank", slow)]
    records = story.turn(cases) + story.turn(cases)
    took_s = time.monotonic() - found_s
    done = [(one["verb"], one["target"]) for one in records if one["phase"] == "done"]
    assert done == [("exclude", slow), ("drain", slow)], [one.get("why") or one.get("detail") for one in records]
    assert cluster.node(slow)["reason"].startswith("skewscope:")
    started = cluster.wait_for(job, "RUNNING")
    assert slow not in story.engine.hands["slurm"].actuator.look().jobs[job].nodes and started["Restarts"] == "1"

    # Speed returns, which is the proof.
    C.until(lambda: len(windows(folder / "spool.1")) > 7, 30.0)
    for step_s in windows(folder / "spool.1"):
        story.turn(cases, step_s)
    proofs = {one["verb"]: one for one in story.of("proved")}
    observed, predicted = proofs["drain"]["observed"], proofs["drain"]["predicted"]["step_share"]
    assert proofs["drain"]["result"] == proofs["exclude"]["result"] == "realised"
    assert observed["step_share"] == pytest.approx(1 - 1 / SLOW, abs=0.12)

    # While the node is slow it stays out; mended, it passes its test and serves again.
    story.turn()
    assert [one["result"] for one in story.of("tested")] == ["fail"]
    (folder / f"slow.{slow}").unlink()
    C.until(lambda: story.turn() is not None and not cluster.node(slow)["reason"], 90.0, 0.3)
    assert story.of("tested")[-1]["result"] == "pass"
    C.until(lambda: slow in cluster.ready())
    again = cluster.submit("sleep 60", f"--nodelist={slow}")
    cluster.wait_for(again, "RUNNING")

    # With the job ends what is left; the audit holds it all, each act before it was done.
    cluster.run("scancel", job, again)
    C.until(lambda: story.turn() is not None and not story.engine.book.ledger.standing, 60.0, 1.0)
    assert verify(story.path).ok
    for act in (one for one in story.of("done")):
        assert any(one["act"] == act["act"] and one["seq"] < act["seq"] for one in story.of("intended"))
    told = f"step {observed['before_s']:.3f} s -> {observed['after_s']:.3f} s, {observed['step_share']:.0%} saved"
    with capsys.disabled():
        print(f"\nSlurm: {took_s:.1f} s from finding to drain; {told}, {predicted:.0%} promised")


def recorded(spool: Path, slow: str) -> None:
    """Write the rings of a job of five nodes, of which one needs nearly twice as long for each of 100 steps."""
    spool.mkdir()
    begin_ns = time.monotonic_ns() - 20 * 10**9
    for rank in range(RANKS):
        node = f"n{rank + 1}"
        ring = RingWriter(spool, job="9", rank=rank, world_size=RANKS, node=node, capacity=1024)
        group = ring.group(1, range(RANKS), rank, "dp", "world")
        for step in range(100):
            start_ns = begin_ns + step * 90_000_000
            ready_ns = start_ns + (90_000_000 if node == slow else 50_000_000) + step * rank % 7 * 10_000
            end_ns = start_ns + 90_100_000
            ring.write(COLLECTIVE, OPS.index("all_reduce"), group, 1, step, step, ready_ns, end_ns, size=1 << 20)
            ring.write(STEP, step=step, start_ns=start_ns, end_ns=end_ns)
        ring.close()


def test_a_person_acts_by_a_report_and_takes_it_back(cluster, tmp_path, capsys):
    recorded(tmp_path / "rings", "n3")
    analyzed(tmp_path / "rings", tmp_path)
    (tmp_path / "policy.toml").write_text(f"""
[schedulers.slurm]
mode = "act"
dry_run = false
conf = "{cluster.conf}"
[ladder]
verbs = ["drain"]
start = "drain"
""")
    policy = ["--policy", str(tmp_path / "policy.toml"), "--audit", str(tmp_path / "audit.jsonl")]
    act = ["act", "--scheduler", "slurm", str(tmp_path / "report.json"), *policy]
    assert commands.main(act) == 0
    assert "State=DRAIN" in capsys.readouterr().out
    assert not cluster.node("n3")["reason"]
    assert commands.main([*act, "--apply"]) == 0
    assert cluster.node("n3")["reason"].startswith("skewscope:") and cluster.node("n3")["state_flags"] == ["DRAIN"]
    (done,) = (one for one in Audit(tmp_path / "audit.jsonl").records() if one["phase"] == "done")
    assert commands.main(["undo", done["act"], *policy, "--apply"]) == 0
    after = cluster.node("n3")
    assert (after["reason"], "DRAIN" in after["state_flags"]) == ("", False)
    assert verify(tmp_path / "audit.jsonl").ok
