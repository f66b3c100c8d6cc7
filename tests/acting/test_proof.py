from pathlib import Path
from runpy import run_path

import pytest

from skewscope.acting.book import Book
from skewscope.acting.proof import LONGEST_NS, Proofs
from skewscope.acting.trust import Trust
from skewscope.acts import Fleet

W = run_path(str(Path(__file__).with_name("_world.py")))
NS = 10**9


def done(book, step_s=2.0, share=0.3, verb="drain", job="train"):
    told = {"act": "a1", "scheduler": "fake", "verb": verb, "target": "n3", "job": "7", "incident": "i",
            "finding": "hot", "predicted": {"step_s": step_s, "step_job": job, "step_share": share}}  # fmt: skip
    book.append("intended", **told)
    return book.append("done", **told, result="done")


def proofs_of(book, clock, steps, fleet=None):
    proofs = Proofs()
    for step_s in steps:
        proofs.settle(book, "fake", fleet or Fleet("fake", {}), clock.on(30))
        proofs.see({"train": step_s}, clock.now_ns)
    proofs.settle(book, "fake", fleet or Fleet("fake", {}), clock.on(30))
    return [one for one in book.audit.records() if one["phase"] == "proved"]


@pytest.mark.parametrize(
    ("after", "result"), [(1.4, "realised"), (1.8, "less"), (2.0, "less"), (2.5, "less"), (1.7, "realised")]
)
def test_what_came_true_is_told(after, result):
    clock = W["Clock"]()
    book = Book(W["audit"](clock))
    done(book)
    (proved,) = proofs_of(book, clock, [9.0, 9.0, 9.0, after, after, after])
    assert proved["result"] == result and proved["of"] == "a1"
    assert proved["observed"]["step_share"] == pytest.approx(1 - after / 2.0)
    assert proofs_of(book, clock, [1.0] * 6) == [proved], "once"


def test_nothing_is_claimed_of_what_was_not_seen():
    clock = W["Clock"]()
    book = Book(W["audit"](clock))
    done(book, step_s=None)
    assert proofs_of(book, clock, [1.0] * 8) == []
    clock.now_ns += LONGEST_NS
    (proved,) = proofs_of(book, clock, [1.0] * 8)
    assert proved["result"] == "unknown" and "observed" not in proved


def test_a_note_needs_no_proof():
    clock = W["Clock"]()
    book = Book(W["audit"](clock))
    done(book, verb="note")
    assert proofs_of(book, clock, [1.0] * 8) == []


def test_before_is_the_median_of_fresh_windows():
    proofs = Proofs()
    for at, step_s in enumerate((9.0, 2.0, 2.2, 2.4, float("nan"), 0.0)):
        proofs.see({"train": step_s}, at * 300 * NS)
    assert proofs.before("train", 1000 * NS) == 2.2
    assert proofs.before("train", 9000 * NS) is None and proofs.before("other", 0) is None


def test_trust_follows_what_came_true_and_stays_between_0_and_1():
    trust = Trust(0.8)
    for share in (5.0, 1.0, -2.0, None):
        trust.add({"phase": "proved", "finding": "hot", "observed": {"of_predicted": share}})
    trust.add({"phase": "proved", "finding": "hot"})
    trust.add({"phase": "done", "finding": "hot"})
    assert trust.all() == {"hot": pytest.approx((0.8 * 4 + 1 + 1 + 0) / 7)}
