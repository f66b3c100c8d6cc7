"""Train a small real job, slowed on purpose, and write what a user would have on disk.

  python tests/jobs/run.py --kind compute-slow --world 6 --culprit 2 --amount 1.35 --out DIR [--truth FILE] [--control]

The label goes to FILE, which must lie outside DIR; with --control a healthy job of the same size and seed runs
before and after, and the label holds the cost that was measured against them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path

import net
import scenario as kinds
import truth
from scenario import Scenario

HERE = Path(__file__).parent
LIMIT_S = 240.0


def train(job: Scenario, folder: Path) -> truth.Machine:
    """Run all ranks of a job into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    before = os.getloadavg()[0]
    started_ns = time.time_ns()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        job.write(scratch / "scenario.json")
        inside = stack.enter_context(_places(job))
        ranks = [_start(job, folder, scratch, rank, inside) for rank in range(job.world)]
        stack.callback(lambda: [one.kill() for one in ranks if one.poll() is None])
        _wait(ranks, scratch)
        waited = {rank: _waits_ms(scratch / f"kept_waiting_rank{rank}.json") for rank in range(job.world)}
    (folder / "job.json").write_text(json.dumps(truth.job_card(job, started_ns), indent=1))
    return truth.Machine((before, os.getloadavg()[0]), waited)


def _waits_ms(path: Path) -> list[float]:
    waits_s = json.loads(path.read_text()) if path.exists() else []
    return [round(one * 1e3, 3) for one in waits_s]


def _places(job: Scenario):
    if job.kind == "slow-link":
        return net.namespaces(job.world, job.culprit, job.amount)
    return tempfile.TemporaryDirectory()  # nothing to prepare: any context will do


def _start(job: Scenario, folder: Path, scratch: Path, rank: int, inside) -> subprocess.Popen[bytes]:
    split = job.kind == "slow-link"
    settings = {
        **os.environ, "TORCH_FR_BUFFER_SIZE": "2000", "GLOO_SOCKET_IFNAME": "eth0" if split else "lo",
        "OMP_NUM_THREADS": "1", "KINETO_LOG_LEVEL": "5", "TORCH_CPP_LOG_LEVEL": "ERROR",
    }  # fmt: skip
    for name in [name for name in settings if name.startswith("COV")]:
        del settings[name]  # ranks are no part of the library
    words = [sys.executable, str(HERE / "rank.py"), str(folder), str(scratch / "scenario.json"), str(rank),
             str(scratch / "store")]  # fmt: skip
    prefix = ["ip", "netns", "exec", inside[rank]] if split else []
    with (scratch / f"rank{rank}.txt").open("wb") as told:
        return subprocess.Popen([*prefix, *words], env=settings, stdin=subprocess.DEVNULL, stdout=told, stderr=told)


def _wait(ranks: list[subprocess.Popen[bytes]], scratch: Path) -> None:
    limit = time.monotonic() + LIMIT_S
    for number, one in enumerate(ranks):
        code = one.wait(timeout=max(1.0, limit - time.monotonic()))
        if code != 0:
            told = (scratch / f"rank{number}.txt").read_text(errors="replace")
            raise RuntimeError(f"rank {number} ended with {code}:\n{told[-3000:]}")


def step_ms(job: Scenario, folder: Path, first: int) -> float:
    """Return the median step of the ranks, from `first`, without the step that exports the traces."""
    lengths = []
    for path in folder.glob("steps_rank*.jsonl"):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            if row["step"] >= max(first, 2) and row["step"] != job.last_profiled + 1:
                lengths.append(row["step_ms"])
    return statistics.median(lengths)


def control(job: Scenario) -> float:
    """Return the median step of a healthy job of the same size and seed."""
    kind = "healthy-pipeline" if job.is_pipeline() else "healthy"
    healthy = replace(job, kind=kind, culprit=-1, amount=1.0)
    if job.kind == "slow-link":
        healthy = replace(job, culprit=-1)
    with tempfile.TemporaryDirectory() as place:
        train(healthy, Path(place))
        return step_ms(healthy, Path(place), job.from_step + 1)


def main() -> int:
    """Read the flags, train, label."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(Scenario):
        flag = "--" + field.name.replace("_", "-")
        if isinstance(field.default, bool):
            parser.add_argument(flag, action="store_true")
        elif field.name == "kind":
            parser.add_argument(flag, required=True, choices=kinds.KINDS)
        else:
            parser.add_argument(flag, type=type(field.default), default=field.default)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--control", action="store_true")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the ranks end with us
    job = Scenario(**{field.name: getattr(args, field.name) for field in fields(Scenario)})
    if job.kind == "slow-link" and not net.possible():
        print("slow-link needs root, ip and tc, and the right to make network namespaces", file=sys.stderr)
        return 77
    can_compare = args.control and job.kind != "hang"
    controls = [control(job)] if can_compare else []
    machine = train(job, args.out)
    controls += [control(job)] if can_compare else []
    if args.truth:
        seen = step_ms(job, args.out, job.from_step + 1) if job.kind != "hang" else None
        args.truth.write_text(json.dumps(truth.label(job, args.out.name, seen, controls, machine), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
