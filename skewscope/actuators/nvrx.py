"""Keeps a node out of the next restart of NVRx's ft_launcher: a verdict file, told by a service on the node itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..web.server import Server
from ._node_health import Health as Health
from ._node_health import Said as Said
from ._node_health import pages
from ._nvhcd import Service as Service
from .file import File


@dataclass(frozen=True)
class Nvrx(File):
    """Writes verdict files as `file` does; `skewscope node-health` tells them to NVRx on each node, and it obeys.

    Before each rendezvous `ft_launcher --ft-node-health-check-endpoint unix:///run/skewscope/node-health.sock` asks
    that service. A node that is kept out does not join: running work goes on until the next restart, which needs room
    in `--nnodes=MIN:MAX` or a spare. No rights in any scheduler are needed, only to write into `folder`, which every
    node sees (or a web server shows). By hand: remove the node's file.

    Settings: `folder`, `nodes` or `nodes_file`, as for `file`; a folder is written by one of the two. Where `file` acts
    already, its verdicts serve NVRx as well.
    """

    name: ClassVar[str] = "nvrx"
    verbs: tuple[str, ...] = ("exclude",)


def served(
    listen: str, health: Callable[[], Said], advice: str = "", *, web_config: Path | None = None,
    allow_plain: bool = False,
) -> Server:  # fmt: skip
    """Return a started server of /verdict, /healthz and, with a folder of hints, /advice; raises UsageError."""
    server = Server(listen, pages(health, advice), web_config=web_config, allow_plain=allow_plain)
    server.start()
    return server
