"""Agents of a fleet: one server whose every path `/NODE/metrics` is a page that a test sets."""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from skewscope.simulate import simulate
from skewscope.simulate.exposition import pages

WINDOW_NS = 30 * 10**9
START_NS = 1_750_000_020 * 10**9  # an end of a window


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers)))
        made = self.server.pages.get(self.path.partition("?")[0], 404)
        if callable(made):
            made = made(self)
        if made is None:
            self.close_connection = True
            return
        status, body = (made, b"no") if isinstance(made, int) else (200, made)
        packed = "gzip" in self.headers.get("Accept-Encoding", "") and len(body) > 100
        body = gzip.compress(body, 1) if packed else body
        self.send_response(status)
        if packed:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, *_):
        pass


@contextmanager
def fleet(tls=None):
    """Yield (pages by path, address, requests seen) of a running server."""
    server = Server(("127.0.0.1", 0), Handler)
    server.pages, server.seen = {}, []
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def address(server) -> str:
    return f"127.0.0.1:{server.server_address[1]}"


def target(server, node: str, scheme: str = "http") -> str:
    return f"{node}={scheme}://{address(server)}/{node}/metrics"


@cache
def simulated(name: str, seed: int = 1):
    return simulate(name, seed)


@cache
def told_pages(name: str, window: int, seed: int = 1) -> dict[str, bytes]:
    """Return the pages of all nodes at the end of a window of a simulation."""
    return {node: text.encode() for node, text in pages(simulated(name, seed), window).items()}


def serve(server, found: dict[str, bytes]) -> None:
    server.pages = {f"/{node}/metrics": page for node, page in found.items()}
