"""Rows of what is kept in files: the ring of a killed job, the audit of acts, the results of `analyze`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import _faults as faults
from _rows import Impossible, Row, holds, row

from skewscope.acting.audit import Audit, AuditError, verify
from skewscope.spool import HEADER_BYTES, valid_records

ROWS: list[Row] = []
SKEWSCOPE = [sys.executable, "-m", "skewscope"]
SAMPLE = Path(__file__).parents[2] / "sample_data" / "compute-slow"
KILLS = 5

RING = """
import itertools, sys, time
from pathlib import Path
from skewscope.spool import KINDS, RingWriter
ring = RingWriter(Path(sys.argv[1]), job="j", rank=0, world_size=1, capacity=1 << 16)
for number in itertools.count(1):
    ring.write(KINDS.index("collective"), 0, 0, 1, 0, number, number * 1000, number * 1000 + 10, size=1)
    if number % 100 == 0:
        print(number, flush=True)
        time.sleep(0.001)
"""
APPEND = """
import itertools, sys
from pathlib import Path
from skewscope.acting.audit import Audit
audit = Audit(Path(sys.argv[1]))
while True:
    print(audit.append("held", act="a")["seq"] + 1, flush=True)
"""


def killed(code: str, place: Path, after_s: float) -> int:
    """Run a program that says what it has kept, kill it, and return the last number that it said."""
    with subprocess.Popen([sys.executable, "-c", code, place], stdout=subprocess.PIPE, text=True) as process:
        last = int(process.stdout.readline())
        time.sleep(after_s)
        process.kill()
        return max([last, *map(int, process.stdout.read().split("\n")[:-1])])


@row(ROWS, "hook", "kill -9", "no record that was written is lost with the job", quick=True)
def ring_killed(folder: Path) -> str:
    said = killed(RING, folder, 0.1)
    (ring,) = folder.glob("*.ring")
    kept = {one[0] for one in valid_records(ring.read_bytes()[HEADER_BYTES:])}
    lost = set(range(max(1, said - (1 << 16) + 1), said + 1)) - kept
    holds(not lost, f"{len(lost)} of {said} records are lost")
    return f"{said} records were written when it was killed; all are in the ring"


@row(ROWS, "audit", "kill -9", "no record told as written is lost; the chain holds; writing goes on", quick=True)
def audit_killed(folder: Path) -> str:
    path, said = folder / "audit.jsonl", 0
    for number in range(3):
        said = killed(APPEND, path, 0.02 + 0.03 * number)
        Audit(path)
        found = verify(path)
        holds(found.ok and said <= found.count <= said + 1, (said, found))
    Audit(path).append("done", act="b")
    holds(verify(path).ok, verify(path))
    return f"killed three times within {said} records: none is lost, the chain is whole, the next one is taken"


@row(
    ROWS,
    "audit",
    "disk full",
    "it refuses, so nothing is done; no half line; it goes on with room",
    quick=True,
)
def audit_full(folder: Path) -> str:
    with faults.small_disk(folder / "disk", "256k") as small:
        if not small:
            raise Impossible("only root may mount a small disk")
        path = folder / "disk/audit.jsonl"
        audit = Audit(path)
        audit.append("held", act="a")
        ballast, refused, kept = faults.fill(folder / "disk"), "", 1
        while not refused and kept < 10_000:
            try:
                audit.append("held", act="a", detail="x" * 300)
                kept += 1
            except AuditError as error:
                refused = str(error)
        holds("nothing is done" in refused and verify(path).count == kept, (refused, verify(path)))
        ballast.unlink()
        audit.append("done", act="a")
        holds(verify(path).ok and verify(path).count == kept + 1, verify(path))
    return f"{refused!r}; {kept} records stay; with room the next one is taken"


@row(ROWS, "audit", "bit flips, cuts, half a line", "changes are found and refused; half a last line is taken away",
     quick=True)  # fmt: skip
def audit_damaged(folder: Path) -> str:
    whole = folder / "whole.jsonl"
    audit = Audit(whole)
    for number in range(20):
        audit.append("held", act=f"a{number}")
    path, found = folder / "audit.jsonl", 0
    for seed in range(40):
        shutil.copy(whole, path)
        faults.flip_bits(path, 1, seed)
        told = verify(path)
        holds(not told.ok, f"flip {seed} is not noticed")
        try:
            again = Audit(path)
        except AuditError as error:
            found += "line" in str(error)
            continue
        # The end of the last line alone may be flipped: a half line, as a crash leaves it.
        holds(len(again.records()) == 19, f"flip {seed} was taken for {len(again.records())} records")
        found += 1
    for share in (0.1, 0.5, 0.97):
        shutil.copy(whole, path)
        faults.cut(path, share)
        Audit(path).append("done", act="b")
        holds(verify(path).ok and not verify(path, head=audit.head).ok, f"cut at {share}")
    holds(found == 40, f"{found} of 40 flips were told with their line")
    return "40 of 40 flips are found; after cuts the chain is whole again, and --head tells of the lost end"


@row(ROWS, "audit", "clock jump", "the chain does not depend on the clock", quick=True)
def audit_clock(folder: Path) -> str:
    times = iter([10**18, 10**18 + 3600 * 10**9, 10**18 - 3600 * 10**9, 10**18 + 1])
    audit = Audit(folder / "audit.jsonl", lambda: next(times))
    for _ in range(4):
        audit.append("held", act="a")
    found = verify(folder / "audit.jsonl")
    holds(found.ok and found.count == 4, found)
    return "an hour ahead and back: four records, one chain"


def analyzed(out: Path, *paths: Path) -> subprocess.CompletedProcess:
    words = [*SKEWSCOPE, "analyze", *(paths or (SAMPLE,)), "--out", out, "--workers", "1", "--views", "none"]
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=120, check=False)


def wholly_written(out: Path) -> list[str]:
    """Return the results in a folder; raises where one is not whole, or half a one lies beside."""
    import pandas as pd

    found = [path for path in out.rglob("*") if path.is_file() and path.name != "ballast"]
    for path in found:
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".parquet":
            pd.read_parquet(path)
        elif path.suffix == ".html":
            holds("</html>" in path.read_text()[-200:], f"{path.name} is cut")
    return [path.name for path in found]


@row(ROWS, "analyze", "disk full", "exit code 1, a line that names file and reason, no half file; right with room")
def analyze_full(folder: Path) -> str:
    with faults.small_disk(folder / "disk", "1m") as small:
        if not small:
            raise Impossible("only root may mount a small disk")
        out = folder / "disk/out"
        out.mkdir()
        ballast = faults.fill(folder / "disk")
        done = analyzed(out)
        said = done.stderr.strip().splitlines()[-1:]
        holds(done.returncode == 1 and "cannot write" in done.stderr and "Traceback" not in done.stderr, done)
        left = wholly_written(out)
        ballast.unlink()
    again = analyzed(folder / "out")
    holds(again.returncode == 0 and "report.json" in wholly_written(folder / "out"), again)
    return f"{said[0].replace(str(folder), 'DIR')!r}, exit code 1; {len(left)} files left, none half"


@row(ROWS, "analyze", "kill -9", "results are whole or not there under their names; the next run is right")
def analyze_killed(folder: Path) -> str:
    words = [*SKEWSCOPE, "analyze", SAMPLE, "--out", folder / "out", "--workers", "1", "--views", "none", "--quiet"]
    begun_s = time.monotonic()
    subprocess.run(list(map(str, words)), stdout=subprocess.DEVNULL, check=True)
    took_s = time.monotonic() - begun_s
    for number in range(KILLS):
        shutil.rmtree(folder / "out")
        process = subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL)
        time.sleep(took_s * (0.6 + 0.08 * number))  # its end is where it writes
        process.kill()
        process.wait()
        for path in folder.rglob("*.part"):  # hidden, under no name of a result
            path.unlink()
        wholly_written(folder / "out") if (folder / "out").exists() else None
    done = analyzed(folder / "out")
    holds(done.returncode == 0 and "report.json" in wholly_written(folder / "out"), done)
    return f"killed {KILLS} times near its end: no half result under a name; then all is right"


@row(
    ROWS,
    "analyze",
    "half-written, flipped inputs",
    "the others are read; each bad one is named",
)
def analyze_damaged(folder: Path) -> str:
    inputs = folder / "in"
    shutil.copytree(SAMPLE, inputs)
    dumps = sorted(inputs.glob("fr_rank*"))
    faults.cut(dumps[0])
    dumps[1].write_bytes(b"")
    done = analyzed(folder / "out", inputs)
    told = [path.name for path in dumps[:2] if path.name in done.stderr + done.stdout]
    holds(
        done.returncode == 0 and len(told) == 2 and "Traceback" not in done.stderr, (done.returncode, told, done.stderr)
    )
    return f"exit code 0 with the other {len(dumps) - 2} dumps; both bad ones are named"
