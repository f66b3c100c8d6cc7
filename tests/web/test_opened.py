"""Where a request goes, and where it never goes: to another server than was named, with whatever it carries."""

from __future__ import annotations

import ssl
import subprocess
import sys
import threading
import urllib.error
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme

from skewscope.doctor.services import asked
from skewscope.errors import SkewscopeError, UsageError
from skewscope.watch.alarms import Alarms
from skewscope.web.access import Access
from skewscope.web.ask import page
from skewscope.web.opened import opened
from skewscope.web.shown import hidden, without_login


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append((self.path, self.headers.get("Authorization", "")))
        to = self.server.to
        self.send_response(302 if to and not self.path.startswith("/there") else 200)
        if to:
            self.send_header("Location", to)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    with ExitStack() as stack:

        def start(to: str = "", tls: ssl.SSLContext | None = None) -> ThreadingHTTPServer:
            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            server.daemon_threads, server.seen, server.to = True, [], to
            if tls:
                server.socket = tls.wrap_socket(server.socket, server_side=True)
            server.url = f"http{'s' * bool(tls)}://127.0.0.1:{server.server_port}"
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return server

        yield start


@pytest.fixture
def access(tmp_path):
    (tmp_path / "token").write_text("s3cret")
    return Access(bearer_token_file=str(tmp_path / "token"))


ASKING = {
    "opened": lambda url, access: opened(f"{url}/a", access, timeout_s=5),
    "top": lambda url, access: page(f"{url}/a", access),
    "alarms": lambda url, access: Alarms([url], access).burning(),
    "doctor": lambda url, access: asked("agent", url, access),
}


@pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)
def test_a_login_does_not_follow_to_another_server(serve, access, ask):
    other = serve()
    named = serve(f"{other.url}/there")
    try:
        ask(named.url, access)
    except (SkewscopeError, urllib.error.HTTPError):
        pass
    assert [login for _, login in named.seen] == ["Bearer s3cret"]
    assert other.seen == []


def test_a_redirect_within_the_server_is_followed_where_it_may_be(serve, access):
    server = serve("/there")
    opened(f"{server.url}/a", access, timeout_s=5).close()
    assert [path for path, _ in server.seen] == ["/a", "/there"]
    with pytest.raises(urllib.error.HTTPError, match="302"):
        opened(f"{server.url}/a", access, timeout_s=5, follow=False)


def test_nothing_goes_from_tls_to_plain_text(serve, access, tmp_path):
    ca = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(tls)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    secure = serve("", tls)
    secure.to = f"http://127.0.0.1:{secure.server_port}/there"
    trusting = Access(bearer_token_file=access.bearer_token_file, ca_file=str(tmp_path / "ca.pem"))
    with pytest.raises(urllib.error.HTTPError, match="302"):
        opened(f"{secure.url}/a", trusting, timeout_s=5)
    assert len(secure.seen) == 1


@pytest.mark.parametrize("scheme", ["file", "ftp", "data"])
def test_nothing_else_than_http_is_opened(tmp_path, scheme):
    (tmp_path / "secret").write_text("s3cret")
    with pytest.raises(urllib.error.URLError, match="unknown url type"):
        opened(f"{scheme}://{tmp_path}/secret", Access(), timeout_s=5)


def test_a_login_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(UsageError) as caught:
        opened("http://ann:s3cret@127.0.0.1/x", Access(), timeout_s=5)
    assert str(caught.value).startswith("the address of http://127.0.0.1/... holds a login")


@pytest.mark.parametrize(
    "url", ["http://ann:s3cret@h:1/x", "ann:s3cret@h:1", "http://ann:s3/cret@h", "x=https://ann:s3@cret@h/a?t=s3cret"]
)
def test_no_login_is_shown_however_it_is_written(url):
    assert "ret" not in without_login(url) and "ann" not in hidden(url)


# In a process of its own, where nobody else takes memory.
MANY = """
import gc, sys
from skewscope.web.access import Access
from skewscope.web.opened import opened

def asked(times):
    for _ in range(times):
        with opened(sys.argv[1], Access(), timeout_s=20):
            pass
    gc.collect()
    return sys.getallocatedblocks()

asked(100)
before = asked(100)
print(asked(500) - before)
"""


def test_requests_without_end_leave_nothing_behind(serve):
    words = [sys.executable, "-c", MANY, serve().url]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert int(ended.stdout) < 100
