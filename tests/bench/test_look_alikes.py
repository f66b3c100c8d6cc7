from dataclasses import replace

import jsonschema
import pytest
from rich.console import Console

from skewscope import catalogue
from skewscope.bench import look_alikes_page
from skewscope.bench.look_alikes import Answer, answers, document, recorded, told
from skewscope.bench.pairs import Pair
from skewscope.contracts import World
from skewscope.plans import plain
from skewscope.reports.json_schema import schema

PAIRS = (Pair("gpu-hot", "nic-slow", ("gpu-hot",)), Pair("gpu-hot", "gpu-lost", ("gpu-lost",)))


@pytest.fixture
def said(results):
    return answers(results)


@pytest.fixture
def made(said, results):
    return document(said, PAIRS, results, judge=False, seeds=range(3))


def test_the_first_claim_is_the_answer(said):
    """Healthy fleets and runs that failed answer nothing; a wrong claim beside the truth is remembered."""
    assert [(one.truth, one.claim) for one in said] == [
        ("gpu-hot", "gpu-hot"), ("nic-slow", "nic-slow"), ("gpu-hot", "gpu-hot"), ("nic-slow", "gpu-hot"),
        ("gpu-hot", "gpu-hot"), ("nic-slow", "gpu-hot"),
    ]  # fmt: skip
    assert said[1].besides == {"gpu-hot"} and said[0].besides == frozenset()
    assert {(one.scene, one.kind) for one in said} == {("hot", "fleet"), ("slow", "fleet")}


def test_nothing_is_an_answer(results):
    (caught,) = results[1].watched.caught
    silent = replace(results[1], watched=replace(results[1].watched, caught=(replace(caught, blamed=""),), alarms=()))
    assert answers([silent]) == [Answer("nic-slow", "slow", "fleet", "nothing")]


def test_pairs_are_counted_both_ways(made):
    first, second = made["pairs"]
    assert first["only_one"] == {
        "runs": 3, "right": 3, "look_alike": 0, "something_else": 0, "nothing": 0, "besides": 0,
    }  # fmt: skip
    assert first["only_other"] == {
        "runs": 3, "right": 1, "look_alike": 2, "something_else": 0, "nothing": 0, "besides": 3,
    }  # fmt: skip
    assert second["only_other"]["runs"] == 0 and made["untried"] == ["gpu-lost"]
    assert made["failures"] == [{"scenario": "hot", "seed": 3, "error": "ValueError: odd"}]
    overall = made["overall"]
    assert (overall["runs"], overall["right"], overall["look_alike"], overall["nothing"]) == (6, 4, 2, 0)
    assert (overall["pairs"], overall["pairs_tried"], overall["pairs_told_apart"]) == (2, 1, 0)


def test_a_pair_that_is_never_mixed_up_is_told_apart(results):
    said = [Answer("gpu-hot", "a", "fleet", "gpu-hot"), Answer("nic-slow", "b", "fleet", "step-spike")]
    overall = document(said, PAIRS[:1], [], judge=False, seeds=range(1))["overall"]
    assert (overall["pairs_told_apart"], overall["something_else"], overall["look_alike"]) == (1, 1, 0)


def test_a_cause_that_is_named_for_what_it_shows_is_counted():
    said = [
        Answer("tp-straggler", "a", "world", "coll-late-rank"),
        Answer("coll-late-rank", "b", "fleet", "tp-straggler"),
    ]
    pair = Pair("coll-late-rank", "tp-straggler", ("tp-straggler",))
    overall = document(said, [pair], [], judge=False, seeds=range(1))["overall"]
    assert (overall["look_alike"], overall["causes"]) == (2, 1)


def test_the_matrix_of_a_family(made):
    (family,) = made["families"]
    assert family["family"] == "Others" and family["rows"] == ["gpu-hot", "nic-slow"]
    assert family["columns"] == ["gpu-hot", "nic-slow", "nothing"]
    assert family["counts"] == [[3, 0, 0], [2, 1, 0]]


def test_a_claim_of_another_family_is_a_column():
    said = [Answer("kv-pressure", "a", "fleet", "kv-pressure"), Answer("kv-pressure", "a", "fleet", "mem-oom-risk")]
    (family,) = document(said, PAIRS, [], judge=True, seeds=range(2))["families"]
    assert (family["columns"], family["counts"]) == (["kv-pressure", "mem-oom-risk", "nothing"], [[1, 1, 0]])


def test_the_document_fits_its_schema(made):
    jsonschema.validate(plain(made), schema("look_alikes"))
    empty = document([], PAIRS, [], judge=True, seeds=range(1))
    jsonschema.validate(plain(empty), schema("skewscope.look_alikes/1"))
    assert empty["overall"]["right_share"] is None


def test_the_pages(made):
    written = look_alikes_page.markdown(made)
    assert "6 runs: 4 name the true condition (67 %), 2 its look-alike (0 of them" in written
    assert "| 2 | `nic-slow` | 2 | 1 |  |" in written
    assert "| `gpu-hot` |  | `nic-slow` | 3 | 3 | 0 | 0 | 0 | 0 | 3 | 1 | 2 | 0 | 0 | 3 |" in written
    assert "skewscope bench look-alikes --seeds 3 --every 4" in written
    with (console := Console(width=200)).capture() as caught:
        console.print(look_alikes_page.page(made))
    assert "Mixed up: nic-slow is true, gpu-hot was named in 2 and claimed too in 3 of 3 runs" in caught.get()
    assert "No run has only: gpu-lost" in caught.get() and "Failed: hot with seed 3" in caught.get()


def test_conditions_of_recordings_are_asked_in_their_own_worlds():
    """All rooms look: the late shard is a late rank, which explains it, and long steps are nobody's fault."""
    said = {one.scene: one for one in recorded(["coll-slow-link", "step-spike", "tp-straggler"])}
    assert said["coll-slow-link/slow"].claim == "coll-slow-link"
    assert said["step-spike/spike"].claim == "step-spike"
    assert said["tp-straggler/late"].claim == "coll-late-rank"
    assert {one.kind for one in said.values()} == {"world"}


def test_a_world_that_shows_nothing_says_nothing():
    quiet = next(world for world in catalogue.room("detectors", "coll-hang").load().cases() if not world.expect)
    assert told("coll-hang", World("quiet", quiet.tables)).claim == "nothing"
