"""Commands that listen, started as processes with TLS and passwords, and what asks them."""

from __future__ import annotations

import base64
import http.cookiejar
import re
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import bcrypt
import trustme

USER, PASSWORD = "prom", "pass-w0rd-of-the-listeners"
WITHIN_S = 180.0  # a crowded machine starts slowly


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def guarded(folder: Path) -> Path:
    """Return a web configuration with TLS and one user; `ca.pem` and `both.pem` lie beside it."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    made = authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.ECDSA)
    made.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    tls = "tls_server_config: {cert_file: both.pem, key_file: both.pem}\n"
    (folder / "web.yml").write_text(f'{tls}basic_auth_users: {{{USER}: "{hashed}"}}\n')
    return folder / "web.yml"


class _Seen(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_, **__):
        return None


@dataclass
class Listener:
    """A command; `where` finds its address in what it says, `page` is one that wants a login."""

    name: str
    words: tuple[object, ...]
    where: str
    page: str
    process: subprocess.Popen | None = None
    log: Path = Path()
    url: str = ""
    form: ClassVar[dict[str, str]] = {"dashboard": "/login"}  # people sign in there, and have a cookie from then on
    cookies: http.cookiejar.CookieJar = field(default_factory=http.cookiejar.CookieJar)

    def start(self, folder: Path, environ: dict[str, str] | None = None) -> None:
        """Start it; what it says goes to a file."""
        self.log = folder / f"{self.name}.log"
        words = [sys.executable, "-m", "skewscope", *map(str, self.words), "--web-config", str(folder / "web.yml")]
        with self.log.open("wb") as file:
            self.process = subprocess.Popen([*words, "-v"], stdout=file, stderr=file, cwd=folder, env=environ)

    def wait(self) -> None:
        """Wait until it has said where it listens."""
        end_s = time.monotonic() + WITHIN_S
        while not (found := re.search(self.where, self.log.read_text())):
            assert self.process.poll() is None and time.monotonic() < end_s, self.log.read_text()[-2000:]
            time.sleep(0.05)
        self.url = f"https://{found[1]}"

    def end(self) -> int:
        """End it and return its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()

    def status(self, tls: ssl.SSLContext, password: str = "", *, url: str = "") -> int:
        """Return the status of the page for a user with this password, for nobody without one."""
        url = url or self.url
        handlers = (urllib.request.HTTPSHandler(context=tls), urllib.request.HTTPCookieProcessor(self.cookies), _Seen())
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *handlers)
        request = urllib.request.Request(url + self.page)
        if password and self.name in self.form:
            told = urllib.parse.urlencode({"name": USER, "password": password}).encode()
            signed = _status(opener, urllib.request.Request(url + self.form[self.name], told))
            if signed != 303:
                return signed
        elif password:
            told = base64.b64encode(f"{USER}:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {told}")
        return _status(opener, request)


def _status(opener: urllib.request.OpenerDirector, request: urllib.request.Request) -> int:
    try:
        with opener.open(request, timeout=30) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


def listeners(folder: Path) -> list[Listener]:
    """Return all commands that listen, each on loopback with a port of its own."""
    (folder / "verdicts").mkdir()
    here = ("--listen", "127.0.0.1:0")
    return [
        Listener("agent", ("agent", *here, "--spool", folder / "spool", "--collectors", "host-cpu"),
                 r"serving (127\.0\.0\.1:\d+)", "/metrics"),
        Listener("watch", ("watch", *here, "--scrape", "127.0.0.1:1"),
                 r"watching; https://(\S+?)/", "/api/v1/conditions"),
        Listener("dashboard", ("dashboard", *here), r"dashboard +https://(\S+?)/", "/_dash-layout"),
        Listener("up", ("up", *here, "--agent", f"127.0.0.1:{free_port()}", "--dashboard", "127.0.0.1:0"),
                 r"report +https://(\S+?)/", "/api/v1/conditions"),
        Listener("node-health", ("node-health", *here, "--verdicts", folder / "verdicts", "--node", "n1"),
                 r"at (127\.0\.0\.1:\d+)", "/verdict"),
    ]  # fmt: skip
