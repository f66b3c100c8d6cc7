"""Serves a WSGI application over HTTP/1.1 by cheroot, with the web configuration's TLS."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import logging
import socket
from collections.abc import Callable
from typing import Any

from cheroot.server import HTTPConnection
from cheroot.ssl import Adapter

from skewscope.errors import UsageError
from skewscope.web.web_config import WebConfig

from ._lobby import Patient

THREADS, WAITING, PATIENCE_S = 24, 1_024, 15
M_ARENA_MAX, HEAPS = -8, 2  # of malloc.h
MOST_HEAD_BYTES, MOST_BODY_BYTES = 32 * 1024, 1024 * 1024
EVERYWHERE = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 - asked for by name, and guarded
log = logging.getLogger("skewscope.dashboard")


class Server:
    """Listens at HOST:PORT. An address that others can reach wants TLS, or `allow_plain`, and `guarded` people."""

    def __init__(
        self, application: Callable[..., Any], listen: str, *, web: WebConfig | None = None, allow_plain: bool = False,
        guarded: bool = False,
    ) -> None:  # fmt: skip
        host, port = parsed(listen)
        tls = web is not None and web.tls
        if exposed(host) and not (allow_plain or (tls and guarded)):
            raise UsageError(
                f"{listen} can be reached from other machines; give --web-config with tls_server_config and "
                "basic_auth_users, or --web-allow-plain if the network is trusted or a proxy stands before it"
            )
        self._listen, self.tls = listen, tls
        self._http: Any = Patient(
            (host or EVERYWHERE, port), application, numthreads=THREADS, max=THREADS, request_queue_size=WAITING,
            timeout=PATIENCE_S, shutdown_timeout=2, server_name="skewscope",
        )  # fmt: skip
        self._http.max_request_header_size, self._http.max_request_body_size = MOST_HEAD_BYTES, MOST_BODY_BYTES
        setattr(self._http, "error_log", _logged)  # noqa: B010 - cheroot means it to be replaced
        if web is not None and web.tls:
            self._http.ssl_adapter = _Tls(web)
            self._http.ConnectionClass = _shaking(web)

    def start(self) -> None:
        """Bind; raises UsageError."""
        few_heaps()
        try:
            self._http.prepare()
        except OSError as error:
            raise UsageError(f"cannot listen on {self._listen}: {error.strerror or error}; choose another") from None

    @property
    def address(self) -> str:
        """Where it listens, as a URL; known after `start`."""
        host, port = self._http.bind_addr[:2]
        return f"{'https' if self.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    def run(self) -> None:
        """Serve until `stop`."""
        self._http.serve()

    def stop(self) -> None:
        """End serving; what is under way is finished if that takes no two seconds."""
        self._http.stop()


def few_heaps() -> None:
    """Let threads share heaps: glibc gives each its own, which keeps what was freed (300 MB of 24 threads)."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, HEAPS)


def parsed(listen: str) -> tuple[str, int]:
    """Return host and port; raises UsageError.

    >>> parsed("[::1]:8790"), parsed(":80")
    (('::1', 8790), ('', 80))
    """
    host, colon, port = listen.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535 or (":" in host and not bracketed):
        raise UsageError(f"cannot listen on {listen!r}: give HOST:PORT, [IPV6]:PORT or :PORT (all addresses)")
    return host[1:-1] if bracketed else host, int(port)


def exposed(host: str) -> bool:
    """Return whether other machines can reach a host name or address; "" is every address of this one.

    >>> exposed("127.0.0.1"), exposed("")
    (False, True)
    """
    if not host:
        return True
    try:
        places = {place[4][0] for place in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise UsageError(f"cannot listen on {host!r}: {error.strerror or error}") from None
    return not all(ipaddress.ip_address(str(place).partition("%")[0]).is_loopback for place in places)


class _Tls(Adapter):
    """Wraps sockets; the handshake is left to the thread that serves, so that a slow client stops nobody."""

    def __init__(self, web: WebConfig) -> None:
        self._web = web

    def bind(self, sock: socket.socket) -> socket.socket:
        """Return the listening socket as it is."""
        return sock

    def wrap(self, sock: socket.socket) -> tuple[socket.socket, dict[str, Any]]:
        """Return a socket for TLS and what the application is told."""
        return self._web.wrapped(sock), self.get_environ()

    def get_environ(self) -> dict[str, Any]:
        """Return what the application is told."""
        return {"wsgi.url_scheme": "https", "HTTPS": "on"}

    def makefile(self, sock: socket.socket, mode: str = "r", bufsize: int = -1) -> Any:  # noqa: ANN401
        """Return a file over the socket."""
        from cheroot.makefile import MakeFile

        return MakeFile(sock, mode, bufsize)


def _shaking(web: WebConfig) -> type[HTTPConnection]:
    class Connection(HTTPConnection):
        """Agrees on TLS before the first request."""

        shaken = False

        def communicate(self) -> Any:  # noqa: ANN401
            """Serve one request; the first shakes hands."""
            if not self.shaken:
                try:
                    if not web.shaken(self.socket):
                        return False
                except OSError as error:
                    log.debug("TLS was not agreed on: %s", error)
                    return False
                self.shaken = True
            served: Any = super()
            return served.communicate()

    return Connection


def _logged(msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
    log.log(logging.DEBUG if level <= logging.INFO else level, "%s", msg.strip(), exc_info=traceback)
