"""Simulate a fleet with known faults: telemetry, tables and the truth of what was wrong.

SCENARIO is the name of a shipped one (`--list` tells them) or a TOML file. The folder gets the canonical tables as
Parquet (`windows`, `ranks`, `events`, `step_times`; of small jobs `steps` and `rank_steps` too) and truth.json: each
fault with its place, time and what it costs per step, found by running the same seed without it. Same scenario and
seed, same result.

Examples:
  skewscope simulate --list                                      the shipped scenarios
  skewscope simulate gpu-hw-slowdown --out hot/                  64 ranks, one of them too hot
  skewscope simulate healthy-training --ranks 1024 --out big/    another size of its first job
  skewscope simulate gpu-slow-silent --ranks 4096 --steps 500 --operations 20 --out ops/   135 million operations
  skewscope simulate gpu-slow-silent --ranks 16 --with kineto --out slow/   traces for `skewscope analyze slow/kineto`
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from . import _files, _work

if TYPE_CHECKING:
    from ..simulate import Simulation
    from ..simulate.scenario import Scenario

EXTRAS = ("kineto", "flight-recorder", "expositions", "samples")


class Simulate:
    """`skewscope simulate`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("scenario", nargs="?", metavar="SCENARIO", help="name of a shipped scenario, or a TOML file")
        add("--out", metavar="DIR", help="folder for tables and truth.json; made where it is missing")
        add("--seed", type=int, default=0, metavar="N", help="what is drawn at random follows from it (0)")
        add("--ranks", type=_work.whole_number, metavar="N", help="ranks of the scenario's first job")
        add("--steps", type=_work.whole_number, metavar="N", help="steps of the scenario's first job")
        add("--with", dest="extras", default="", metavar="WHAT",
            help=f"more files, separated by commas: {', '.join(EXTRAS)}")  # fmt: skip
        add(
            "--operations",
            type=_work.whole_number,
            metavar="STEPS",
            help="write every operation and call of every rank instead, in files of so many steps (dp, tp, pp)",
        )
        add("--list", action="store_true", help="list the shipped scenarios and do nothing else")
        add("--json", action="store_true", help="print JSON: of the list, or the truth")

    def run(self, args: argparse.Namespace) -> int:
        """Simulate and write, or list."""
        from ..simulate import scenario, simulate

        if args.list:
            sys.stdout.write(_list(args.json))
            return 0
        if not args.scenario or not args.out:
            raise UsageError("name a SCENARIO and a folder with --out DIR; `skewscope simulate --list` lists scenarios")
        extras = _extras(args.extras)
        chosen = scenario(args.scenario).sized(args.ranks or 0, args.steps or 0)
        folder = _files.make_folder(Path(args.out), "--out")
        if args.operations:
            return _operations(chosen, folder, args)
        detail = True if set(extras) & {"kineto", "flight-recorder"} else None
        made = simulate(chosen, args.seed, detail=detail)
        told = [f"{name}.parquet" for name in _files.write_tables(folder, made.tables)]
        truth = json.dumps(made.truth, indent=2) + "\n"
        _files.write_text(folder / "truth.json", truth)
        for extra in extras:
            told += _write_extra(extra, made, folder)
        if args.json:
            sys.stdout.write(truth)
            return 0
        for name in ("truth.json", *told):
            print(folder / name)
        return 0


def _operations(chosen: Scenario, folder: Path, args: argparse.Namespace) -> int:
    """Write what every rank of the first job does, range of steps by range of steps."""
    from ..simulate.partitions import write

    with _work.progress("simulating") as moved:
        told = write(chosen, folder, seed=args.seed, steps_per_part=args.operations, progress=moved)
    if args.json:
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
        return 0
    for path in sorted(folder.iterdir()):
        print(path)
    return 0


def _extras(text: str) -> list[str]:
    asked = [part.strip() for part in text.split(",") if part.strip()]
    for one in asked:
        if one not in EXTRAS:
            raise UsageError(f"--with {one}: is none of {', '.join(EXTRAS)}")
    return asked


def _list(as_json: bool) -> str:
    from ..simulate import shipped

    found = shipped()
    if as_json:
        told = [{"name": name, "about": one.about, "ranks": [job.ranks for job in one.jobs],
                 "faults": [fault.condition for fault in one.faults]} for name, one in found.items()]  # fmt: skip
        return json.dumps(told, indent=2) + "\n"
    width = max(map(len, found))
    return "".join(f"{name:{width}}  {one.about}\n" for name, one in found.items())


def _write_extra(extra: str, made: Simulation, folder: Path) -> list[str]:
    if extra == "samples":
        return [f"{name}.parquet" for name in _files.write_tables(folder, {"samples": made.samples()})]
    place = _files.make_folder(folder / extra, "--out")
    for name, text in _texts(extra, made):
        _files.write_text(place / name, text)
    return [extra]


def _texts(extra: str, made: Simulation) -> list[tuple[str, str]]:
    from ..simulate import calls, exposition, flight_recorder, kineto

    if extra == "expositions":
        return [(f"{node}.prom", text) for node, text in exposition.pages(made).items()]
    start_ns = made.world.scenario.start_ns
    recording = calls.recording(made)
    kind = kineto.traces if extra == "kineto" else flight_recorder.dumps
    found = [(name, json.dumps(document)) for name, document in kind(recording, start_ns)]
    return [*found, ("job.json", json.dumps(_job(recording)))]


def _job(recording: Any) -> dict[str, Any]:  # noqa: ANN401 - the recording of a simulated job
    plan = recording.job.plan
    ranks = [{"rank": rank, "host": recording.node(rank), "local_rank": recording.slot(rank)}
             for rank in range(plan.ranks)]  # fmt: skip
    sizes = {"dp": plan.dp, "tp": plan.tp, "pp": plan.pp, "cp": plan.cp, "ep": plan.ep}
    return {"world_size": plan.ranks, "ranks": ranks, "parallelism": sizes}
