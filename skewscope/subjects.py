"""The one grammar for what a finding is about: `job/rank17`, `job/stage3`, `n3`, `n3/gpu1`, `job/rank1->job/rank2`."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = (
    "rank", "gpu", "node", "nic", "link", "group", "stage", "expert", "layer", "replica", "job", "rack",
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """What a finding is about; `id` follows the grammar and the fields repeat its parts for machines.

    >>> rank("job", 7, node="n3").id
    'job/rank7'
    """

    kind: str
    id: str
    rank: int = -1
    peer: int = -1
    node: str = ""
    stage: int = -1
    layer: int = -1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"subject kind {self.kind!r} is none of {', '.join(KINDS)}")


def job(name: str) -> Subject:
    """Return the subject of a whole job.

    >>> job("job").id
    'job'
    """
    return Subject("job", name)


def rank(name: str, number: int, *, node: str = "", stage: int = -1) -> Subject:
    """Return the subject of one rank.

    >>> rank("job", 3).id
    'job/rank3'
    """
    return Subject("rank", f"{name}/rank{number}", rank=number, node=node, stage=stage)


def stage(name: str, number: int, *, rank: int = -1) -> Subject:
    """Return the subject of one pipeline stage; `rank` only where the stage is a single rank.

    >>> stage("job", 3).id
    'job/stage3'
    """
    return Subject("stage", f"{name}/stage{number}", rank=rank, stage=number)


def group(name: str, group_id: str) -> Subject:
    """Return the subject of one communicator.

    >>> group("job", "ab12").id
    'job/group:ab12'
    """
    return Subject("group", f"{name}/group:{group_id}")


def link(name: str, src: int, dst: int) -> Subject:
    """Return the subject of the path between two ranks.

    >>> link("job", 1, 2).id
    'job/rank1->job/rank2'
    """
    return Subject("link", f"{name}/rank{src}->{name}/rank{dst}", rank=src, peer=dst)


def node(name: str) -> Subject:
    """Return the subject of one host.

    >>> node("n3").id
    'n3'
    """
    return Subject("node", name, node=name)


def gpu(node: str, number: int | str, *, rank: int = -1) -> Subject:
    """Return the subject of one GPU by its host and slot.

    >>> gpu("n3", 1).id
    'n3/gpu1'
    """
    return Subject("gpu", f"{node}/gpu{number}", node=node, rank=rank)


def nic(node: str, device: str) -> Subject:
    """Return the subject of one network adapter.

    >>> nic("n3", "mlx5_0").id
    'n3/mlx5_0'
    """
    return Subject("nic", f"{node}/{device}", node=node)


def replica(node: str, name: str) -> Subject:
    """Return the subject of one replica of an inference engine, by its host and the name that it has there.

    >>> replica("n3", "127.0.0.1:8000").id
    'n3/127.0.0.1:8000'
    """
    return Subject("replica", f"{node}/{name}", node=node)


def rack(name: str) -> Subject:
    """Return the subject of one rack, or of what its hosts share.

    >>> rack("r07").id
    'r07'
    """
    return Subject("rack", name)
