"""A server with a page, and a client that says exactly what it is told."""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager

from skewscope.web import server as server_module

Reply = server_module.Reply
BODY = b"skewscope_up 1\n" * 2000
PACKED = b"\x1f\x8b" + bytes(20_000)
LINES = b"Host: node\r\n"
GET = b"GET /metrics HTTP/1.1\r\n" + LINES + b"\r\n"
DEADLINE_S = 10.0


def pages(path: str, headers: dict[str, str]) -> Reply:
    if path == "/fails":
        raise RuntimeError("a page that cannot be made")
    if path.startswith("/asked"):
        return Reply(200, "text/plain", path.encode("latin-1"))
    if path == "/seen":
        return Reply(200, "text/plain", repr(sorted(headers.items())).encode())
    if path.partition("?")[0] != "/metrics":
        return Reply(404, "text/plain", b"there is /metrics\n")
    packed = "gzip" in headers.get("accept-encoding", "")
    return Reply(200, "text/plain; version=0.0.4", PACKED if packed else BODY, "gzip" if packed else "")


@contextmanager
def serving(listen: str = "127.0.0.1:0", page=pages, **options):
    server = server_module.Server(listen, page, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def connect(server) -> socket.socket:
    host, _ = server.address
    if host.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(host[5:])
    else:
        sock = socket.create_connection(server.address)
    sock.settimeout(DEADLINE_S)
    return sock


def read_reply(sock: socket.socket, *, head_only: bool = False, rest: bytes = b""):
    """Return (status, headers, body, bytes that came after)."""
    data = rest
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            raise EOFError(data)
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    length = 0 if head_only else int(headers["content-length"])
    while len(body) < length:
        more = sock.recv(65536)
        if not more:
            raise EOFError(data)
        body += more
    return int(first.split()[1]), headers, body[:length], body[length:]


def ask(server, data: bytes, **how):
    with connect(server) as sock:
        sock.sendall(data)
        return read_reply(sock, **how)


def until_end(sock: socket.socket) -> bytes:
    data = b""
    while more := sock.recv(65536):
        data += more
    return data


def wait_for(true) -> None:
    until_s = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < until_s, "it did not come about"
        time.sleep(0.005)
