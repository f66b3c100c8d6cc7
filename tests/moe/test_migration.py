import numpy as np
import pytest

from skewscope.errors import UsageError
from skewscope.moe.migration import aligned, holds, migration
from skewscope.moe.placement import Placement
from skewscope.moe.times import HARDWARE


def placed(rows, gpus, experts, nodes=1):
    return Placement(np.array(rows), gpus, experts, nodes)


def test_copies_inside_a_node_and_across():
    now = placed([[0, 1, 2, 3, 4, 5, 6, 7]], 4, 8, nodes=2)
    later = placed([[0, 2, 1, 4, 3, 5, 6, 7]], 4, 8, nodes=2)
    found = migration(now, later)
    assert found.inside.tolist() == [[1, 1, 0, 0]]  # 2 to GPU 0 and 1 to GPU 1, both within node 0
    assert found.across.tolist() == [[0, 1, 1, 0]]  # 4 to GPU 1 and 3 to GPU 2
    assert found.copies.tolist() == [4] and found.gpu_bytes(10.0).tolist() == [10.0, 20.0, 10.0, 0.0]
    board = HARDWARE["h200"]
    wanted = 1e9 / board.nvlink_bytes_per_s + 1e9 / board.network_bytes_per_s
    assert found.seconds(1e9, board) == pytest.approx(wanted)  # GPU 1 receives one of each


def test_nothing_moves_where_nothing_changes_and_more_slots_only_add():
    now = placed([[0, 1, 2, 3]], 2, 4)
    assert migration(now, now).copies.tolist() == [0]
    assert migration(now, placed([[1, 0, 3, 2]], 2, 4)).copies.tolist() == [0]
    more = placed([[0, 1, 2, 2, 3, 0]], 2, 4)
    assert migration(now, more).inside.tolist() == [[1, 1]]
    with pytest.raises(UsageError, match="cannot become"):
        migration(now, placed([[0, 1, 2, 3]], 4, 4))


def test_alignment_keeps_the_plan_and_changes_as_many_slots_as_are_copied():
    chance = np.random.default_rng(3)
    now, later = (placed([chance.permutation(np.concatenate([np.arange(12), chance.integers(0, 12, 4)]))
                          for _ in range(20)], 4, 12) for _ in range(2))  # fmt: skip
    made = aligned(now, later)
    assert np.array_equal(np.sort(made.by_gpu(), -1), np.sort(later.by_gpu(), -1))
    twice = np.array([len(set(row)) < len(row) for row in made.by_gpu().reshape(-1, 4).tolist()]).reshape(20, 4)
    changed = (made.by_gpu() != now.by_gpu()).sum(-1)
    copied = migration(now, later).inside + migration(now, later).across
    assert np.array_equal(changed[~twice], copied[~twice]) and (changed >= copied).all() and (~twice).sum() > 30
    assert np.array_equal(holds(made), holds(later))


def test_replicas_on_one_gpu_are_kept():
    now, later = placed([[0, 0, 1, 2]], 2, 3), placed([[0, 0, 2, 1]], 2, 3)
    assert aligned(now, later).slots.tolist() == [[0, 0, 1, 2]]
    assert aligned(now, placed([[1, 0, 2, 0]], 2, 3)).slots.tolist() == [[0, 1, 0, 2]]
