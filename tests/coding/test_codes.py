"""Encoding matrices, decoders and their safety: what is exact, what amplifies, what is refused."""

import itertools
import json
import time
from io import BytesIO

import numpy as np
import pytest

from skewscope.coding import approximate, decode, export, heterogeneous, matrices, safety
from skewscope.coding.fractional import Fractional
from skewscope.coding.gc import Gc
from skewscope.coding.m_sgc import MSgc
from skewscope.coding.matrices import build
from skewscope.coding.response import Response
from skewscope.coding.sr_sgc import SrSgc
from skewscope.coding.uncoded import Uncoded
from skewscope.errors import UsageError


def worst(code, sets):
    """Return the largest residual and amplification over sets of missing workers."""
    decoder = decode.Decoder(code)
    weights = [decoder.weights(missing) for missing in sets]
    return (max(decode.residual(code, one) for one in weights), max(decode.amplification(code, one) for one in weights))


def random_sets(workers, losses):
    draw = np.random.default_rng(0)
    return [draw.choice(workers, losses, replace=False) for _ in range(10)]


def adjacent_sets(workers, losses):
    return [(start + np.arange(losses)) % workers for start in range(0, workers, workers // 10)]


@pytest.mark.parametrize(("workers", "losses"), [(256, 15), (256, 27), (512, 31), (10, 3), (7, 6)])
def test_repetition_is_exact_whoever_is_missing(workers, losses):
    code = build("uneven-fractional", workers, losses)
    sets = [*random_sets(workers, losses), *([] if workers < 20 else adjacent_sets(workers, losses))]
    assert worst(code, sets) == (0.0, 1.0)
    assert np.bincount(code.groups).min() >= losses + 1 and code.load == Fractional(workers, losses).load
    for dtype in safety.DTYPES:
        verdict = safety.judge(code, dtype)
        assert verdict.safe and verdict.lost_ratio < 2e-4, dtype


def test_the_random_cyclic_code_amplifies():
    """Reference for n=256, s=15: residual 7e-10, amplification 3e5 of random sets; draws differ by a factor of 100."""
    code = build("cyclic-random", 256, 15)
    assert ((code.matrix != 0).sum(axis=1) == 16).all()
    left, grown = worst(code, random_sets(256, 15))
    assert left < 1e-7 and 1e3 < grown < 1e8
    near = [np.flatnonzero(row) for row in code.matrix]
    assert all(set(part) == {(worker + step) % 256 for step in range(16)} for worker, part in enumerate(near))


def test_the_unit_circle_breaks_where_neighbours_are_missing():
    """Without spreading the ranks of a node; s=3 is fine, s=15 is lost for neighbours and fine for scattered ones."""
    assert worst(build("unit-circle", 256, 3, spread=False), adjacent_sets(256, 3))[0] < 1e-8
    lost = build("unit-circle", 256, 15, spread=False)
    scattered = [np.arange(15) * 17 + start for start in range(3)]
    assert worst(lost, adjacent_sets(256, 15))[0] > 0.1
    left, grown = worst(lost, scattered)
    assert left < 1e-10 and grown < 10
    assert not safety.judge(lost, "fp64").safe
    spread = build("unit-circle", 256, 15)
    node = [8 * first + np.arange(8) for first in (0, 7, 31)]  # a node of 8 neighbouring ranks
    assert worst(spread, [np.concatenate([one, (one[-1] + 40 + np.arange(7) * 11) % 256]) for one in node])[0] < 1e-6


def test_codes_with_complex_coefficients_are_refused():
    assert np.isrealobj(build("unit-circle", 9, 2).matrix)
    with pytest.raises(UsageError, match="take s=3"):
        build("unit-circle", 8, 2)


@pytest.mark.parametrize(("kind", "workers", "losses", "words"), [
    ("fractional", 256, 27, "uneven"), ("cyclic", 8, 1, "no code"), ("cyclic-random", 8, 8, "0 to 7"),
    ("cyclic-random", 8, -1, "0 to 7"),
])  # fmt: skip
def test_codes_that_cannot_be(kind, workers, losses, words):
    with pytest.raises(UsageError, match=words):
        build(kind, workers, losses)


@pytest.mark.parametrize(("kind", "workers", "losses", "dtype", "safe"), [
    ("cyclic-random", 512, 31, "fp64", True), ("cyclic-random", 512, 31, "bf16", False),
    ("cyclic-random", 256, 15, "fp32", True), ("cyclic-random", 16, 3, "bf16", False),
    ("unit-circle", 16, 1, "bf16", True),
    ("unit-circle", 64, 15, "fp32", False), ("fractional", 512, 31, "bf16", True),
])  # fmt: skip
def test_verdicts_in_the_dtype_of_the_gradient(kind, workers, losses, dtype, safe):
    _, verdict = safety.safest(kind, workers, losses, dtype)
    assert verdict.safe is safe
    assert (verdict.lost_ratio <= 1e-3) is safe
    assert safe or f"is lost in {dtype}, more than 0.001" in verdict.reason


def test_a_verdict_is_what_a_real_decode_loses():
    """Send fp32 results of a random cyclic code through numpy itself."""
    code = build("cyclic-random", 64, 7, seed=2)
    verdict = safety.judge(code, "fp32")
    gradients = np.random.default_rng(5).standard_normal((64, 4000))
    total = gradients.sum(axis=0)
    sent = (code.matrix @ gradients).astype(np.float32).astype(float)
    weights = decode.Decoder(code).weights(np.array(verdict.missing))
    error = np.linalg.norm(weights @ sent - total) / np.linalg.norm(total)
    assert error == pytest.approx(verdict.error_ratio, rel=0.3)
    assert verdict.sets_count == 20 and verdict.uncoded_error_ratio < 1e-7


def test_all_sets_are_tried_where_they_are_few():
    assert safety.judge(build("cyclic-random", 8, 2), "fp32").sets_count == 28
    assert len({tuple(one) for one in safety.missing_sets(8, 2)}) == 28


def test_rounding_to_bf16_is_torch_s():
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).standard_normal(5000) * 10.0 ** np.random.default_rng(1).integers(-8, 8, 5000)
    wanted = torch.tensor(values.astype(np.float32)).to(torch.bfloat16).to(torch.float64).numpy()
    assert (safety.rounded(values, "bf16") == wanted).all()
    assert (safety.rounded(values, "fp32") == values.astype(np.float32)).all()
    with pytest.raises(UsageError, match="fp16"):
        safety.rounded(values, "fp16")


@pytest.mark.parametrize("kind", ["uneven-fractional", "cyclic-random", "unit-circle"])
def test_decoding_512_workers_takes_less_than_a_millisecond(kind):
    """Of processor time, the best of several decodings; 0.02 to 0.1 ms were seen."""
    decoder = decode.Decoder(build(kind, 512, 31))
    took = []
    for missing in random_sets(512, 31):
        start = time.process_time()
        decoder.weights(missing)
        took.append(time.process_time() - start)
    assert min(took) < 1e-3


def test_fewer_losses_than_promised_decode_too():
    for kind in ("cyclic-random", "unit-circle"):
        code = build(kind, 20, 5)
        for missing in ([], [3], [3, 4, 19]):
            weights = decode.Decoder(code).weights(np.array(missing, dtype=int))
            assert decode.residual(code, weights) < 1e-8 and not weights[missing].any()
        with pytest.raises(UsageError, match="6 workers are missing"):
            decode.Decoder(code).weights(np.arange(6))


def test_repetition_survives_more_while_every_group_has_one():
    decoder = decode.Decoder(build("uneven-fractional", 9, 2))  # groups 0 1 2 0 1 2 0 1 2
    assert decoder.weights(np.arange(6)).tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1]
    with pytest.raises(UsageError, match=r"group 1 lost all its workers \(1, 4, 7\)"):
        decoder.weights(np.array([1, 4, 7]))


def test_the_least_squares_decoder_loses_what_is_lost():
    """n=6, d=2: of three groups one is gone, so the squared distance is 1 and the share lost a third."""
    code = build("fractional", 6, 1)
    weights = decode.best_weights(code, np.array([0, 3]))
    assert ((weights @ code.matrix - 1) ** 2).sum() == pytest.approx(1.0)
    late = np.zeros((1, 6), dtype=bool)
    late[0, [0, 3]] = True
    assert approximate.lost_share(late, 2)[0] == pytest.approx(1 / 3)


def test_the_expected_lost_share_is_that_of_all_sets():
    for workers, copies, losses in [(6, 2, 3), (7, 2, 3), (8, 3, 5)]:
        sets = list(itertools.combinations(range(workers), losses))
        late = np.zeros((len(sets), workers), dtype=bool)
        for row, missing in enumerate(sets):
            late[row, list(missing)] = True
        expected = approximate.lost_ratio(workers, copies, losses)
        assert expected == pytest.approx(approximate.lost_share(late, copies).mean())
    assert approximate.lost_ratio(255, 3, 16) == pytest.approx(560 / 2731135)  # C(16, 3) / C(255, 3)


@pytest.mark.parametrize("seed", range(4))
def test_uneven_copies_survive_all_losses(seed):
    draw = np.random.default_rng(seed)
    speeds, losses, partitions = draw.uniform(0.2, 2.0, 7), 2, 9
    held = heterogeneous.copies(speeds, partitions, losses)
    assert held.sum() == partitions * 3 and held.max() <= partitions
    assert (np.diff(held[np.argsort(speeds)]) >= 0).all()
    parts = heterogeneous.layout(held, partitions)
    assert all(len(set(part.tolist())) == len(part) for part in parts)
    code = matrices.of_layout(parts, partitions, losses, seed)
    decoder = decode.Decoder(code)
    for missing in itertools.combinations(range(7), losses):
        assert decode.residual(code, decoder.weights(np.array(missing))) < 1e-8


def test_uneven_copies_that_cannot_be():
    with pytest.raises(UsageError, match="positive"):
        heterogeneous.copies(np.array([1.0, 0.0]), 4, 0)
    with pytest.raises(UsageError, match="partition 1 is on 1 workers"):
        matrices.of_layout([np.array([0, 1]), np.array([0])], 2, 1)
    free = heterogeneous.balanced(np.array([[1.0, 2.0, 3.0, 4.0]]), Response("additive", 0.0), 0.25, 8, 1)
    assert free.copies == (4, 4, 4, 4), "load costs nothing, so nothing is balanced"


@pytest.mark.parametrize("answer", [Response("multiplicative", fixed_s=0.2), Response("additive", 4.0)], ids=str)
def test_balanced_copies_let_everybody_finish_together(answer):
    """Speeds 1, 1, 2, 4; the additive one makes up a slow start by less work."""
    seconds = 0.2 + np.array([[1.0, 1.0, 0.5, 0.25]])
    made = heterogeneous.balanced(seconds, answer, 0.25, 400, 0)
    times = answer.move(seconds[0], 0.25, np.array(made.copies) / 400)
    assert np.ptp(times) < 0.02 * times.mean() + 4.0 / 400
    assert made.copies[3] > made.copies[2] > made.copies[0]


def test_matrices_are_exported_as_they_are():
    code = build("cyclic-random", 5, 2)
    assert (np.load(BytesIO(export.matrix_file(code, "a.npy")), allow_pickle=False) == code.matrix).all()
    assert (np.loadtxt(export.matrix_file(code, "a.csv").decode().splitlines(), delimiter=",") == code.matrix).all()
    document = json.loads(export.matrix_file(code, "a.json"))
    again = np.zeros((5, 5))
    for worker, (chunks, factors) in enumerate(
        zip(document["worker_chunks"], document["worker_coefficients"], strict=True)
    ):
        again[worker, chunks] = factors
    assert (again == code.matrix).all() and document["losses"] == 2
    with pytest.raises(UsageError, match=r"\.npy, \.csv or \.json"):
        export.matrix_file(code, "a.txt")


@pytest.mark.parametrize("scheme", [
    Uncoded(6), Gc(6, 2), Fractional(7, 1), SrSgc(6, 1, 2, 4), heterogeneous.Heterogeneous(1, 4, (4, 2, 2)),
    approximate.Approximate(6, 2, 1),
], ids=str)  # fmt: skip
def test_schedules_hold_the_whole_batch_and_the_load(scheme):
    made = export.schedule(scheme)
    sizes = np.array(made["chunk_sizes"])
    held = [sizes[chunks].sum() for chunks in made["worker_chunks"]]
    assert sizes.sum() == pytest.approx(1.0) and max(held) == pytest.approx(scheme.load)
    assert set().union(*made["worker_chunks"]) == set(range(len(sizes)))
    json.dumps(made)


@pytest.mark.parametrize("scheme", [MSgc(5, 1, 2, 2), MSgc(4, 2, 4, 3), MSgc(4, 2, 3, 4)], ids=str)
def test_the_schedule_of_m_sgc_costs_its_load(scheme):
    """A round's tasks: a private chunk in each slot, or as much in a coded group."""
    made = export.schedule(scheme)
    sizes = np.array(made["chunk_sizes"])
    assert sizes.sum() == pytest.approx(1.0)
    task = sizes[made["worker_private_chunks"][0][0]]
    assert len(made["slots"]) * task == pytest.approx(scheme.load)
    assert made["jobs_in_flight"] == scheme.delay_rounds + 1 == len(made["slots"])
    for group in made["worker_group_chunks"]:
        assert all(sizes[chunks].sum() == pytest.approx(task) for chunks in group)
        assert {chunk for chunks in group for chunk in chunks} == set(np.ravel(group).tolist())
