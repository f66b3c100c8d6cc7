"""Fleets with adapters for `cases()`: five hosts with two rails each, whose ports are up and carry a job's traffic."""

from __future__ import annotations

from ._live_worlds import Fleet
from ._ports import RATE, RECEIVED, RECEIVED_PACKETS, SENT, SENT_PACKETS, UP

BYTES, PACKETS = 6e11, 1.5e8  # of a port in a window of 30 s: 20 GB/s in packets of 4 KiB


def fleet(nodes: int = 5, nics: int = 2) -> Fleet:
    """Return a healthy fleet."""
    made = Fleet(nodes=nodes, nics=nics)
    for layer in ("logical", "physical"):
        made.put(UP, 1.0, labels=f"layer={layer}", devices=made.nics)
    for metric, value in ((SENT, BYTES), (RECEIVED, BYTES), (SENT_PACKETS, PACKETS), (RECEIVED_PACKETS, PACKETS)):
        made.put(metric, value, devices=made.nics)
    return made.put(RATE, 50e9, devices=made.nics)


def port(
    made: Fleet, metric: str, value: float, labels: str = "", *, node: str = "n1", device: str = "mlx5_0",
    since: int = 10, until: int | None = None,
) -> Fleet:  # fmt: skip
    """Set a gauge or the growth of a counter in a window on one port, from a window on."""
    return made.put(metric, value, labels=labels, nodes=[node], devices=[device], since=since, until=until)


def rail(made: Fleet, metric: str, value: float, labels: str = "", *, device: str = "mlx5_1", since: int = 10) -> Fleet:
    """Set it on one port of every host."""
    return made.put(metric, value, labels=labels, devices=[device], since=since)
