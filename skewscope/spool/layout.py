"""Where each field of a ring file lies, and what its numbers mean."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC = b"SKEWRING"
VERSION = 1
HEADER_BYTES = 4096
RECORD_BYTES = 64
CAPACITY = 65_536  # 4 MiB: about a minute at 1,000 events per second
GROUPS = 32

# kind u8 of a record; 0 is no record
KINDS = ("", "collective", "phase", "step", "experts", "work", "mark")
# op u8 of a collective, a phase, a unit of work
OPS = (
    "other", "all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "reduce", "gather", "scatter",
    "send", "recv", "barrier",
)  # fmt: skip
PHASES = ("other", "data", "h2d", "forward", "backward", "optimizer", "comm_wait", "checkpoint", "gc", "eval")
UNITS = ("other", "tokens", "samples", "microbatches", "squared_tokens", "dropped_tokens")

# number u64, kind u8, op u8, group u8 (index into the group table), flags u8, step i32 (-1 unknown), seq u64 (of the
# call in its group), start_ns i64, end_ns i64, device_ns i64 (time on the GPU, -1 unknown), size u64 (bytes; units of
# work), extra u32 (peer rank + 1 of send and recv; microbatch + 1 of a phase; of experts see EXPERTS), crc u32
BODY = struct.Struct("<QBBBBiQqqqQI")
RECORD = struct.Struct("<QBBBBiQqqqQII")
# The same 64 bytes for kind "experts": seq is layer << 32 | first expert, then 8 token counts u32, extra is how many
# of the 8 count.
EXPERTS = struct.Struct("<QBBBBiQ8III")
EXPERTS_A_RECORD = 8
BLOCKING = 1  # flag of a collective: the caller waited in the call itself
FAILED = 2  # flag of a collective or phase: it raised

# magic, version u16, record_bytes u16, capacity u32, pid u32, rank i32, local_rank i32, world_size i32,
# started_ns i64 (realtime), boot_id 16s, device i32 (local GPU index, -1 none), gpu_uuid 48s, job 64s, node 64s, crc
IDENTITY = struct.Struct("<8sHHIIiiiq16si48s64s64sI")
CLOCK_AT = 256  # monotonic_ns i64, realtime_ns i64, crc u32
CLOCK = struct.Struct("<qqI")
LIFE_AT = 288  # heartbeat_ns i64 (monotonic), last number u64, internal errors u32, closed u32
LIFE = struct.Struct("<qQII")
GROUP_AT = 512  # id u64, size u32, rank in group i32, first rank i32, stride i32 (0 irregular), role 16s, name 24s
GROUP = struct.Struct("<QIiii16s24s")
BEGUN_AT = GROUP_AT + GROUPS * GROUP.size  # the newest call of each group: seq u64, start_ns i64, op u8, step i32
BEGUN = struct.Struct("<QqB3xi")


@dataclass(frozen=True)
class Group:
    """A communicator: `id` is the same on all its ranks, `role` is dp, tp, pp, ep, cp, world or "" for unknown."""

    id: int
    size: int
    rank: int
    first: int
    stride: int
    role: str
    name: str

    def ranks(self) -> tuple[int, ...]:
        """Return the global ranks of the group, () where they are not evenly spaced.

        >>> Group(1, 3, 0, 2, 4, "dp", "0").ranks()
        (2, 6, 10)
        """
        if self.size > 1 and self.stride <= 0:
            return ()
        return tuple(self.first + member * self.stride for member in range(self.size))


@dataclass(frozen=True)
class Begun:
    """The newest call that a rank began in a group (monotonic ns); it is open until a record of its `seq` is there."""

    seq: int
    start_ns: int
    op: int
    step: int


@dataclass(frozen=True)
class Header:
    """Who writes a ring, the clock pair, life signs, the tables of groups and of begun calls (same indices)."""

    capacity: int
    pid: int
    rank: int
    local_rank: int
    world_size: int
    started_ns: int
    boot_id: bytes
    device: int
    gpu_uuid: str
    job: str
    node: str
    monotonic_ns: int
    realtime_ns: int
    heartbeat_ns: int
    last_number: int
    internal_errors: int
    closed: bool
    groups: tuple[Group | None, ...]
    begun: tuple[Begun, ...]

    def realtime(self, monotonic_ns: int) -> int:
        """Return a record's time in nanoseconds since the Unix epoch."""
        return monotonic_ns - self.monotonic_ns + self.realtime_ns


def text(raw: bytes) -> str:
    r"""Return a fixed field as text: up to the first zero, printable characters only.

    >>> text(b"dp\x00junk"), text(b"a\nb")
    ('dp', 'a_b')
    """
    shown = raw.split(b"\0", 1)[0].decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "_" for letter in shown)
