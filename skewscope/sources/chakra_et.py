"""Execution traces: of PyTorch's observer (JSON), of Chakra as JSON nodes, and of Chakra as protocol buffers (.et).

An execution trace tells what ran, with which tensors and in which order. Times are there only where it was linked with
a Kineto trace; Chakra's own nodes have durations. What has no times is counted and left out of `ops`; collectives stay,
in their order, for they tell whether ranks called the same ones.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from ..contracts import Reading
from ..errors import Unreadable
from . import _chakra_json, _chakra_nodes, _chakra_protobuf
from ._bytes import COPY_AGAIN, whole

RANK = re.compile(r"(?:^|[._-])(?:rank[._-]?)?(\d{1,6})\.(?:et|json|eg)(?:\.gz)?$")
MEND = "record a Kineto trace of the same steps beside it"


class ChakraEt:
    """Reads execution traces."""

    format: ClassVar[str] = "chakra-et"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins an execution trace.

        >>> ChakraEt().sniff(b'{"schema": "1.0.2-chakra.0.0.4", "nodes": [', ""), ChakraEt().sniff(b'{"nodes": []}', "")
        (0.96, 0.0)
        """
        if head.lstrip().startswith(b"{"):
            return _chakra_json.surety(head)
        return _chakra_protobuf.surety(head)

    def read(self, path: Path) -> Reading:
        """Return `collectives`, `groups`, and `ops` of nodes with times; raises Unreadable where nothing is left."""
        content, damage = whole(path)
        is_json = content.lstrip()[:1] == b"{"
        trace = _chakra_json.trace(content, damage) if is_json else _chakra_protobuf.trace(content, damage)
        if not trace.nodes:
            raise Unreadable(trace.damage or "no node in the execution trace", COPY_AGAIN if trace.damage else MEND)
        told = RANK.search(path.name)
        rank = trace.rank if trace.rank >= 0 else int(told[1]) if told else -1
        batches, warnings = _chakra_nodes.tables(trace, rank)
        if not batches:
            raise Unreadable(f"{len(trace.nodes)} nodes, but no collective and no times: {_chakra_nodes.CANNOT}", MEND)
        reading = Reading(
            str(path), self.format, rank=rank, world_size=trace.world_size, events=len(trace.nodes),
            warnings=warnings, batches=batches,
        )  # fmt: skip
        if trace.damage:
            reading.status, reading.error = "partial", f"{trace.damage}; {len(trace.nodes)} nodes before that were read"
        return reading
