from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import pytest

from skewscope.acting.book import Book
from skewscope.acting.pace import Pace
from skewscope.acting.performing import Performer
from skewscope.acting.retesting import Beside, Judge, Trials
from skewscope.policy.sections import Retest
from skewscope.retest.document import Measure, Result, line

W = run_path(str(Path(__file__).with_name("_world.py")))
RECORD = {"act": "a1", "scheduler": "fake", "verb": "drain", "target": "n3", "incident": "i"}


def result(node, speed, time_ns=1):
    return Result(node, time_ns, "H100 x8", "torch", (Measure("gemm", "flops", "gpu0", "bf16 8192", (speed,) * 9),))


def test_a_node_is_judged_by_what_its_peers_reached(tmp_path):
    judge = Judge(tmp_path / "retests")
    for node, speed in (("n0", 99.0), ("n1", 100.0), ("n2", 101.0)):
        assert judge(line(result(node, speed)), node, 0).result == "fail", "who has no peers is not shown to be well"
    assert judge("srun: step 7\n" + line(result("n3", 100.2)), "n3", 0).result == "pass"
    came = judge(line(result("n4", 80.0)), "n4", 0)
    assert came.result == "fail" and came.detail.startswith("fail: gemm")


def test_a_person_may_say_what_healthy_nodes_reach(tmp_path):
    (tmp_path / "healthy.jsonl").write_text("".join(line(result(f"n{n}", 100.0 + n)) + "\n" for n in range(4)))
    assert Judge(None, tmp_path / "healthy.jsonl")(line(result("n9", 100.2)), "n9", 0).result == "pass"


def test_neither_another_node_nor_an_old_result_nor_its_own_word_passes(tmp_path):
    judge = Judge(tmp_path / "retests")
    for node, speed in (("n0", 99.0), ("n1", 100.0), ("n2", 101.0)):
        judge(line(result(node, speed)), node, 0)
    assert "not of n3" in judge(line(result("n4", 100.0)), "n3", 0).detail
    assert "before the test" in judge(line(result("n3", 100.0)), "n3", 10**12).detail
    boasts = replace(result("n3", 50.0), verdict="pass")
    assert judge(line(boasts), "n3", 0).result == "fail"


def test_what_wrote_nothing_has_not_passed():
    assert Judge()("hello", "n3", 0).result == "fail"


def hand(fake):
    clock = W["Clock"]()
    return Performer("fake", fake, Book(W["audit"](clock)), Pace(1e9, clock_s=lambda: 0.0))


def phases(one):
    return [(record["phase"], record.get("result")) for record in one.book.audit.records()]


class Untestable(W["Fake"]):
    test = None


@pytest.mark.parametrize(("fake", "said"), [
    (W["Fake"](W["Cluster"].of(4)), "KeyError"), (Untestable(W["Cluster"].of(4)), "cannot run a test"),
    (W["Fake"](W["Cluster"].of(4), tests={"n3": "nothing"}), "there is no skewscope.retest/1"),
])  # fmt: skip
def test_a_test_that_cannot_be_run_is_not_passed(fake, said):
    one = hand(fake)
    tests = Trials(Judge(), Retest())
    tests.start(one, RECORD)
    tests.settle(one)
    assert phases(one) == [("testing", None), ("tested", "fail")]
    assert said in one.book.audit.records()[-1]["detail"]


def test_a_test_may_run_beside_the_turns():
    one = hand(W["Fake"](W["Cluster"].of(4), tests={"n3": line(result("n3", 1.0))}))
    tests = Trials(Judge(), Retest(), Beside())
    tests.start(one, RECORD)
    assert wait(tests._running.values(), 10).not_done == set()
    tests.settle(one)
    assert phases(one) == [("testing", None), ("tested", "fail")]


def test_a_test_whose_watcher_died_counts_as_failed():
    one = hand(W["Fake"](W["Cluster"].of(4)))
    one.write("testing", **RECORD, of="a1")
    Trials(Judge(), Retest()).settle(one)
    assert "cut off" in one.book.audit.records()[-1]["detail"]


def test_a_call_beside_that_breaks_tells_who_asks():
    with pytest.raises(ZeroDivisionError):
        Beside().submit(lambda: 1 // 0).result(10)
