"""A job under the hook while its agent is killed again and again: no failure, no record lost.

Seconds and kills are few here; SKEWSCOPE_ENDURANCE_S=600 SKEWSCOPE_ENDURANCE_KILLS=20 is the long form.
"""

from __future__ import annotations

import gzip
import os
import signal
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path

from skewscope.spool import HEADER_BYTES, RingReader, read_header, valid_records

SECONDS = float(os.environ.get("SKEWSCOPE_ENDURANCE_S", "12"))
KILLS = int(os.environ.get("SKEWSCOPE_ENDURANCE_KILLS", "4"))

JOB = """
import os, sys, time
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
torch.set_num_threads(1)
dist.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(64, 64))
optimizer = torch.optim.SGD(model.parameters(), 0.01)
data, until, go, steps = torch.randn(32, 64), time.monotonic() + float(sys.argv[1]), torch.ones(1), 0
while True:
    loss = model(data).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    steps += 1
    go[0] = float(time.monotonic() < until)
    dist.all_reduce(go, dist.ReduceOp.MIN)
    if not go[0]:
        break
    time.sleep(0.005)
print(steps, flush=True)
dist.destroy_process_group()
"""


def agent(spool: Path) -> subprocess.Popen:
    words = [sys.executable, "-m", "skewscope", "agent", "--listen", "127.0.0.1:0", "--spool", str(spool), "--quiet"]
    return subprocess.Popen([*words, "--collectors", "collectives,flight-recorder,rank-processes"])


def numbers_kept(spool: Path) -> dict[int, tuple[set[int], int]]:
    """Return by rank: record numbers in archive and ring, and the last that was written."""
    kept: dict[int, set[int]] = {}
    last: dict[int, int] = {}
    for path in spool.glob("*.ring"):
        reader = RingReader(path)
        rank = reader.header.rank
        last[rank] = reader.header.last_number
        kept.setdefault(rank, set()).update(row[0] for row in valid_records(path.read_bytes()[HEADER_BYTES:]))
        reader.close()
    for path in (spool / "archive").rglob("*.ring.gz"):
        for member in members(path.read_bytes()):
            found = {row[0] for row in valid_records(member[HEADER_BYTES:])}
            kept.setdefault(read_header(member[:HEADER_BYTES]).rank, set()).update(found)
    return {rank: (kept[rank], last[rank]) for rank in last}


def members(content: bytes) -> list[bytes]:
    """Return the whole members of a gzip file; a kill may have cut the last one."""
    found = []
    while content:
        one = zlib.decompressobj(31)
        try:
            plain = one.decompress(content)
        except zlib.error:
            break
        if not one.eof:
            break
        found.append(plain)
        content = one.unused_data
    return found


def test_members_are_told_apart():
    assert members(gzip.compress(b"a") + gzip.compress(b"b") + gzip.compress(b"c" * 99)[:-3]) == [b"a", b"b"]


def test_the_agent_may_be_killed_at_any_time(tmp_path: Path):
    spool = tmp_path / "spool"
    spool.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environ = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    words = [sys.executable, "-m", "skewscope", "run", "--spool", str(spool), "--job", "long", "--"]
    ranks = [
        subprocess.Popen(
            [*words, sys.executable, "-c", JOB, str(SECONDS)], stdout=subprocess.PIPE, text=True,
            env={**environ, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    watching = agent(spool)
    try:
        deadline = time.monotonic() + 60
        while len(list(spool.glob("*.ring"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        for _ in range(KILLS):
            time.sleep(SECONDS / (KILLS + 1))
            watching.send_signal(signal.SIGKILL)
            watching.wait(10)
            watching = agent(spool)
        steps = [int(rank.communicate(timeout=SECONDS + 60)[0].split()[-1]) for rank in ranks]
    finally:
        time.sleep(2)
        watching.send_signal(signal.SIGTERM)
        watching.wait(20)
    assert [rank.returncode for rank in ranks] == [0, 0]
    found = numbers_kept(spool)
    print(f"{KILLS} kills in {SECONDS:.0f} s, {steps[0]} steps, records {[last for _, last in found.values()]}")
    assert steps[0] == steps[1] > 10 and set(found) == {0, 1}
    for kept, last in found.values():
        assert last > 5 * steps[0]
        assert not set(range(1, last + 1)) - kept
