"""The service `nvhcd.HealthCheckService` that NVRx asks over a Unix socket, spoken with grpcio alone.

    service HealthCheckService { rpc RunHealthCheck(HealthCheckRequest) returns (HealthCheckResponse); }
    message HealthCheckRequest { repeated string args = 1; }
    message HealthCheckResponse { bool success = 1; int32 exit_code = 2; string output = 3; string error = 4; }

NVRx reads `success`, and in `output` (JSON) `fail_count`, or `failed_checks` in later versions: all three say the same
here. What the request asks to be run is not run; it is passed on to the site's own service, where there is one.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ..errors import UsageError
from ._node_health import Said

METHOD = "/nvhcd.HealthCheckService/RunHealthCheck"
PREFIX = "unix://"
THREADS, MOST_CALLS = 4, 64
OPEN_TO_ALL = 0o666  # jobs of all users ask
STOP_S = 1.0
log = logging.getLogger("skewscope.node_health")


@dataclass(frozen=True)
class Response:
    """A HealthCheckResponse."""

    success: bool = False
    exit_code: int = 0
    output: str = ""
    error: str = ""

    def packed(self) -> bytes:
        r"""Return it as protobuf writes it; defaults are left out.

        >>> Response(True, 0, "{}").packed()
        b'\x08\x01\x1a\x02{}'
        """
        numbers = b"\x08\x01" if self.success else b""
        if self.exit_code:
            numbers += b"\x10" + _varint(self.exit_code % 2**64)
        texts = ((b"\x1a", self.output.encode()), (b"\x22", self.error.encode()))
        return numbers + b"".join(tag + _varint(len(text)) + text for tag, text in texts if text)

    @classmethod
    def of(cls, packed: bytes) -> Response:
        """Return what was packed; raises ValueError for what is no such message."""
        values: dict[int, Any] = {1: 0, 2: 0, 3: b"", 4: b""}
        for number, value in _fields(packed):
            if number in values and isinstance(value, type(values[number])):
                values[number] = value
        code = values[2] & 0xFFFFFFFF
        texts = (values[at].decode("utf-8", "replace") for at in (3, 4))
        return cls(bool(values[1]), code - 2**32 if code >= 2**31 else code, *texts)

    @property
    def healthy(self) -> bool:
        """Whether NVRx would let the node take part, as its strictest version judges."""
        try:
            told = json.loads(self.output)
            return self.success and told.get("fail_count", 0) == 0 and not told.get("failed_checks")
        except (ValueError, AttributeError, RecursionError):
            return False


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*made, number))


def _fields(packed: bytes) -> Iterator[tuple[int, int | bytes]]:
    place = 0
    while place < len(packed):
        tag, place = _number(packed, place)
        kind = tag & 7
        if kind == 0:
            value, place = _number(packed, place)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, place = _number(packed, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if place + length > len(packed):
            raise ValueError("the message is cut off")
        yield tag >> 3, packed[place : place + length]
        place += length


def _number(packed: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if place >= len(packed) or shift > 63:
            raise ValueError("a number is cut off")
        byte = packed[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return number, place


def answer(said: Said) -> Response:
    """Return what a node says of itself as NVRx hears it."""
    return Response(said.healthy, 0 if said.healthy else 1, said.output(), said.trouble)


class Service:
    """Serves the verdict on this node at a Unix socket; asks `upstream`, the site's own service, where ours is fine."""

    def __init__(
        self, health: Callable[[], Said], path: str, upstream: str = "", upstream_timeout_s: float = 45.0
    ) -> None:
        try:
            self._grpc: Any = import_module("grpc")
        except ModuleNotFoundError:
            raise UsageError('the service for NVRx needs grpcio: pip install "skewscope[nvrx]"') from None
        self._health, self._path, self._timeout_s = health, path.removeprefix(PREFIX), upstream_timeout_s
        self._upstream = upstream and PREFIX + os.path.abspath(upstream.removeprefix(PREFIX))
        if not self._path or "://" in self._path:
            raise UsageError(f"{path}: wants the path of a Unix socket; NVRx asks no other kind")
        self._server: Any = None

    def start(self) -> None:
        """Bind and serve; raises UsageError where the socket cannot be made."""
        grpc = self._grpc
        handler = grpc.method_handlers_generic_handler(
            "nvhcd.HealthCheckService", {"RunHealthCheck": grpc.unary_unary_rpc_method_handler(self._run)}
        )
        server = grpc.server(ThreadPoolExecutor(THREADS, "nvhcd"), (handler,), maximum_concurrent_rpcs=MOST_CALLS)
        path = os.path.abspath(self._path)
        try:
            _make_room(path)
            server.add_insecure_port(f"{PREFIX}{path}")
            os.chmod(path, OPEN_TO_ALL)
        except (RuntimeError, OSError) as error:
            raise UsageError(f"{path}: no socket can be made there: {error}") from None
        server.start()
        self._server = server

    def stop(self) -> None:
        """End the service and take the socket away."""
        if self._server is not None:
            self._server.stop(STOP_S).wait(STOP_S)
            self._server = None

    def _run(self, request: bytes, _: object) -> bytes:
        said = self._health()
        if said.trouble:
            log.warning("%s", said.trouble)
        if not said.healthy or not self._upstream:
            log.info("asked: %s", said.output())
            return answer(said).packed()
        return self._asked_upstream(request, said)

    def _asked_upstream(self, request: bytes, said: Said) -> bytes:
        """Return what the site's own service says, as it came; where it is silent, what we say."""
        try:
            with self._grpc.insecure_channel(self._upstream) as channel:
                packed: bytes = channel.unary_unary(METHOD)(request, timeout=self._timeout_s)
            log.info("asked: upstream says %s", "yes" if Response.of(packed).healthy else "no")
            return packed
        except (self._grpc.RpcError, ValueError) as error:
            log.warning("upstream does not answer: %s", error)
            troubles = [said.trouble, "upstream does not answer"] if said.trouble else ["upstream does not answer"]
            return answer(Said(said.node, trouble="; ".join(troubles))).packed()


def _make_room(path: str) -> None:
    """Take away a socket that nobody serves any more; raises OSError for one in use, and for any other file."""
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise FileExistsError("there is a file that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.settimeout(1.0)
        try:
            one.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise FileExistsError("somebody serves there already")
