"""The replay engine against a plain longest-path loop, on random graphs and with lanes that meet."""

import numpy as np
import pytest

from skewscope.attribution.replay import Graph, finish_times, plan, sweep
from skewscope.errors import SkewscopeError


def plain(src, dst, durations):
    """Return finish times by a loop; edges go from lower to higher nodes."""
    ends = [0.0] * len(durations)
    before = {}
    for one, two in zip(src, dst, strict=True):
        before.setdefault(two, []).append(one)
    for node in range(len(durations)):
        ends[node] = max((ends[one] for one in before.get(node, [])), default=0.0) + durations[node]
    return ends


@pytest.mark.parametrize("seed", range(20))
def test_random_graph_as_plain_loop(seed):
    rng = np.random.default_rng(seed)
    nodes = int(rng.integers(1, 60))
    pairs = np.sort(rng.integers(0, nodes, (int(rng.integers(0, 150)), 2)), axis=1)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    shuffle = rng.permutation(nodes)
    durations = rng.random((3, nodes))
    made = plan(Graph(shuffle[pairs[:, 0]], shuffle[pairs[:, 1]], nodes))
    found = finish_times(made, durations)
    for given, ends in zip(durations, found, strict=True):
        assert np.allclose(ends[shuffle], plain(pairs[:, 0], pairs[:, 1], given[shuffle]))
    assert np.array_equal(finish_times(made, durations[0]), found[0])


def test_empty_graph_and_parallel_edges():
    nothing = np.zeros(0, dtype=int)
    assert finish_times(plan(Graph(nothing, nothing, 0)), np.zeros((2, 0))).shape == (2, 0)
    assert finish_times(plan(Graph(nothing, nothing, 2)), np.array([1, 2])).tolist() == [1.0, 2.0]
    twice = plan(Graph(np.array([0, 0]), np.array([1, 1]), 2))
    assert finish_times(twice, np.array([1, 2])).tolist() == [1.0, 3.0]


def test_a_join_holds_every_member_until_the_last_arrives():
    # work 0 and 1, join 2, transfers 3 and 4
    joined = plan(Graph(np.array([0, 1, 2, 2]), np.array([2, 2, 3, 4]), 5))
    assert finish_times(joined, np.array([3.0, 7.0, 0.0, 1.0, 2.0])).tolist() == [3.0, 7.0, 7.0, 8.0, 9.0]


def test_lanes_meet_only_at_shared_nodes():
    chain = plan(Graph(np.array([0, 1]), np.array([1, 2]), 3), shared=np.array([False, True, False]))
    values = np.array([[1.0, 4.0], [0.0, 0.0], [2.0, 3.0]])[:, :, None] * np.ones(2)
    sweep(chain, values)
    assert values[:, :, 0].tolist() == [[1.0, 4.0], [4.0, 4.0], [6.0, 7.0]]


def test_a_cycle_names_its_operations():
    with pytest.raises(SkewscopeError, match=r"cycle of 2 operations: .*(send.*recv|recv.*send)"):
        plan(Graph(np.array([0, 1, 2]), np.array([1, 2, 1]), 3), names=["start", "send", "recv"])


def test_deep_narrow_graph_is_linear():
    count = 20_000
    chain = plan(Graph(np.arange(count - 1), np.arange(1, count), count))
    assert finish_times(chain, np.ones(count))[-1] == count
