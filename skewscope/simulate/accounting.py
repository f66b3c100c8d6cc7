"""What a scheduler's accounting holds of the days before a run: attempts of jobs on the hosts of the fleet.

Some programs are at fault and fail wherever they run; a host may break what it is given. A job that a host broke is
tried again on other hosts. OWN: sizes, lengths and shares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..frames import frame
from . import noise
from .world import World

if TYPE_CHECKING:
    import pandas as pd

JOBS_PER_NODE_DAY = 2.5
SIZES, SIZE_SHARES = (1, 2, 4), (0.65, 0.25, 0.1)  # hosts
HOURS = (0.5, 9.0)
USERS = 12
BUGGY_RATIO = 0.06  # jobs whose program fails
BROKEN_RATIO = 0.01  # attempts that end by bad luck
TRIES = 3
DAY_S = 86_400.0


def attempts(world: World) -> pd.DataFrame:
    """Return the table `attempts` of the scenario's history; `world.failing` says which hosts break jobs."""
    rows: list[tuple[Any, ...]] = []
    days, nodes = world.scenario.fleet.history_days, len(world.fleet.nodes)
    rng = noise.rng(world.seed, "accounting")
    for number in range(int(days * nodes * JOBS_PER_NODE_DAY)):
        size = min(int(rng.choice(SIZES, p=SIZE_SHARES)), nodes)
        user, start_s = f"u{int(rng.integers(USERS)):02d}", -days * DAY_S + float(rng.uniform(0.0, days)) * DAY_S
        buggy, length_s = bool(rng.random() < BUGGY_RATIO), float(rng.uniform(*HOURS)) * 3600.0
        for attempt in range(TRIES):
            hosts = rng.choice(nodes, size, replace=False)
            broken = any(rng.random() < world.failing.get(int(host), BROKEN_RATIO) for host in hosts)
            state = "failed" if buggy or (broken and rng.random() < 0.5) else "node-fail" if broken else "completed"
            took_s = length_s * float(rng.uniform(0.05, 0.8)) if state != "completed" else length_s
            end_s = min(start_s + took_s, -1.0)
            rows += [(f"{1000 + number}", attempt, world.fleet.nodes[int(host)], user, state,
                      start_s, end_s) for host in hosts]  # fmt: skip
            start_s = end_s + 60.0
            if state == "completed" or start_s > -600.0:
                break
    names = ("submission", "attempt", "node", "user", "state", "start_s", "end_s")
    told: dict[str, Any] = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    begin_ns = world.scenario.start_ns
    return frame("attempts", {
        **{name: list(told[name]) for name in names[:5]},
        **{f"{name}_ns": begin_ns + (np.array(told[f"{name}_s"]) * 1e9).astype(np.int64) for name in ("start", "end")},
        "source": "simulation",
    })  # fmt: skip
