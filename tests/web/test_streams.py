from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest
import trustme

http = SimpleNamespace(**run_path(str(Path(__file__).with_name("_http.py"))))
Reply, DEADLINE_S, serving, connect = http.Reply, http.DEADLINE_S, http.serving, http.connect
read_reply, until_end, wait_for = http.read_reply, http.until_end, http.wait_for
GET = b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n"
OLD = b"GET /events HTTP/1.0\r\n\r\n"


class Source:
    """Pages that stream what is put; `ended` counts the streams that were closed."""

    def __init__(self) -> None:
        self.put: queue.Queue[bytes | None] = queue.Queue()
        self.begun = self.ended = 0
        self._lock = threading.Lock()

    def pages(self, path: str, headers: dict[str, str]) -> Reply:
        if path == "/metrics":
            return Reply(200, "text/plain", b"page\n")
        return Reply(200, "text/event-stream", b"", parts=self._parts())

    def _parts(self):
        with self._lock:
            self.begun += 1
        try:
            while True:
                try:
                    part = self.put.get(timeout=0.02)
                except queue.Empty:
                    part = b""
                if part is None:
                    return
                yield part
        finally:
            with self._lock:
                self.ended += 1


@pytest.fixture
def source() -> Source:
    return Source()


def read_head(sock: socket.socket) -> tuple[str, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode().lower(), rest


def read_until(sock: socket.socket, end: bytes, rest: bytes = b"") -> bytes:
    while not rest.endswith(end):
        more = sock.recv(65536)
        assert more, rest
        rest += more
    return rest


def test_parts_come_as_they_are_made_and_the_connection_goes_on(source: Source):
    with serving(page=source.pages) as server, connect(server) as sock:
        sock.sendall(GET)
        head, rest = read_head(sock)
        assert head.startswith("http/1.1 200 ok") and "content-type: text/event-stream" in head
        assert "transfer-encoding: chunked" in head and "cache-control: no-store" in head
        assert "content-length" not in head and "connection" not in head
        for part in (b"one", b"x" * 100_000):
            source.put.put(part)
            framed = b"%x\r\n" % len(part) + part + b"\r\n"
            assert read_until(sock, framed, rest) == framed
            rest = b""
        source.put.put(None)
        assert read_until(sock, b"\r\n\r\n") == b"0\r\n\r\n"
        sock.sendall(GET.replace(b"/events", b"/metrics"))
        assert read_reply(sock)[2] == b"page\n"
        assert (source.begun, source.ended) == (1, 1)


def test_an_old_client_gets_the_bytes_and_then_the_end(source: Source):
    with serving(page=source.pages) as server, connect(server) as sock:
        sock.sendall(OLD.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"))
        for part in (b"one", b"two", None):
            source.put.put(part)
        head, _, body = until_end(sock).partition(b"\r\n\r\n")
        assert b"Transfer-Encoding" not in head and b"Connection: close" in head
        assert body == b"onetwo"


def test_head_opens_no_stream(source: Source):
    with serving(page=source.pages) as server, connect(server) as sock:
        sock.sendall(GET.replace(b"GET", b"HEAD"))
        head, rest = read_head(sock)
        assert "transfer-encoding: chunked" in head and rest == b""
        sock.sendall(GET.replace(b"/events", b"/metrics"))
        assert read_reply(sock)[2] == b"page\n"
        assert source.begun == 0


def test_a_client_that_leaves_makes_room_at_once(source: Source):
    with serving(page=source.pages, max_streams=1) as server:
        with connect(server) as first:
            first.sendall(GET)
            read_head(first)
            with connect(server) as second:
                second.sendall(GET)
                assert read_reply(second)[0] == 503
                second.sendall(GET.replace(b"/events", b"/metrics"))
                assert read_reply(second)[0] == 200
        wait_for(lambda: source.ended == source.begun == 1)
        with connect(server) as third:
            third.sendall(GET)
            assert read_head(third)[0].startswith("http/1.1 200")


def test_streams_are_not_told_to_make_room_for_requests(source: Source):
    with serving(page=source.pages, max_connections=2, max_streams=1) as server, connect(server) as streaming:
        streaming.sendall(GET)
        _, rest = read_head(streaming)
        for _ in range(5):
            with connect(server) as sock:
                sock.sendall(GET.replace(b"/events", b"/metrics"))
                assert read_reply(sock)[0] == 200
        source.put.put(b"still here")
        assert read_until(streaming, b"still here\r\n", rest)


def test_a_client_that_does_not_read_is_given_up(source: Source):
    with serving(page=source.pages, write_timeout_s=0.2) as server, connect(server) as sock:
        sock.sendall(GET)
        wait_for(lambda: source.begun == 1)
        for _ in range(40):
            source.put.put(bytes(1_000_000))
        wait_for(lambda: source.ended == 1)
        assert not source.put.empty()


def test_the_end_of_the_server_ends_streams_in_good_form(source: Source):
    with serving(page=source.pages) as server, connect(server) as sock:
        sock.sendall(GET)
        _, rest = read_head(sock)
        begun_s = time.monotonic()
        server.stop()
        assert time.monotonic() - begun_s < 0.9
        assert rest + until_end(sock) == b"0\r\n\r\n"
        assert source.ended == 1


def test_a_stream_that_fails_is_cut_short_and_told(caplog: pytest.LogCaptureFixture):
    def parts():
        yield b"one"
        raise RuntimeError("nothing follows")

    with serving(page=lambda *_: Reply(200, "x", b"", parts=parts())) as server, connect(server) as sock:
        sock.sendall(GET)
        data = until_end(sock)
    assert data.endswith(b"3\r\none\r\n") and b"0\r\n\r\n" not in data
    assert "nothing follows" in caplog.text


def test_a_stream_over_tls_and_by_password_alone(source: Source, tmp_path: Path):
    import base64

    import bcrypt

    ca = trustme.CA()
    made = ca.issue_cert("localhost")
    made.private_key_pem.write_to_path(str(tmp_path / "key"))
    made.cert_chain_pems[0].write_to_path(str(tmp_path / "crt"))
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    path = tmp_path / "web.yml"
    path.write_text(f"tls_server_config: {{cert_file: crt, key_file: key}}\nbasic_auth_users: {{me: '{hashed}'}}\n")
    context = ssl.create_default_context()
    ca.configure_trust(context)
    with serving(page=source.pages, web_config=path) as server:
        with context.wrap_socket(connect(server), server_hostname="localhost") as sock:
            sock.sendall(GET)
            assert read_reply(sock)[0] == 401 and source.begun == 0
            word = base64.b64encode(b"me:secret")
            for request in (GET, OLD):  # in chunks, and without
                sock.sendall(request.replace(b"\r\n\r\n", b"\r\nAuthorization: Basic " + word + b"\r\n\r\n"))
                _, rest = read_head(sock)
                source.put.put(b"one")
                source.put.put(None)
                assert read_until(sock, b"one" if request is OLD else b"0\r\n\r\n", rest).count(b"one") == 1
        wait_for(lambda: source.ended == 2)
