"""Runs a command or a function in a fresh process and says what it cost: CPU with its children, wall, peak memory."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cost:
    """What one run cost; `peak_bytes` is the largest resident size of one of its processes."""

    cpu_s: float
    wall_s: float
    peak_bytes: int
    code: int = 0


def measure(what: Sequence[str] | Callable[..., Any], *args: str | int | float) -> Cost:
    """Return the cost of a command line, or of a module-level function called with `args`; raises where it fails."""
    if callable(what):
        argv = [sys.executable, __file__, "call", inspect.getsourcefile(what), what.__name__, json.dumps(args)]
    else:
        argv = list(what)
    # A small process in between: after exec, Linux counts the memory of the process that forked as the child's peak.
    said = subprocess.run(
        [sys.executable, "-I", __file__, "watch", json.dumps(argv)], check=True, stdout=subprocess.PIPE
    )
    cost = Cost(**json.loads(said.stdout))
    if cost.code:
        raise RuntimeError(f"{argv} ended with {cost.code}")
    return cost


def _watch(argv: list[str]) -> Cost:
    # Code is compiled once, as in any installation, and not in each run.
    known = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, known, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    peak = usage.ru_maxrss * 1024
    return Cost(usage.ru_utime + usage.ru_stime, wall, peak, os.waitstatus_to_exitcode(status))


def _call(file: str, name: str, args: list[Any]) -> None:
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    getattr(module, name)(*args)


if __name__ == "__main__":
    if sys.argv[1] == "watch":
        print(json.dumps(_watch(json.loads(sys.argv[2])).__dict__))
    else:
        _call(sys.argv[2], sys.argv[3], json.loads(sys.argv[4]))
