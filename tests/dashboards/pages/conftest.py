"""Views that pages are tried on: shipped recordings, a simulated live fleet, hand-made tables, and nothing."""

import dataclasses
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from skewscope.catalogue import load

pytest.importorskip("plotly")
SAMPLES = Path(__file__).parents[3] / "sample_data"
RECORDED = ("compute-slow", "pipeline-imbalance", "hang", "spool-slow-rank")
SIMULATED = ("gpu-hw-slowdown", "healthy-serving")


def seen(name, analysis, **more):
    from skewscope.reports.document import document

    return load("dashboards._view").View(id=name, title=name, report=document(analysis), tables=analysis.tables, **more)


def recorded(name):
    from skewscope.analysis import analyze
    from skewscope.sources import gather

    return seen(name, analyze(gather([SAMPLES / name])))


def simulated(name):
    from skewscope.analysis import analyze
    from skewscope.simulate import simulate
    from skewscope.sources import Recording

    analysis = analyze(Recording(dict(simulate(name, 5).tables), ()))
    return seen(name, analysis, live=True, time_ns=int(analysis.tables["windows"]["t_ns"].max()))


def incident(name, state, condition, node, opened_ns, changed_ns, closed_ns=None):
    subject = {
        "kind": "gpu",
        "id": f"{node}/gpu4",
        "rank": 52,
        "peer": None,
        "node": node,
        "stage": None,
        "layer": None,
    }
    return {
        "schema": "skewscope.incident/1", "id": name, "state": state, "condition": condition, "subject": subject,
        "job": "job", "severity": "S2", "confidence": 0.9, "opened_ns": opened_ns, "changed_ns": changed_ns,
        "closed_ns": closed_ns, "cost": {"seconds_per_step": 0.4, "share": 0.17, "lost_gpus": 11.0, "gpu_hours": 4.5},
        "peak_share": 0.2, "findings": [], "flaps": 0, "summary": f"{node}/gpu4 is slow", "advice": "Look.",
        "runbook": condition,
    }  # fmt: skip


def made():
    """Return tables that no recording here has: links, expert loads, events."""
    from skewscope.frames import all_tables, frame

    ends = [f"n{at}/gpu0" for at in range(12)]
    src, dst = zip(*[(a, b) for a in ends for b in ends if a != b], strict=True)
    speed = np.full(len(src), 20e9)
    speed[[at for at, pair in enumerate(zip(src, dst, strict=True)) if pair == ("n3/gpu0", "n7/gpu0")]] = 5e9
    layer, expert = (part.ravel() for part in np.meshgrid(np.arange(6), np.arange(32), indexing="ij"))
    tokens = np.full(len(layer), 1000)
    tokens[(layer == 4) & (expert == 9)] = 9000
    loads = {"job": "job", "step": 1, "layer": layer, "expert": expert, "rank": expert // 8, "routed_tokens": tokens,
             "dropped_tokens": np.where(tokens > 1000, 500, 0)}  # fmt: skip
    second = 10**9
    events = {
        "t_ns": [5 * second, 9 * second], "node": ["n3", "n3"], "device": ["gpu0", ""], "event": ["xid", "restart"],
        "code": [79, -1], "message": ["Xid 79: fallen off the bus", "again"],
    }  # fmt: skip
    tables = {
        "links": frame("links", {"src": src, "dst": dst, "medium": "infiniband", "speed_bytes_per_s": speed}),
        "expert_loads": frame("expert_loads", loads), "events": frame("events", events),
    }  # fmt: skip
    held = (
        incident("i2", "growing", "gpu-hw-slowdown", "n3", 5 * second, 20 * second),
        incident("i1", "closed", "nic-link-down", "n7", 2 * second, 8 * second, 8 * second),
    )
    return load("dashboards._view").View(id="made", tables=all_tables(tables), incidents=held, time_ns=30 * second)


def acting():
    """Return the view of a service that acts: incidents, and what was and is to be done about them."""
    world = run_path(str(Path(__file__).parents[1] / "_act_world.py"))
    now_ns, minute_ns = world["NOW_NS"], world["MINUTE_NS"]
    held = (
        incident("c0ffee12", "growing", "gpu-hw-slowdown", "n006", now_ns - 50 * minute_ns, now_ns),
        incident("beef02", "open", "nic-link-down", "n004", now_ns - 45 * minute_ns, now_ns),
        incident(
            "beef01", "closed", "gpu-hw-slowdown", "n002", now_ns - 55 * minute_ns, now_ns, now_ns - 30 * minute_ns
        ),
    )
    return dataclasses.replace(made(), id="acting", incidents=held, time_ns=now_ns, acts=world["acts"]())


@pytest.fixture(scope="session")
def views():
    found = {name: recorded(name) for name in RECORDED} | {name: simulated(name) for name in SIMULATED}
    return found | {"made": made(), "acting": acting(), "empty": load("dashboards._view").View()}


@pytest.fixture(scope="session")
def chosen():
    """Return the selection of a query."""
    return load("dashboards._selection").Selection.of


@pytest.fixture(scope="session")
def page():
    """Return a page by the name of its file."""
    from skewscope.catalogue import rooms

    return lambda name: next(room for room in rooms("dashboards.pages") if room.id == name).load()


@pytest.fixture(scope="session")
def block(page, views, chosen):
    """Return one block of a page, by names, for a view and a query."""

    def find(page_name, name, view, query=""):
        there = {one.name: one for one in page(page_name).blocks(views[view], chosen(query))}
        assert name in there, sorted(there)
        return there[name]

    return find
