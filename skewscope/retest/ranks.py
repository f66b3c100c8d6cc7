"""The part of a re-test that needs several ranks: pairs of nodes, and one reduction over all of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from ..errors import SkewscopeError, UsageError
from . import pairs
from .document import Measure, Result
from .rounds import Rounds, seconds, speed

PORT = 29_411
ON_GPU_BYTES, ON_CPU_BYTES = 2**28, 2**23  # of a message; a network card needs long ones to show its speed
MOST_TURNS = 15  # of pairs: in a large world each rank meets some, not all
Torch = Any


@dataclass(frozen=True)
class Place:
    """Where this rank stands among all."""

    rank: int
    count: int
    local: int
    locals: int  # ranks of this node
    address: str


def place(environment: Mapping[str, str]) -> Place:
    """Return what torchrun or srun says of this rank; raises UsageError where neither says it.

    >>> place({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "n1"}).address
    'n1:29411'
    """
    slurm = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_STEP_NUM_TASKS", "LOCAL_RANK": "SLURM_LOCALID"}

    def told(name: str, otherwise: str = "") -> int:
        text = environment.get(name) or environment.get(slurm.get(name, ""), otherwise)
        if not text.isdigit():
            raise UsageError(f"--together: {name} is not set; start it with torchrun, or srun with one task a node")
        return int(text)

    host = environment.get("MASTER_ADDR") or pairs.first_host(environment.get("SLURM_STEP_NODELIST", ""))
    if not host:
        raise UsageError("--together: MASTER_ADDR is not set; name the host of rank 0")
    address = f"{host}:{environment.get('MASTER_PORT') or PORT}"
    return Place(told("RANK"), told("WORLD_SIZE"), told("LOCAL_RANK", "0"), told("LOCAL_WORLD_SIZE", "1"), address)


class Company:
    """All ranks, connected: NCCL between GPUs, else Gloo. Use it in a `with`."""

    def __init__(self, torch: Torch, where: Place, within_s: float = 120.0) -> None:
        """Take torch and this rank's place; nothing is connected before the `with`."""
        self.torch, self.where, self._within = torch, where, timedelta(seconds=within_s)
        self._on_gpu = torch.cuda.is_available() and torch.distributed.is_nccl_available()
        self._bytes = ON_GPU_BYTES if self._on_gpu else ON_CPU_BYTES
        self._words: Any = None

    @property
    def device(self) -> str:
        """The name of this rank's device in documents."""
        return f"gpu{self.where.local}" if self._on_gpu else "cpu"

    def __enter__(self) -> Company:
        distributed, where = self.torch.distributed, self.where
        if self._on_gpu:
            self.torch.cuda.set_device(where.local)
        try:
            distributed.init_process_group(
                "nccl" if self._on_gpu else "gloo", init_method=f"tcp://{where.address}", rank=where.rank,
                world_size=where.count, timeout=self._within,
            )  # fmt: skip
            self._words = distributed.new_group(backend="gloo")
        except (RuntimeError, ValueError) as error:
            raise SkewscopeError(f"--together: not all ranks met at {where.address}: {error}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self.torch.distributed.destroy_process_group()

    def gathered(self, what: object) -> list[Any]:
        """Return what each rank gives, on every rank."""
        found: list[Any] = [None] * self.where.count
        self.torch.distributed.all_gather_object(found, what, group=self._words)
        return found

    def measured(self, node: str, rounds: Rounds) -> list[Measure]:
        """Return the speed with other nodes, pair by pair, and that of one reduction over all."""
        nodes = self.gathered(node)
        fixed = replace(rounds, least=rounds.least, most=rounds.least)  # all ranks do the same number of rounds
        found: list[float] = []
        for turn in pairs.turns(self.where.count)[:MOST_TURNS]:
            other = turn[self.where.rank]
            if other >= 0 and nodes[other] != node:
                found += seconds(lambda other=other: self._exchange(other), fixed)  # type: ignore[misc]
            self.torch.distributed.barrier(group=self._words)
        told = (
            [speed("pair", "bytes", self.device, f"{self._bytes >> 20} MiB", 2.0 * self._bytes, found)] if found else []
        )
        return [*told, self._reduction(fixed)]

    def _exchange(self, other: int) -> None:
        """Send to and receive from another rank at once, and wait for both."""
        distributed = self.torch.distributed
        sent, got = self._space("sent", self._bytes), self._space("got", self._bytes)
        both = [distributed.P2POp(distributed.isend, sent, other), distributed.P2POp(distributed.irecv, got, other)]
        for one in distributed.batch_isend_irecv(both):
            one.wait()
        self._settle()

    def _reduction(self, rounds: Rounds) -> Measure:
        space, count = self._space("reduced", self._bytes), self.where.count

        def once() -> None:
            self.torch.distributed.all_reduce(space)
            self._settle()

        moved = 2.0 * (count - 1) / count * self._bytes
        return speed("all_reduce", "bytes", self.device, f"{self._bytes >> 20} MiB x{count}", moved,
                     seconds(once, rounds))  # fmt: skip

    def _space(self, name: str, size: int) -> Any:  # noqa: ANN401 - a tensor
        """Return a buffer, the same one each time: making it is not what is measured."""
        held: dict[str, Any] = self.__dict__.setdefault("_held", {})
        if name not in held:
            held[name] = self.torch.zeros(size, dtype=self.torch.uint8, device="cuda" if self._on_gpu else "cpu")
        return held[name]

    def _settle(self) -> None:
        if self._on_gpu:
            self.torch.cuda.synchronize()


def by_node(results: Iterable[Result]) -> list[Result]:
    """Return one result a node, of all ranks on it.

    >>> [one.node for one in by_node([Result("n1", 1, "", ""), Result("n2", 1, "", ""), Result("n1", 2, "", "")])]
    ['n1', 'n2']
    """
    found: dict[str, Result] = {}
    for one in results:
        known = found.get(one.node)
        found[one.node] = one if known is None else replace(
            known, time_ns=max(known.time_ns, one.time_ns), measures=(*known.measures, *one.measures),
            failures=(*known.failures, *one.failures), took_s=max(known.took_s, one.took_s),
        )  # fmt: skip
    return list(found.values())


def environment() -> Mapping[str, str]:
    """Return the variables that a launcher sets."""
    return os.environ
