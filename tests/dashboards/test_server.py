from __future__ import annotations

import socket
import ssl
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from runpy import run_path

import pytest
import trustme

from skewscope.catalogue import load
from skewscope.errors import UsageError
from skewscope.web.web_config import WebConfig

pytest.importorskip("dash")
made = run_path(str(Path(__file__).with_name("_served.py")))
Server = load("dashboards._server").Server


@contextmanager
def running(web=None):
    client, _ = made["served"]()
    server = Server(client.application, "127.0.0.1:0", web=web)
    server.start()
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.address
    finally:
        server.stop()
        thread.join(10)
        assert not thread.is_alive()


def test_a_thousand_requests_at_once_are_all_answered():
    with running() as address:
        port = int(address.rpartition(":")[2])

        def asked(_: int) -> int:
            one = HTTPConnection("127.0.0.1", port, timeout=60)
            one.request("GET", "/why")
            status = one.getresponse().status
            one.close()
            return status

        with ThreadPoolExecutor(100) as many:
            assert set(many.map(asked, range(1000))) == {200}


def test_tls_is_spoken_and_a_slow_client_stops_nobody(tmp_path):
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    (tmp_path / "web.yml").write_text("tls_server_config:\n  cert_file: both.pem\n  key_file: both.pem\n")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with running(WebConfig(tmp_path / "web.yml")) as address:
        assert address.startswith("https://")
        port = int(address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)):  # says nothing, so its handshake does not end
            begun_s = time.monotonic()
            with urllib.request.urlopen(f"{address}/healthz", context=trusting, timeout=10) as reply:
                assert reply.read() == b"alive\n"
            assert time.monotonic() - begun_s < 5


@pytest.mark.parametrize(
    "said", [b"", b"GET / HT", b"POST /_dash-update-component HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{"],
    ids=["nothing", "half a head", "half a body"],
)  # fmt: skip
def test_clients_that_do_not_end_their_request_hold_no_thread(said):
    with running() as address, ExitStack() as slow:
        port = int(address.rpartition(":")[2])
        for _ in range(60):  # there are 24 threads
            slow.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(said)
        with urllib.request.urlopen(f"{address}/healthz", timeout=10) as reply:
            assert reply.read() == b"alive\n"


def test_a_request_that_comes_in_pieces_is_answered():
    with running() as address, socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as one:
        one.settimeout(10)
        for part in (b"GET /healthz HT", b"TP/1.1\r\nHost: 127.0.0.1\r\n", b"Connection: close\r\n", b"\r\n"):
            one.sendall(part)
            time.sleep(0.05)  # each is a piece of its own
        told = b""
        while more := one.recv(4096):
            told += more
        assert told.startswith(b"HTTP/1.1 200") and told.endswith(b"alive\n")


@pytest.mark.parametrize("listen", ["0.0.0.0:0", ":0", "[::]:0"])
def test_the_network_wants_tls_and_people(listen):
    with pytest.raises(UsageError, match="can be reached from other machines"):
        Server(lambda *_: [], listen, guarded=True)
    Server(lambda *_: [], listen, allow_plain=True)


@pytest.mark.parametrize("listen", ["8790", "host", "a:b", "::1:80", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_told(listen):
    with pytest.raises(UsageError, match="cannot listen"):
        Server(lambda *_: [], listen)


def test_an_address_that_is_taken_is_told():
    with running() as address, pytest.raises(UsageError, match="cannot listen"):
        Server(lambda *_: [], address.removeprefix("http://")).start()
