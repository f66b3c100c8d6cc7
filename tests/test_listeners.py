"""Every command that listens: on loopback unless told, with TLS and passwords where they are given, else not at all."""

from __future__ import annotations

import argparse
import http.client
import os
import ssl
import subprocess
import sys
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from skewscope.commands import _parser

L = SimpleNamespace(**run_path(str(Path(__file__).with_name("_listening.py"))))
NAMES = ("agent", "watch", "dashboard", "up", "node-health")
FLAGS = ("listen", "agent", "dashboard")
SECRET = {"AWS_SECRET_ACCESS_KEY": "s3cret-of-the-cloud", "HTTPS_PROXY": "http://ann:s3cret-of-the-proxy@127.0.0.1:1"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return a folder, the listeners by name, and who trusts their certificate."""
    pytest.importorskip("dash")
    folder = tmp_path_factory.mktemp("guarded")
    L.guarded(folder)
    made = {one.name: one for one in L.listeners(folder)}
    try:
        for one in made.values():
            one.start(folder, {**os.environ, **SECRET})
        for one in made.values():
            one.wait()
        yield SimpleNamespace(folder=folder, listeners=made, tls=ssl.create_default_context(cafile=folder / "ca.pem"))
    finally:
        for one in made.values():
            one.process.kill()
            one.process.wait()


def actions() -> dict[str, list[argparse.Action]]:
    parsers = _parser.commands(_parser.build())
    return {name: [one for one in parser._actions if one.dest in FLAGS] for name, parser in parsers.items()}


def test_the_table_names_every_command_that_listens():
    assert {name for name, flags in actions().items() if any(one.dest == "listen" for one in flags)} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_unless_told_it_listens_on_loopback(name):
    places = [one.default for one in actions()[name]]
    assert places and all(place == "" or place.startswith("127.0.0.1:") for place in places)


@pytest.mark.parametrize("name", NAMES)
def test_with_tls_and_the_password_it_answers(site, name):
    assert site.listeners[name].status(site.tls, L.PASSWORD) == 200


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("password", ["", "wrong"])
def test_without_the_password_it_answers_401(site, name, password):
    site.listeners[name].cookies.clear()
    assert site.listeners[name].status(site.tls, password) == 401


@pytest.mark.parametrize("name", NAMES)
def test_a_client_that_does_not_know_the_authority_leaves(site, name):
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        site.listeners[name].status(ssl.create_default_context(), L.PASSWORD)


@pytest.mark.parametrize("name", NAMES)
def test_plain_http_is_refused(site, name):
    listener = site.listeners[name]
    try:
        status = listener.status(site.tls, url=listener.url.replace("https:", "http:"))
    except (OSError, http.client.HTTPException):
        return
    assert status == 400  # "this port speaks https"


def test_the_pages_of_up_are_guarded_as_its_service_is(site):
    up = site.listeners["up"]
    pages = L.Listener("dashboard", (), r"dashboard +https://(\S+?)/", "/_dash-layout", process=up.process, log=up.log)
    pages.wait()
    assert [pages.status(site.tls, password) for password in ("", "wrong", L.PASSWORD)] == [401, 401, 200]
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        pages.status(ssl.create_default_context(), L.PASSWORD)


def test_at_the_end_nothing_secret_stands_in_what_they_wrote(site):
    """The last test of this file: what they were asked, rightly and wrongly, is in their logs."""
    secret = [L.PASSWORD, "wrong", *SECRET.values(), "s3cret"]
    for name in ("web.yml", "both.pem"):
        secret += [word for word in (site.folder / name).read_text().split() if len(word) > 40 or "$2b$" in word]
    assert len(secret) > 7
    for one in site.listeners.values():
        assert one.end() == 0, one.log.read_text()[-2000:]
        said = one.log.read_text()
        assert said and not [word for word in secret if word.strip("\"'{}") in said], one.name


WORDS = {
    "agent": ("--collectors", "host-cpu", "--spool", "spool"),
    "watch": ("--scrape", "127.0.0.1:1"),
    "dashboard": (),
    "up": ("--agent", f"127.0.0.1:{L.free_port()}"),
    "node-health": ("--verdicts", "."),
}


def refused(name: str, *words: str, folder: Path) -> str:
    command = [sys.executable, "-m", "skewscope", name, *WORDS[name], *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=L.WITHIN_S)
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_refused_without_tls(name, tmp_path):
    web = L.guarded(tmp_path)
    (tmp_path / "plain.yml").write_text(web.read_text().partition("\n")[2])  # passwords alone would be read on the way
    for words in (("0.0.0.0:0",), (":0", "--web-config", "plain.yml")):
        said = refused(name, "--listen", *words, folder=tmp_path)
        assert "can be reached from other machines" in said and "allow-plain" in said
