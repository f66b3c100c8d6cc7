"""A real slow link: one network namespace per rank behind a bridge, and a token bucket filter on each interface."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OTHERS_MBIT = 2000
PROBE_BYTES = 1 << 20


def possible() -> bool:
    """Return whether this process may make network namespaces and shape traffic."""
    if os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("tc")):
        return False
    name = f"sk{os.getpid()}"
    made = _try("ip", "netns", "add", name)
    shaped = made and _try(
        "ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", "lo", "root", "tbf",
        "rate", "80mbit", "burst", "64kb", "latency", "50ms",
    )  # fmt: skip
    if made:
        _try("ip", "netns", "del", name)
    return shaped


@contextmanager
def namespaces(world: int, slow: int, slow_mbit: float) -> Iterator[list[str]]:
    """Make one namespace per rank, 10.77.0.(rank + 1), and yield their names; `slow` has the thin link."""
    tag = f"sk{os.getpid() % 100000}"
    names = [f"{tag}r{rank}" for rank in range(world)]
    bridge = f"{tag}b"
    try:
        _run("ip", "link", "add", bridge, "type", "bridge")
        _run("ip", "link", "set", bridge, "up")
        for rank, name in enumerate(names):
            _join(rank, name, bridge, slow_mbit if rank == slow else OTHERS_MBIT)
        yield names
    finally:
        for name in names:
            _try("ip", "netns", "del", name)
        _try("ip", "link", "del", bridge)


def _join(rank: int, name: str, bridge: str, mbit: float) -> None:
    outside = f"{name}v"
    _run("ip", "netns", "add", name)
    _run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", name)
    _run("ip", "link", "set", outside, "master", bridge, "up")
    inside = ("ip", "netns", "exec", name)
    _run(*inside, "ip", "addr", "add", f"10.77.0.{rank + 1}/24", "dev", "eth0")
    _run(*inside, "ip", "link", "set", "eth0", "up")
    _run(*inside, "ip", "link", "set", "lo", "up")
    shape = ("root", "tbf", "rate", f"{mbit:g}mbit", "burst", "64kb", "latency", "50ms")
    _run(*inside, "tc", "qdisc", "add", "dev", "eth0", *shape)
    _run("tc", "qdisc", "add", "dev", outside, *shape)


def cut(name: str) -> None:
    """Take the link of a namespace down: its host is gone, and nobody is told."""
    _run("ip", "link", "set", f"{name}v", "down")


class Counters:
    """Bytes and retransmissions of this rank's interface since the last question."""

    def __init__(self) -> None:
        self.last = self._now()

    def delta(self) -> dict[str, int]:
        """Return what was moved since the last call."""
        now = self._now()
        moved = {key: now[key] - self.last[key] for key in now}
        self.last = now
        return moved

    def _now(self) -> dict[str, int]:
        lines = Path("/proc/net/dev").read_text().splitlines()
        values = next(line.split(":")[1].split() for line in lines if line.strip().startswith("eth0:"))
        tcp = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Tcp:")]
        retransmitted = dict(zip(tcp[0], tcp[1], strict=True))["RetransSegs"]
        return {
            "rx_bytes": int(values[0]), "tx_bytes": int(values[8]), "rx_drop": int(values[3]),
            "tx_drop": int(values[11]), "tcp_retrans_segs": int(retransmitted),
        }  # fmt: skip


def probe(folder: Path, rank: int, world: int) -> None:
    """Ping-pong between all pairs, one pair at a time; the smaller rank writes what it measured."""
    import torch
    import torch.distributed as dist

    rows = []
    for source in range(world):
        for target in range(source + 1, world):
            dist.barrier()
            if rank not in (source, target):
                continue
            peer = target if rank == source else source
            for count, rounds, metric in ((1024, 5, "rtt_us"), (PROBE_BYTES, 3, "bw_mbps")):
                length_s = _ping(torch.zeros(count, dtype=torch.uint8), peer, rounds, first=rank == source)
                value = length_s * 1e6 if metric == "rtt_us" else 2 * count * 8 / length_s / 1e6
                rows.append({"src": source, "dst": target, "metric": metric, "value": round(value, 1)})
    mine = [row for row in rows if row["src"] == rank]
    (folder / f"link_probe_rank{rank}.json").write_text(json.dumps(mine))


def _ping(block, peer: int, rounds: int, *, first: bool) -> float:
    import torch.distributed as dist

    lengths = []
    for _ in range(rounds):
        start = time.perf_counter()
        calls = (dist.send, dist.recv) if first else (dist.recv, dist.send)
        for call in calls:
            call(block, peer)
        lengths.append(time.perf_counter() - start)
    return sorted(lengths)[len(lengths) // 2]


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=30)


def _try(*words: str) -> bool:
    return subprocess.run(words, check=False, capture_output=True, timeout=30).returncode == 0
