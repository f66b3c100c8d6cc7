"""What the schemes promise: patterns of their models always decode, and the rule for it is what linear algebra says."""

import itertools

import numpy as np
import pytest

from skewscope.coding import m_sgc, sr_sgc
from skewscope.coding.decode import Decoder, residual
from skewscope.coding.matrices import build
from skewscope.coding.models import Arbitrary, Bursty, PerRound, conforms, conforms_selective, random_pattern
from skewscope.coding.response import Response
from skewscope.coding.rounds import BEST, PUBLISHED, Rounds
from skewscope.errors import UsageError

FREE = Response("additive", 0.0)
PATTERNS = 214  # of each of 24 cases: 5,136 conforming patterns in all
JOBS = 8
M_SHAPES = [(5, 1, 2, 2), (6, 1, 4, 3), (6, 2, 3, 2), (7, 2, 4, 7), (8, 3, 4, 5), (5, 2, 5, 1), (8, 1, 3, 8),
            (6, 3, 5, 4)]  # fmt: skip
SR_SHAPES = [(6, 1, 2, 4), (6, 1, 3, 3), (8, 2, 3, 5), (8, 2, 5, 6), (7, 3, 4, 4), (9, 1, 4, 7), (6, 2, 3, 6),
             (8, 3, 7, 5)]  # fmt: skip


def seconds(late):
    """Return delays whose late workers (mu 1) are exactly `late`; in full rounds nobody would be."""
    return np.where(late, 3.0, 1.0)


def plain(late):
    """Return a pattern without rounds in which everybody is late: then nobody is later than the fastest."""
    late = late.copy()
    late[late.all(axis=1), 0] = False
    return late


def draws(shape, kind):
    return np.random.default_rng([*map(ord, kind), *shape])


@pytest.mark.parametrize("shape", M_SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["bursty", "arbitrary"])
def test_multiplexed_survives_its_models(shape, kind):
    """All decode, and no round is held open, whichever way the rounds are accepted."""
    workers, burst, window, most = shape
    model = Bursty(burst, window, most) if kind == "bursty" else Arbitrary(burst, window + burst - 1, most)
    draw, seen = draws(shape, kind), 0
    for number in range(PATTERNS):
        late = plain(random_pattern(model, JOBS + window - 2 + burst, workers, draw))
        assert not m_sgc.undecoded(late, burst, window, most, JOBS)
        rounds = Rounds.of(seconds(late), 0.0, FREE)
        rules = PUBLISHED if kind == "bursty" and number % 2 else BEST
        made = m_sgc.simulate(rounds, burst, window, np.array([most]), np.ones(1), JOBS, rules)
        assert made.lost_jobs[0] == 0 and made.waited_rounds[0] == 0
        assert (rounds.late(made.late[:, 0]) == late).all()
        seen += int(late.any())
    assert seen > 0.8 * PATTERNS


@pytest.mark.parametrize("shape", SR_SHAPES, ids=str)
def test_selective_repetition_survives_its_model(shape):
    workers, burst, window, most = shape
    spare = sr_sgc.SrSgc(*shape).losses
    draw, more = draws(shape, "sr"), 0
    for number in range(PATTERNS):
        model = Bursty(burst, window, most) if number % 3 else PerRound(spare)
        late = plain(random_pattern(model, JOBS + burst, workers, draw, 0.9))
        assert conforms_selective(burst, window, most, spare, late)
        assert not sr_sgc.undecoded(late, burst, spare, JOBS)
        more += int((late.sum(axis=1) > spare).any())
        rounds = Rounds.of(seconds(late), 0.0, FREE)
        asked = (np.array([window]), np.array([most]), np.ones(1))
        made = sr_sgc.simulate(rounds, burst, *asked, JOBS, BEST if number % 2 else PUBLISHED)
        assert made.lost_jobs[0] == 0 and made.waited_rounds[0] == 0
    assert more > PATTERNS / 6, "no pattern needed a repetition"


def test_the_promise_is_sharp():
    """One late worker too many, or too long a burst, and some job is lost: the models are no wider than the schemes."""
    window, burst, most, jobs = 3, 2, 2, 6
    broad = np.zeros((jobs + 3, 5), dtype=bool)
    broad[2, :3] = True  # lambda + 1
    lasting = np.zeros((jobs + 3, 5), dtype=bool)
    lasting[2:5, 0] = True  # B + 1 rounds
    for late in (broad, lasting):
        assert not conforms(Bursty(burst, window, most), late)
        assert m_sgc.undecoded(late, burst, window, most, jobs)
    spare = sr_sgc.SrSgc(5, 1, 2, 2).losses
    twice = np.zeros((jobs + 1, 5), dtype=bool)
    twice[2, :2] = twice[3, :2] = True
    assert not conforms_selective(1, 2, 2, spare, twice) and sr_sgc.undecoded(twice, 1, spare, jobs)


def test_selective_windows_may_be_bursty_or_sparse_in_turns():
    late = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]], dtype=bool)
    assert conforms_selective(1, 2, 2, 1, late)
    assert not conforms(Bursty(1, 2, 2), late)
    assert not conforms_selective(1, 2, 2, 0, late)


def conforming(model, late):
    """Return by the definition, window by window, whether a pattern conforms."""
    for first in range(-model.window_rounds + 1, len(late)):
        window = late[max(0, first) : first + model.window_rounds]
        rounds = [np.flatnonzero(column) for column in window.T if column.any()]
        if len(rounds) > model.late_workers:
            return False
        if isinstance(model, Bursty) and any(one[-1] - one[0] >= model.burst_rounds for one in rounds):
            return False
        if isinstance(model, Arbitrary) and any(len(one) > model.times for one in rounds):
            return False
    return True


@pytest.mark.parametrize("model", [Bursty(1, 3, 2), Bursty(2, 3, 1), Arbitrary(1, 3, 2), Arbitrary(2, 4, 2)], ids=str)
def test_models_are_what_they_are_called(model):
    """All 4,096 patterns of 4 rounds and 3 workers."""
    every = [np.array(bits, dtype=bool).reshape(4, 3) for bits in itertools.product((0, 1), repeat=12)]
    verdicts = [conforms(model, late) for late in every]
    assert verdicts == [conforming(model, late) for late in every]
    assert 20 < sum(verdicts) < 3800


def spans(rows, chunks):
    """Return whether the sum of all chunks is a combination of the rows [results, chunks]."""
    if not rows:
        return False
    matrix = np.array(rows)
    found = np.linalg.lstsq(matrix.T, np.ones(chunks), rcond=None)[0]
    return float(np.abs(found @ matrix - 1).max()) < 1e-6


def multiplexed_results(late, burst, window, most, code):
    """Return what workers return for job 0: rows over its chunks, private ones first, then group after group."""
    workers = late.shape[1]
    private = window - 1
    chunks = workers * (private + (burst if most < workers else 0))
    rows = []
    done = [set() for _ in range(workers)]
    for slot in range(private + burst):
        for worker in np.flatnonzero(~late[slot]):
            row = np.zeros(chunks)
            owing = [chunk for chunk in range(private) if chunk not in done[worker]]
            if slot < private or owing:
                chunk = slot if slot < private else owing[0]
                done[worker].add(chunk)
                row[worker * private + chunk] = 1.0
            elif most < workers:
                first = workers * (private + slot - private)
                row[first : first + workers] = code[worker]
            rows.append(row)
    return rows, chunks


@pytest.mark.parametrize("shape", [(3, 1, 2, 1), (4, 1, 3, 2), (3, 2, 3, 1), (3, 1, 2, 3), (4, 1, 2, 2)], ids=str)
def test_multiplexed_decodes_exactly_where_the_results_span_the_gradient(shape):
    """All patterns of one job's rounds (512 to 4,096, thinned), against the rank of what was really returned."""
    workers, burst, window, most = shape
    code = build("cyclic-random", workers, min(most, workers - 1), seed=1).matrix
    slots = window - 1 + burst
    every = list(itertools.product((0, 1), repeat=slots * workers))
    lost = 0
    for bits in every[:: max(1, len(every) // 600)]:
        late = np.array(bits, dtype=bool).reshape(slots, workers)
        decoded = spans(*multiplexed_results(late, burst, window, most, code))
        assert decoded == (not m_sgc.undecoded(late, burst, window, most, 1)), late.astype(int)
        lost += not decoded
    assert 0 < lost < len(every)


@pytest.mark.parametrize("shape", [(3, 1, 2, 2), (4, 1, 2, 4), (3, 2, 3, 2)], ids=str)
def test_selective_repetition_decodes_exactly_where_the_results_span_the_gradient(shape):
    """Who returned what comes from the scheme played by hand; the rank of the coded rows decides."""
    workers, burst, window, most = shape
    spare = sr_sgc.SrSgc(*shape).losses
    code = build("cyclic-random", workers, spare, seed=1).matrix
    draw, jobs, outcomes = draws(shape, "span"), 4, []
    for _ in range(300):
        late = draw.random((jobs + burst, workers)) < 0.35
        results = {job: set() for job in range(jobs)}
        for number in range(jobs + burst):
            old = number - burst
            absent = sorted(set(range(workers)) - results[old]) if 0 <= old < jobs else []
            busy = absent[: max(0, len(absent) - spare)]
            for worker in np.flatnonzero(~late[number]):
                job = old if worker in busy else number
                if job < jobs:
                    results[job].add(int(worker))
        wrong = [job for job in range(jobs) if not spans([code[one] for one in sorted(results[job])], workers)]
        assert wrong == sr_sgc.undecoded(late, burst, spare, jobs)
        outcomes.append(bool(wrong))
    assert 0 < sum(outcomes) < len(outcomes)


@pytest.mark.parametrize(("kind", "workers", "losses"), [
    ("uneven-fractional", 7, 2), ("fractional", 6, 2), ("cyclic-random", 7, 3), ("unit-circle", 8, 3),
    ("uneven-fractional", 5, 0), ("cyclic-random", 4, 0), ("unit-circle", 6, 1),
])  # fmt: skip
def test_codes_decode_exactly_the_sets_that_can_be(kind, workers, losses):
    """Every set of missing workers up to one more than promised, against the rank of the rows that are left."""
    code = build(kind, workers, losses)
    decoder = Decoder(code)
    for count in range(min(losses + 2, workers)):
        for missing in itertools.combinations(range(workers), count):
            alive = [row for worker, row in enumerate(code.matrix) if worker not in missing]
            possible = spans(alive, code.matrix.shape[1])
            try:
                weights = decoder.weights(np.array(missing, dtype=int))
            except UsageError:
                assert count > losses
                assert not possible or kind not in ("uneven-fractional", "fractional")
                continue
            assert possible and residual(code, weights) < 1e-8 and not weights[list(missing)].any()
