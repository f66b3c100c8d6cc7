"""Tell NVRx, a prolog or a training on this node what verdicts and hints stand for it.

Runs on each node, without rights in any scheduler. NVRx's ft_launcher asks it before each restart over a Unix socket
(gRPC, nvhcd.HealthCheckService), so that a node which skewscope keeps out does not join; others ask over HTTP on
loopback: /verdict (status 503 while the node is kept out), /healthz and /advice?job=JOB. What cannot be read keeps no
node out.

Examples:
  skewscope node-health --verdicts /shared/verdicts --once     print the verdict; exit code 1 if the node is kept out
  skewscope node-health --verdicts /shared/verdicts --socket /run/skewscope/node-health.sock
  ft_launcher --ft-node-health-check-endpoint unix:///run/skewscope/node-health.sock ...
  skewscope node-health --verdicts https://verdicts.site/v --socket S --upstream /run/nvhcd.sock   before another check
  skewscope node-health --verdicts /shared/verdicts --advice /shared/advice --listen 127.0.0.1:9714
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    from ..actuators.nvrx import Said

log = logging.getLogger("skewscope.node_health")


class NodeHealth:
    """`skewscope node-health`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("--verdicts", metavar="DIR|URL", required=True, help="where NODE.json lies, as `file` and `nvrx` write it")
        add("--node", metavar="NAME", default="", help="this node (default: SLURMD_NODENAME, else the host's name)")
        add("--socket", metavar="PATH", default="", help="serve NVRx (gRPC) at this Unix socket")
        add("--upstream", metavar="PATH", default="", help="socket of another such service, asked where we see no harm")
        add("--listen", metavar="ADDR:PORT", default="", help="serve HTTP here, as 127.0.0.1:9714 or unix:/PATH")
        add("--web-config", metavar="FILE", type=Path, help="TLS and passwords of --listen (YAML)")
        add("--web-allow-plain", action="store_true", help="serve the network without TLS")
        add("--advice", metavar="DIR", default="", help="serve the hints of the `engine` actuator too")
        add("--once", action="store_true", help="print the verdict and end: 0 the node may take part, 1 it is kept out")

    def run(self, args: argparse.Namespace) -> int:
        """Run the services, or one look."""
        from ..actuators.nvrx import Health

        health = Health(args.verdicts, args.node or os.environ.get("SLURMD_NODENAME") or socket.gethostname())
        if args.once:
            said = health()
            sys.stdout.write(said.output() + "\n")
            return 0 if said.healthy else 1
        if not args.socket and not args.listen:
            raise UsageError("nothing to serve: give --socket, --listen or --once")
        gc.enable()  # `main` turns it off for short work; this one stays
        with ExitStack() as stack:
            for where in _started(args, health, stack):
                log.info("serving node %s at %s", health.node, where)
            _until_told()
        return 0


def _started(args: argparse.Namespace, health: Callable[[], Said], stack: ExitStack) -> list[str]:
    from ..actuators.nvrx import Service, served

    where = []
    if args.socket:
        service = Service(health, args.socket, args.upstream)
        service.start()
        stack.callback(service.stop)
        where.append(args.socket)
    if args.listen:
        web = {"web_config": args.web_config, "allow_plain": args.web_allow_plain}
        server = served(args.listen, health, args.advice, **web)
        stack.callback(server.stop)
        host, port = server.address
        where.append(f"{host}:{port}")
    return where


def _until_told() -> None:
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    told.wait()
