"""Small weeks made by hand, so that what is lost and saved can be said by head."""

from skewscope.simulate.week import HOUR_NS, Machine, Outage, Trouble, Week, Work

START_NS = 1_767_571_200 * 10**9  # a Monday, 0:00 UTC
HOUR_S = 3600.0


def at(hour):
    return START_NS + int(hour * HOUR_NS)


def job(name="job", nodes=4, until=24.0, **more):
    more = {"checkpoint_s": 600.0, **more}
    return Work(name, name, nodes, nodes * 8, START_NS, at(until), **more)


def slow(node="n1", hour=1.0, until=24.0, share=0.5, **more):
    more = {"kind": "slow", "confidence": 0.95, "repair_s": 1.5 * HOUR_S, "gpu": 3, **more}
    told, kind, condition = more.pop("told", share), more.pop("kind"), more.pop("condition", "gpu-slow-silent")
    nodes = (node,) if node else ()
    return Trouble(f"{kind}-{node or 'job'}", kind, condition, at(hour), at(until), share, told, nodes, **more)


def week(*troubles, works=None, nodes=8, hours=24.0, outages=(), racks=8):
    machines = tuple(Machine(f"n{number}", f"r{number % racks}", ("gpu",)) for number in range(nodes))
    ordered = tuple(sorted(troubles, key=lambda one: one.onset_ns))
    return Week(START_NS, at(hours), machines, tuple(works or [job()]), ordered, tuple(outages), "a day by hand")


def outage(node, hour, until, why="NHC: disk"):
    return Outage(node, at(hour), at(until), why)
