"""Take a plan at its word: train, ask `skewscope plan batch`, train again with the split it gives, compare.

  python tests/jobs/resplit.py --runs 5 --out DIR [--json FILE]

Every run draws its own seed and culprit. One rank does all its work twice. Three jobs are recorded: the even split,
the same with about half the batch (which tells how much of the work does not shrink with the samples), and the
recommended split. The step time is the median of the profiled steps, predicted and realised. What the model became
shows that the weights in the plan are right: the split must not change it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import run
from scenario import Scenario

BATCH, WORLD, SLOWED = 28, 4, 2.0
STEPS = {"steps": 16, "wait": 2, "warmup": 1, "active": 12}


def job(split: list[int], culprit: int, seed: int) -> Scenario:
    """Return the job with a split."""
    words = ",".join(map(str, split))
    return Scenario("compute-twice", WORLD, culprit, SLOWED, seed=seed, samples=words, **STEPS)


def planned(recording: Path, half: Path | None) -> dict:
    """Return the plan document for a recording."""
    words = ["plan", "batch", str(recording), "--batch", str(BATCH), "--json", "-"]
    words += ["--also", str(half)] if half else []
    done = subprocess.run([sys.executable, "-m", "skewscope", *words], check=True, capture_output=True, timeout=120)
    return json.loads(done.stdout)


def experiment(folder: Path, seed: int, half: bool) -> dict:
    """Return what was predicted and what came, in seconds, of one run in an empty folder."""
    culprit = random.Random(seed).randrange(WORLD)
    even = [BATCH // WORLD] * WORLD
    before = os.getloadavg()[0]
    run.train(job(even, culprit, seed), folder / "even")
    if half:
        run.train(job([part // 2 + 1 for part in even], culprit, seed), folder / "half")
    plan = planned(folder / "even", folder / "half" if half else None)
    split = plan["plan"]["samples"]
    run.train(job(split, culprit, seed), folder / "split")
    after = planned(folder / "split", None)
    now, realised = plan["current"]["step_p50_s"], after["current"]["step_p50_s"]
    predicted = plan["proposed"]["step_p50_s"]
    return {
        "seed": seed, "culprit": culprit, "split": split, "now_s": now, "predicted_s": predicted,
        "low_s": plan["proposed"]["step_low_s"], "high_s": plan["proposed"]["step_high_s"], "realised_s": realised,
        "mean_s": [plan["current"]["step_s"], plan["proposed"]["step_s"], after["current"]["step_s"]],
        "off_ratio": realised / predicted - 1, "model_off_ratio": drift(folder / "even", folder / "split"),
        "load_before_after": [before, os.getloadavg()[0]], "half_recorded": half,
    }  # fmt: skip


def drift(one: Path, other: Path) -> float:
    """Return the largest relative difference of the parameters' norms after two jobs."""
    first, second = (json.loads((path.parent / f"{path.name}-model.json").read_text()) for path in (one, other))
    return max(abs(second[name] / value - 1) for name, value in first.items())


def table(rows: list[dict]) -> str:
    """Return the rows for people."""
    lines = ["seed  culprit  split            now s  predicted s  interval of mean  realised s  off"]
    for row in rows:
        split, span = ",".join(map(str, row["split"])), f"{row['low_s']:.3f}..{row['high_s']:.3f}"
        times = f"{row['now_s']:.3f}  {row['predicted_s']:11.3f}  {span:16}  {row['realised_s']:10.3f}"
        lines.append(f"{row['seed']:4}  {row['culprit']:7}  {split:15}  {times}  {row['off_ratio']:+.1%}")
    return "\n".join(lines)


def main() -> int:
    """Read the flags, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--single", action="store_true", help="record no job with half the batch")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for number in range(args.runs):
        folder = args.out / f"run{number}"
        folder.mkdir(parents=True)
        rows.append(experiment(folder, args.seed + number, not args.single))
        print(table(rows[-1:]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
