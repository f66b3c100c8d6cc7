from pathlib import Path

import pytest

from skewscope.simulate.partitions import write
from skewscope.simulate.scenario import parse

JOB = {"name": "train", "ranks": 32, "steps": 36, "step_s": 1.0, "tp": 4, "pp": 2, "microbatches": 2,
       "checkpoint_steps": 20, "checkpoint_s": 3.0}  # fmt: skip
FAULT = {"condition": "gpu-slow-silent", "shape": "steady", "severity": 0.5, "onset": 0.25}


@pytest.fixture(scope="session")
def job(tmp_path_factory) -> tuple[Path, dict]:
    """Return the folder of a simulated job of 32 ranks, one of them slow from a quarter on, and the truth."""
    folder = tmp_path_factory.mktemp("job")
    plan = parse({"jobs": [JOB], "faults": [FAULT]}, "one-slow")
    return folder, write(plan, folder, seed=3, steps_per_part=6)
