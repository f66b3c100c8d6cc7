"""Attempts of jobs that count for or against the hosts they ran on, and small weeks of them for `cases()`."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skewscope.frames import all_tables, frame

from ._live_worlds import EPOCH_NS

FAILED = ("failed", "node-fail")
GOOD = ("completed",)
TABLES = dict[str, pd.DataFrame]
DAY_NS = 86_400_000_000_000


def judged(attempts: pd.DataFrame, since_ns: int) -> pd.DataFrame:
    """Return one row per job and host: `blamed` is whether it failed there and nowhere else, `lost_ns` for how long.

    Attempts count that ended since then in a way that says something. A job that also failed in an attempt without a
    host does not speak against that host; one that fails there again and again counts once.
    """
    ended = (attempts["end_ns"] > since_ns) & attempts["state"].isin((*FAILED, *GOOD))
    done = attempts[ended.to_numpy()]
    done = done.assign(**{name: done[name].astype(str) for name in ("submission", "node", "user")})
    failed = done["state"].isin(FAILED).to_numpy()
    bad = done[failed]
    every = bad.drop_duplicates(["submission", "attempt"]).groupby("submission").size()
    here = bad.groupby(["submission", "node"]).size()
    keys = pd.MultiIndex.from_frame(done[["submission", "node"]])
    only_here = here.reindex(keys, fill_value=0).to_numpy() >= done["submission"].map(every).fillna(0).to_numpy()
    blamed = failed & only_here
    done = done.assign(blamed=blamed, lost_ns=(done["end_ns"] - done["start_ns"]).where(blamed, 0))
    found: pd.DataFrame = done.groupby(["node", "submission"], as_index=False).agg(
        user=("user", "first"), blamed=("blamed", "any"), lost_ns=("lost_ns", "sum"),
        start_ns=("start_ns", "min"), end_ns=("end_ns", "max"),
    )  # fmt: skip
    return found


def week(
    failures: dict[str, int], *, users: int = 4, everywhere: bool = False, hosts: int = 8, each: int = 15
) -> TABLES:
    """Return a week in which each host had so many attempts, 14 of 15 good, and some more failures.

    A job that failed is tried again elsewhere, with success, or not if `everywhere`.
    """
    rows: list[tuple[str, int, str, str, str, int]] = []  # submission, attempt, node, user, state, number
    for host in range(hosts):
        name, bad = f"n{host}", failures.get(f"n{host}", 1)
        for number in range(each):
            job, user = f"{host}{number:02d}", f"u{(host + number) % users if number < bad else number % 4}"
            fails = number < bad
            rows.append((job, 0, name, user, "failed" if fails else "completed", number))
            if fails:
                rows.append((job, 1, f"n{(host + 1) % hosts}", user, "failed" if everywhere else "completed", number))
    submission, attempt, node, user_of, state, number_of = (list(column) for column in zip(*rows, strict=True))
    start_ns = EPOCH_NS - 6 * DAY_NS + np.array(number_of) * DAY_NS // 3
    return all_tables({"attempts": frame("attempts", {
        "submission": submission, "attempt": attempt, "node": node, "user": user_of, "state": state,
        "start_ns": start_ns, "end_ns": start_ns + DAY_NS // 6,
    })})  # fmt: skip


def repaired(times: int, every_s: float = 86_400.0) -> TABLES:
    """Return events that tell of so many repairs of one host, and one of another."""
    t_ns = [EPOCH_NS - int(at * every_s * 1e9) for at in range(times)]
    return all_tables({"events": frame("events", {
        "t_ns": [*t_ns, t_ns[0] + 10**9, t_ns[0]], "node": ["n3"] * (times + 1) + ["n1"], "event": "drain",
    })})  # fmt: skip


def xids(times: int) -> TABLES:
    """Return events of so many fatal XIDs of one GPU within a day, and as many of several others."""
    t_ns = [EPOCH_NS - at * DAY_NS // 6 for at in range(times)]
    devices = ["gpu2"] * times + [f"gpu{at}" for at in range(times)]
    return all_tables({"events": frame("events", {
        "t_ns": [*t_ns, *t_ns], "node": ["n3"] * times + ["n1"] * times, "device": devices, "event": "xid", "code": 79,
    })})  # fmt: skip
