"""Real jobs that really suffer: `skewscope run` records them, `skewscope analyze` must say who and why.

Each fault has a healthy twin, the same job on the same machine without the fault, that nobody may be blamed for. All
kinds with three seeds: `make faults`, about ten minutes on a quiet machine. A few of them are part of every test run.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).parent
K = SimpleNamespace(**run_path(str(HERE / "_kinds.py")))
MEANS = SimpleNamespace(**run_path(str(HERE / "_means.py")))
NET = SimpleNamespace(**run_path(str(HERE.parent / "jobs/net.py")))
SKEWSCOPE = [sys.executable, "-c", "from skewscope.commands import main; raise SystemExit(main())"]
SEED = int(os.environ.get("SKEWSCOPE_TEST_SEED", random.SystemRandom().randrange(10_000)))
LIMIT_S = 300
SHORT_STEPS = 12

pytestmark = pytest.mark.usefixtures("cores")


def missing(name: str, place: Path) -> str:
    """Return what this machine lacks for a kind of fault, "" for nothing."""
    if name == "cpu-quota":
        return MEANS.without("cpu")
    if name == "slow-disk":
        return MEANS.without("blkio") or ("" if MEANS.disk_of(place) else f"{place} lies on no disk")
    if name == "slow-link":
        return "" if NET.possible() else "no network namespaces, or no tc in them, may be made here"
    return "a single core" if name == "cpu-hog" and len(K.cores()) < 2 else ""


def order(name: str, seed: int, folder: Path, *, faulty: bool, steps: int | None = None):
    """Return one job: the culprit is drawn by the seed."""
    pytest.importorskip("torch")
    if lacks := missing(name, folder):
        pytest.skip(lacks)
    kind = K.KINDS[name]
    culprit = random.Random(f"{seed}-{name}").randrange(kind.world)
    place = folder / ("faulty" if faulty else "twin")
    place.mkdir()
    apart = name == "leaves" and NET.possible()
    return K.Order(name, seed, culprit, faulty, str(place), steps or kind.steps, apart)


def recorded(job, folder: Path) -> Path:
    """Run a job under `skewscope run`; return the folder of its rings."""
    name = "faulty" if job.faulty else "twin"
    job.write(folder / f"{name}.json")
    rings = folder / f"{name}-rings"
    settings = {key: value for key, value in os.environ.items() if not key.startswith(("COV", "SKEWSCOPE"))}
    words = [*SKEWSCOPE, "run", "--spool", rings, "--job", job.kind, "--", sys.executable, HERE / "_job.py"]
    done = subprocess.run(
        [str(word) for word in [*words, folder / f"{name}.json"]], capture_output=True, text=True, timeout=LIMIT_S,
        env={**settings, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"},
    )  # fmt: skip
    errors = [path.read_text() for path in sorted(Path(job.folder).glob("error*.txt"))]
    assert done.returncode == 0, "\n".join([done.stderr[-2000:], *errors[:1]])
    return rings


def blamed(report) -> dict[tuple[str, str], str]:
    """Return {(condition, subject): what is told} of all culprits."""
    return {(one["condition"], one["subject"]["id"]): one["summary"] for one in report["findings"]
            if one["role"] == "culprit"}  # fmt: skip


def wrong(job, found: dict[tuple[str, str], str]) -> str:
    """Return what is wrong with a verdict, "" for nothing."""
    if not job.faulty:
        return f"a healthy job is blamed: {found}" if found else ""
    kind, who = job.what, job.what.named.format(job.culprit)
    right = {one for one in found if one[0] in kind.right and one[1] == who}
    if not right:
        return f"none of {kind.right} is named for {who}: {found}"
    if not any(kind.says.format(job.hot) in found[one] for one in right):
        return f"{kind.says.format(job.hot)!r} is not told: {found}"
    beside = {one for one in found if one not in right and one[0] not in kind.tolerated
              and not (one[0] in kind.on_culprit and one[1] == f"job/rank{job.culprit}")}  # fmt: skip
    return f"blamed beside it: {beside}" if beside else ""


def judged(job, folder: Path, analyzed) -> tuple[str, str]:
    """Run a job and return what is wrong with its verdict, and a line about it."""
    found = blamed(analyzed(recorded(job, folder)))
    said = ", ".join(f"{condition} {subject}" for condition, subject in found) or "nobody"
    return wrong(job, found), f"{said} ({'culprit ' + str(job.culprit) if job.faulty else 'healthy twin'})"


@pytest.mark.faults
@pytest.mark.parametrize("seed", [SEED, SEED + 1, SEED + 2], ids=["first", "second", "third"])
@pytest.mark.parametrize("name", K.KINDS)
def test_a_real_fault_is_named_and_its_twin_is_not(name, seed, tmp_path, analyzed, told):
    verdicts = [judged(order(name, seed, tmp_path, faulty=faulty), tmp_path, analyzed) for faulty in (True, False)]
    errors = [error for error, _ in verdicts if error]
    told.append(f"{'WRONG' if errors else 'right'}  {name}, seed {seed}: " + "; ".join(line for _, line in verdicts))
    assert not errors, f"SKEWSCOPE_TEST_SEED={SEED}: {errors}"


@pytest.mark.parametrize(("name", "faulty"), [("stopped", True), ("stopped", False), ("stage", True)])
def test_in_short(name, faulty, analyzed, tried):
    def check(folder):
        error, line = judged(order(name, SEED, folder, faulty=faulty, steps=SHORT_STEPS), folder, analyzed)
        assert not error, f"SKEWSCOPE_TEST_SEED={SEED}: {line}: {error}"

    tried(check)


@pytest.mark.parametrize(
    ("faulty", "found", "error"),
    [
        (True, {("coll-late-rank", "job/rank2"): ""}, ""),
        (True, {("coll-late-rank", "job/rank2"): "", ("comm-exposed", "job"): ""}, ""),
        (True, {}, "none of"),
        (True, {("coll-late-rank", "job/rank1"): ""}, "none of"),
        (True, {("coll-late-rank", "job/rank2"): "", ("coll-late-rank", "job/rank1"): ""}, "beside"),
        (True, {("step-spike", "job/rank2"): ""}, "none of"),
        (False, {}, ""),
        (False, {("coll-late-rank", "job/rank2"): ""}, "healthy"),
    ],
)
def test_the_judge_is_strict(faulty, found, error):
    assert error in wrong(K.Order("stopped", 1, 2, faulty, "", 9), found)
    assert bool(error) == bool(wrong(K.Order("stopped", 1, 2, faulty, "", 9), found))


def test_the_hot_expert_must_be_told():
    job = K.Order("experts", 1, 2, True, "", 9)
    assert not wrong(job, {("moe-hot-expert", "job"): "at worst layer 0 expert 5 (4.9 times)"})
    assert "is not told" in wrong(job, {("moe-hot-expert", "job"): "at worst layer 0 expert 4 (4.9 times)"})
