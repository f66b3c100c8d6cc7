import numpy as np
import pytest

from skewscope.errors import UsageError
from skewscope.frames import concat, frame
from skewscope.moe.loads import RING, of_array, of_tables, placements_of


def rows(counts, *, steps=None, layers=None, **columns):
    """Return a frame of expert_loads for counts [T, L, E]."""
    counts = np.asarray(counts)
    steps = np.arange(counts.shape[0]) if steps is None else np.asarray(steps)
    layers = np.arange(counts.shape[1]) if layers is None else np.asarray(layers)
    step, layer, expert = (grid.ravel() for grid in np.indices(counts.shape))
    given = {"job": "job", "step": steps[step], "layer": layers[layer], "expert": expert, "rank": -1}
    return frame("expert_loads", {**given, "routed_tokens": counts.ravel(), **columns})


def tables(*parts):
    return {"expert_loads": concat("expert_loads", parts)}


def even(seed=0, shape=(3, 2, 8), picks=400):
    random = np.random.default_rng(seed)
    return random.multinomial(picks, np.full(shape[2], 1 / shape[2]), shape[:2])


def test_windows_and_totals_are_sums_over_steps():
    counts = even()
    loads = of_array(counts, steps=[5, 6, 9], layers=[3, 7])
    assert np.array_equal(loads.window(1, 3), counts[1] + counts[2]) and np.array_equal(loads.total(), counts.sum(0))
    assert loads.steps.tolist() == [5, 6, 9] and loads.layers.tolist() == [3, 7] and loads.warnings == ()


def test_one_window_is_an_array_of_layers_and_experts():
    assert of_array([[1, 2], [2, 1]]).counts.shape == (1, 2, 2)


def test_weights_as_floats_are_counts_and_shares_are_refused():
    assert of_array(np.array([[90.0, 132.0]])).counts.tolist() == [[[90, 132]]]
    assert of_array(np.array([[1.0, 0.0]])).counts.tolist() == [[[1, 0]]]
    with pytest.raises(UsageError, match="shares of tokens"):
        of_array(np.array([[0.25, 0.75]]))


@pytest.mark.parametrize(
    ("array", "match"),
    [
        ([1, 2], r"\[L, E\]"), ([[1, -2]], "1 negative"), ([[np.nan, 2.0]], "not finite"), ([["a"]], "want numbers"),
        (np.zeros((0, 2, 2)), "want numbers"), ([[1, 2], [3]], r"\[L, E\]"), ([[1e17, 1.0]], "cannot be meant"),
    ],
)  # fmt: skip
def test_what_are_no_counts_is_refused(array, match):
    with pytest.raises(UsageError, match=match):
        of_array(array)


def test_axes_must_fit():
    with pytest.raises(UsageError, match="3 steps and 2 layers"):
        of_array(even()[:2], steps=[0, 1, 2])


def test_dense_layers_are_left_out_and_told():
    counts = even(shape=(2, 4, 8))
    counts[:, [0, 2]] = 0
    loads = of_array(counts, layers=[0, 1, 2, 3])
    assert loads.layers.tolist() == [1, 3] and loads.warnings == (
        "2 of 4 layers have no tokens: dense layers, left out",
    )


def test_empty_places_of_a_ring_are_no_steps():
    counts = even(shape=(4, 2, 8))
    counts[2] = 0
    loads = of_array(counts, ordered=False)
    assert loads.steps.tolist() == [0, 1, 3] and not loads.ordered and RING in loads.warnings
    assert of_array(counts).steps.tolist() == [0, 1, 2, 3]  # an idle step of a true axis stays


def test_tables_give_back_the_array_whatever_the_order_of_rows():
    counts = even(shape=(3, 4, 8))
    made = rows(counts, steps=[7, 9, 11], layers=[3, 4, 5, 60])
    shuffled = made.sample(frac=1, random_state=1)
    (loads,) = of_tables({"expert_loads": shuffled})
    assert np.array_equal(loads.counts, counts)
    assert loads.steps.tolist() == [7, 9, 11] and loads.layers.tolist() == [3, 4, 5, 60] and loads.warnings == ()


def test_replicas_are_summed():
    slots = np.array([[[5, 7, 1]]])
    made = rows(slots).assign(expert=[0, 1, 0], slot=[0, 1, 2])
    (loads,) = of_tables(tables(made))
    assert loads.counts.tolist() == [[[6, 7]]]


def test_jobs_and_phases_are_apart_and_sorted():
    parts = [rows(even(at), job=job, phase=phase, top_k=4) for at, (job, phase) in enumerate(
        [("b", "decode"), ("a", "prefill"), ("a", "decode")])]  # fmt: skip
    found = of_tables(tables(*parts))
    assert [(one.job, one.phase) for one in found] == [("a", "decode"), ("a", "prefill"), ("b", "decode")]
    assert np.array_equal(found[1].counts, even(1)) and found[0].top_k == 4
    assert [one.phase for one in of_tables(tables(*parts), job="a", phase="prefill")] == ["prefill"]
    assert of_tables(tables(*parts), job="c") == [] and of_tables({}) == []


def test_an_expert_that_one_phase_never_uses_still_is_one():
    decode = even(1)
    found = of_tables(tables(rows(even(0)[:, :, :4], phase="prefill"), rows(decode, phase="decode")))
    assert [one.counts.shape[2] for one in found] == [8, 8]


def test_ranks_are_summed():
    one, two = even(1), even(2)
    (loads,) = of_tables(tables(rows(one, rank=0), rows(two, rank=1)))
    assert np.array_equal(loads.counts, one + two) and loads.warnings == ()


def test_ranks_that_hold_their_own_experts_are_summed():
    counts = even(1)
    mine = [rows(np.where((np.arange(8) // 4 == rank), counts, 0), rank=rank) for rank in range(2)]
    (loads,) = of_tables(tables(*mine))
    assert np.array_equal(loads.counts, counts) and loads.warnings == ()


def test_identical_ranks_count_once():
    counts = even(1)
    (loads,) = of_tables(tables(*(rows(counts, rank=rank) for rank in range(3))))
    assert np.array_equal(loads.counts, counts)
    assert any("all 3 ranks hold identical counts" in warning for warning in loads.warnings)


def test_a_rank_that_repeats_another_counts_once():
    one, two = even(1), even(2)
    (loads,) = of_tables(tables(rows(one, rank=0), rows(one, rank=1), rows(two, rank=2)))
    assert np.array_equal(loads.counts, one + two)
    assert loads.warnings == ("rank 1 holds the same counts as rank 0: the same tokens, counted once",)


def test_steps_that_a_rank_lacks_are_left_out():
    one, two = even(1), even(2)
    (loads,) = of_tables(tables(rows(one, rank=0), rows(two[:2], rank=1)))
    assert np.array_equal(loads.counts, (one + two)[:2])
    assert loads.warnings == ("1 of 3 steps are held by some of the 2 ranks only: left out",)


def test_an_idle_rank_of_a_pass_lacks_nothing():
    """With data-parallel attention a rank may have no tokens in a pass, which then has no mode on that rank."""
    busy, idle = even(1), np.zeros_like(even(1)[:1])
    (loads,) = of_tables(tables(
        rows(busy, rank=0, phase="prefill"), rows(busy[1:], rank=1, steps=[1, 2], phase="prefill"),
        rows(idle, rank=1, steps=[0]),
    ))  # fmt: skip
    assert loads.phase == "prefill" and loads.steps.tolist() == [0, 1, 2]
    assert np.array_equal(loads.counts[0], busy[0])


def test_ranks_without_a_common_step_are_told():
    (loads,) = of_tables(tables(rows(even(1), rank=0), rows(even(2), rank=1, steps=[10, 11, 12])))
    assert len(loads.steps) == 6 and "no step is held by all 2 ranks" in loads.warnings[0]


def test_of_two_recordings_of_one_job_the_finer_counts():
    counts = even(1)
    stat = rows(counts, source="stat", unordered=True)
    (loads,) = of_tables(tables(stat, rows(counts[:2], source="passes")))
    assert len(loads.steps) == 2 and loads.ordered and loads.source == "passes"
    assert loads.warnings[0] == "2 recordings tell of the same job: passes is taken, not stat"


def test_numbers_beyond_all_sense_are_refused():
    made = rows(even())
    with pytest.raises(UsageError, match="check column expert"):
        of_tables({"expert_loads": made.assign(expert=made["expert"] + 2**30)})
    with pytest.raises(UsageError, match="experts -1 to 6"):
        of_tables({"expert_loads": made.assign(expert=made["expert"] - 1)})


def test_frames_without_optional_columns_will_do():
    made = rows(even(1))[["job", "step", "layer", "expert", "rank", "routed_tokens"]]
    assert np.array_equal(of_tables({"expert_loads": made.astype({"job": str})})[0].counts, even(1))


def placed(source, rank, job="job"):
    slots = {"slot": [0, 1], "expert": [0, 1], "rank": rank}
    return frame("expert_placements", {"job": job, "step": 0, "layer": 0, **slots, "source": source})


@pytest.mark.parametrize(
    ("parts", "taken"),
    [
        ([("passes", [0, 1]), ("other", [0, 1])], "passes"),  # the own recording's, where it is whole
        ([("passes", -1), ("other", [0, 1])], "other"),  # else one that names ranks
        ([("passes", -1), ("other", -1)], "passes"),
        ([("other", -1)], "other"),
    ],
)  # fmt: skip
def test_of_several_maps_the_fitting_one_is_taken(parts, taken):
    loads = of_array(even(), job="job", source="passes")
    tables = {"expert_placements": concat("expert_placements", [placed(*part) for part in parts])}
    rows = placements_of(tables, loads)
    assert set(rows["source"].astype(str)) == {taken} and len(rows) == 2


def test_a_nameless_map_serves_jobs_without_one_of_their_own():
    tables = {"expert_placements": concat("expert_placements", [placed("map", -1), placed("x", -1, "chat")])}
    assert set(placements_of(tables, of_array(even(), job="chat"))["source"].astype(str)) == {"x"}
    assert set(placements_of(tables, of_array(even(), job="code"))["source"].astype(str)) == {"map"}
    assert not len(placements_of({}, of_array(even())))
    assert not len(placements_of({"expert_placements": placed("x", -1, "chat")}, of_array(even(), job="code")))
