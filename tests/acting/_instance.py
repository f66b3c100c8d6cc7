"""One instance of an engine in a process of its own: turns until it is killed. Arguments: folder, seconds a turn."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from runpy import run_path

from skewscope.acting import rooms
from skewscope.acting.audit import Audit
from skewscope.acting.engine import Engine, Extras
from skewscope.acting.lease import FileLease
from skewscope.policy.cases import Around
from skewscope.policy.settings import Policy


def main(folder: Path, pause_s: float) -> None:
    """Act on each of ten nodes, one after the other."""
    case = run_path(str(Path(__file__).with_name("_world.py")))["case"]
    policy = Policy.load(folder / "policy.toml")
    engine = Engine(
        policy, rooms.actuators(policy, ["file"]), Audit(folder / "audit.jsonl"), FileLease(folder / "lease"),
        Extras(dry_run=False),
    )  # fmt: skip
    while True:
        now_ns = time.time_ns()
        number = int((folder / "number").read_text())
        cases = [case(f"n{at}", now_ns, f"i{at}", job="", summary="it is slow") for at in range(number)]
        engine.turn(cases, Around(now_ns))
        time.sleep(pause_s)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
