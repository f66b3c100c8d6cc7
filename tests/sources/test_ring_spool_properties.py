"""What a hook wrote into its ring comes back: from the ring as far as it reaches, and from a segment of the archive."""

from __future__ import annotations

import gzip
import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.contracts import Reading
from skewscope.frames import concat, frame
from skewscope.sources.ring_spool import RingSpool
from skewscope.spool import HEADER_BYTES, KINDS, OPS, PHASES, RECORD_BYTES, UNITS, RingWriter, layout

WORLD, RANK = 8, 3
FAILED, BLOCKING = layout.FAILED, layout.BLOCKING
PHASE_NAMES = {name: {"h2d": "other", "comm_wait": "sync"}.get(name, name) for name in PHASES}
TIMES, LENGTHS, STEPS = [0, 1, 10**9, 2**60, 2**61], [-1, 0, 1, 5 * 10**9 - 1, 5 * 10**9, 2**60], [*range(-1, 5)]
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)


def drawn(chance: Random, text: str) -> tuple[Any, ...]:
    """Return something that the hook tells."""
    one, time = chance.choice, chance.choice([*TIMES, chance.randrange(2**61)])
    step, short = one([*STEPS, 2**31 - 1]), one([0, 7])
    return one([
        ("collective", one(["send", "recv", *OPS]), one([0, 0, 1, 2, 255]), one([0, BLOCKING, FAILED]), step,
         one([1, 2**63 - 1]), time, one(LENGTHS), one([-1, -1, -1, 0, 10**6]), one([0, 1, 2**63 - 1]), one([0, 1, 8])),
        ("collective", "all_reduce", 0, BLOCKING, step, 7, time, 100, -1, 8, 0),
        ("phase", one(PHASES), step, time, short, one([0, 1, 2])), ("step", one([0, 1, 4]), time, short),
        ("work", one(UNITS), step, one([0, 1, 2**50])), ("mark", time, one([text, "a\n", "é" * 9])),
        ("experts", step, one([0, 61]), [one([0, 1, 2**32 - 1]) for _ in range(one([1, 8, 9, 19]))]),
    ])  # fmt: skip


UNEVEN = [1, 2, RANK, 7]
members = st.sampled_from([[RANK], [1, RANK], [RANK, 7], [1, RANK, 5, 7], list(range(WORLD)), UNEVEN])
groups = st.lists(
    st.tuples(st.integers(1, 2**64 - 1), members, st.sampled_from(["dp", "tp", "", "world"]),
              texts | st.sampled_from(["mesh", "m" * 23, "é" * 12])), max_size=3, unique_by=lambda one: one[0],
)  # fmt: skip


def write(ring: RingWriter, record: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Write what the hook tells at once, and return it as records."""
    kind, *told = record
    number = KINDS.index(kind)
    if kind == "collective":
        op, group, flags, step, seq, start, length, device, size, extra = told
        ring.write(number, OPS.index(op), group, flags, step, seq, start, start + length, device, size, extra)
    elif kind == "phase":
        ring.write(number, PHASES.index(told[0]), step=told[1], start_ns=told[2], end_ns=sum(told[2:4]), extra=told[4])
    elif kind == "step":
        ring.write(number, step=told[0], start_ns=told[1], end_ns=sum(told[1:]))
    elif kind == "work":
        ring.write(number, UNITS.index(told[0]), step=told[1], size=told[2])
    elif kind == "mark":
        raw = told[1].encode()[:16].ljust(16, b"\0")
        ring.write(number, start_ns=told[0], seq=int.from_bytes(raw[:8], "little"),
                   size=int.from_bytes(raw[8:], "little"))  # fmt: skip
    else:
        step, layer, counts = told
        ring.experts(step, layer, counts)
        return [(kind, step, layer, first, counts[first : first + 8]) for first in range(0, len(counts), 8)]
    return [record]


@dataclass
class Oracle:
    """What the records of one rank say."""

    kept: list[tuple[Any, ...]]
    groups: list[Any]
    offset_ns: int
    round: bool  # whether older records are gone
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        shown = [printable(name.encode()[:24]) for *_, name in self.groups]
        for (ident, ranks, _, _), name in zip(self.groups, shown, strict=True):
            is_sure = name and shown.count(name) == 1 and len(name.encode()) < 24 and ranks != UNEVEN
            self.names.append(name if is_sure else f"{name}-{ident:016x}".lstrip("-"))

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [told for told_kind, *told in self.kept if told_kind == kind]

    def counts(self, step: int) -> bool:
        """Return whether this is a step: before the first whole one and after the last none is."""
        found = [told[0] for told in self.of("step")]
        if not found:
            return step >= -1
        first = min(found)
        if self.round:
            at = {"collective": 3, "phase": 1, "step": 0, "work": 1, "experts": 0}
            known = [told[at[kind]] for kind, *told in self.kept if kind in at and told[at[kind]] >= 0]
            first = min(known) + 1 if min(known) + 1 <= max(found) else first
        return first <= step <= max(found)

    def calls(self) -> list[tuple[Any, ...]]:
        rows = []
        for op, group, flags, step, seq, start, length, device, size, extra in self.of("collective"):
            peer = extra - 1 if op in ("send", "recv") else -1
            if op in ("send", "recv"):
                ends = f"{RANK}-{peer}" if op == "send" else f"{peer}-{RANK}"
                name, members = f"p2p:{ends if peer >= 0 else f'?-{RANK}'}", 2
                kind = "p2p" if peer >= 0 else f"p2p@{RANK}"
            elif group < len(self.groups):
                name, kind, members = self.names[group], "", len(self.groups[group][1])
            else:
                name, kind, members = "?", f"p2p@{RANK}", -1
            begin = -1 if device >= 0 else start + self.offset_ns
            end = begin + length if device < 0 <= length and not flags & FAILED else -1
            state = "completed" if not flags & FAILED else "timed-out" if length >= 5 * 10**9 else ""
            rows.append((name, kind, members, op, peer, step if self.counts(step) else -1, seq, size, begin, begin, end,
                         device, bool(flags & BLOCKING), state))  # fmt: skip
        return rows

    def steps(self) -> list[tuple[Any, ...]]:
        tokens: Counter[int] = Counter()
        known = {step for unit, step, _ in self.of("work") if unit == "tokens" and step >= 0}
        for unit, step, size in self.of("work"):
            tokens[step] += size if unit == "tokens" else 0
        rows = [(step, "step", -1, start + self.offset_ns, start + length + self.offset_ns)
                for step, start, length in self.of("step") if self.counts(step)]  # fmt: skip
        rows += [(step, PHASE_NAMES[name], part - 1, start + self.offset_ns, start + length + self.offset_ns)
                 for name, step, start, length, part in self.of("phase") if step >= 0]  # fmt: skip
        return [(*row, tokens[row[0]] if row[0] in known else -1) for row in rows]

    def loads(self) -> list[tuple[int, ...]]:
        found: Counter[tuple[int, int, int]] = Counter()
        for step, layer, first, counts in self.of("experts"):
            found.update({(step, layer, first + at): count for at, count in enumerate(counts)})
        return [(*key, count) for key, count in found.items()]

    def members(self) -> list[tuple[Any, ...]]:
        told = zip(self.names, self.groups, strict=True)
        return [(name, rank, role, len(ranks)) for name, (_, ranks, role, _) in told
                for rank in ([RANK] if ranks == UNEVEN else ranks)]  # fmt: skip


def printable(raw: bytes) -> str:
    return "".join(one if one.isprintable() else "_" for one in raw.decode("utf-8", "replace"))


def archived(content: bytes, rows: int, cuts: list[int]) -> bytes:
    """Return the first records of a ring as the agent keeps them: members of a header and some records, also twice."""
    ends = sorted({rows, *(one % (rows + 1) for one in cuts)})
    pieces = [content[HEADER_BYTES + RECORD_BYTES * max(begin - 1, 0) : HEADER_BYTES + RECORD_BYTES * end]
              for begin, end in zip([0, *ends], ends, strict=False)]  # fmt: skip
    return b"".join(gzip.compress(content[:HEADER_BYTES] + piece, 1) for piece in pieces)


def rows_of(reading: Reading, table: str, *columns: str) -> list[tuple[Any, ...]]:
    found = concat(table, [frame(name, made) for name, made in reading.batches if name == table])
    return sorted(found[list(columns)].itertuples(index=False, name=None))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 30), st.randoms(use_true_random=True), groups, st.sampled_from([8, 16, 128]),
    st.none() | st.lists(st.integers(0, 50), max_size=3), texts,
)  # fmt: skip
def test_what_the_hook_wrote_comes_back(
    tmp_path: Path, rows: int, chance: Random, known: list[Any], capacity: int, cuts: list[int] | None, text: str
) -> None:
    ring = RingWriter(tmp_path, job="j", rank=RANK, world_size=WORLD, device=2, gpu_uuid=f"GPU-{text}",
                      node=f"n{text}", capacity=128 if cuts is not None else capacity)  # fmt: skip
    for ident, ranks, role, name in known:
        ring.group(ident, ranks, ranks.index(RANK), role, name)
    written = [one for _ in range(rows) for one in write(ring, drawn(chance, text))]
    ring.close()
    content, path = ring.path.read_bytes(), ring.path
    if cuts is not None:
        capacity, path = 128, tmp_path / "j-r3-1.1.ring.gz"
        path.write_bytes(archived(content, len(written), cuts))
    monotonic_ns, realtime_ns = struct.unpack_from("<qq", content, 256)
    offset_ns = realtime_ns - monotonic_ns
    want = Oracle(written[-capacity:], known, offset_ns, len(written) > capacity)
    assert RingSpool().sniff(content, path.name) > 0.9
    reading = RingSpool().read(path)
    shown = printable(text.encode())
    assert (reading.status, reading.rank, reading.world_size, reading.events, reading.node) == (
        "ok", RANK, WORLD, len(want.kept), f"n{shown}")  # fmt: skip
    assert rows_of(reading, "ranks", "rank", "node", "gpu", "gpu_uuid") == [(RANK, f"n{shown}", 2, f"GPU-{shown}")]
    assert rows_of(reading, "groups", "group", "rank", "description", "group_size") == sorted(want.members())
    assert rows_of(
        reading, "collectives", "group", "op_class", "group_size", "op", "peer", "step", "seq", "message_bytes",
        "ready_ns", "start_ns", "end_ns", "duration_ns", "blocking", "state",
    ) == sorted(want.calls())  # fmt: skip
    assert rows_of(reading, "steps", "step", "phase", "microbatch", "start_ns", "end_ns", "work_tokens") == sorted(
        want.steps()
    )
    assert rows_of(reading, "expert_loads", "step", "layer", "expert", "routed_tokens") == sorted(want.loads())
    assert rows_of(reading, "events", "t_ns", "event", "device", "message") == sorted(
        (start + offset_ns, "mark", f"rank{RANK}", printable(name.encode()[:16])) for start, name in want.of("mark")
    )
