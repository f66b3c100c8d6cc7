from __future__ import annotations

import socket
import ssl
from pathlib import Path
from runpy import run_path

import pytest
import trustme

from skewscope.errors import UsageError
from skewscope.web.access import Access
from skewscope.web.post import Undelivered, check, post
from skewscope.web.shown import hidden

receiver = run_path(str(Path(__file__).parents[1] / "watch" / "notify" / "_receiver.py"))["receiver"]


@pytest.fixture
def server():
    with receiver() as one:
        yield one


def refused(url: str, **kw) -> Undelivered:
    with pytest.raises(Undelivered) as caught:
        post(url, b"{}", timeout_s=kw.pop("timeout_s", 5.0), **kw)
    return caught.value


def test_a_document_arrives_with_its_key_and_login(server, tmp_path):
    (tmp_path / "token").write_text("abc\n")
    access = Access(bearer_token_file=str(tmp_path / "token"), headers={"X-Scope-OrgID": "gpu"})
    post(server.url, b'{"a": 1}', access, key="k-1")
    ((path, headers, body),) = server.seen
    assert (path, body) == ("/hook/secret", b'{"a": 1}')
    assert (headers["Content-Type"], headers["Idempotency-Key"]) == ("application/json", "k-1")
    assert (headers["Authorization"], headers["X-Scope-OrgID"]) == ("Bearer abc", "gpu")


def test_without_a_key_none_is_sent(server):
    post(server.url, b"{}")
    assert "Idempotency-Key" not in server.seen[0][1]


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_all_of_200_is_taken(server, status):
    server.answers = [(status, {}, "")]
    post(server.url, b"{}")


@pytest.mark.parametrize(
    ("status", "final"),
    [(301, True), (307, True), (400, True), (401, True), (404, True), (410, True), (413, True), (408, False),
     (425, False), (429, False), (500, False), (502, False), (503, False)],
)  # fmt: skip
def test_what_is_worth_trying_again(server, status, final):
    server.answers = [(status, {"Location": "/elsewhere"}, "so sorry")]
    error = refused(server.url)
    assert (error.final, error.after_s) == (final, 0.0)
    assert str(error) == f"status {status}: so sorry"
    assert len(server.seen) == 1  # no redirect is followed


@pytest.mark.parametrize(
    ("told", "after_s"), [("7", 7.0), ("", 0.0), ("Sat, 28 Nov 2026 21:00:00 GMT", 0.0), ("-3", 0)]
)
def test_retry_after_is_heard(server, told, after_s):
    server.answers = [(429, {"Retry-After": told}, "")]
    assert refused(server.url).after_s == after_s


def test_a_receiver_that_is_not_there_is_tried_again():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        error = refused(f"http://127.0.0.1:{one.getsockname()[1]}/secret")
    assert not error.final
    assert "ConnectionRefusedError" in str(error)
    assert "secret" not in str(error)


def test_a_receiver_that_hangs_or_breaks_off_is_tried_again(server):
    server.answers = [(0, {}, "")]
    assert not refused(server.url).final
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not refused(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_s=0.2).final


def test_a_secret_that_cannot_be_read_now_is_tried_again(server, tmp_path):
    error = refused(server.url, access=Access(bearer_token_file=str(tmp_path / "gone")))
    assert not error.final
    assert "gone" in str(error)
    assert server.seen == []


def test_certificates_are_checked(tmp_path):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with receiver(context) as server:
        post(server.url, b"{}", Access(ca_file=str(tmp_path / "ca.pem")))
        assert len(server.seen) == 1
        assert "certificate verify failed" in str(refused(server.url))


@pytest.mark.parametrize("url", ["", "h:9093", "ftp://h/x", "http://", "https:///x", "http:/h"])
def test_addresses_that_cannot_be_meant(url):
    with pytest.raises(UsageError, match="wants an address"):
        check(url)


def test_the_secret_of_an_address_is_not_shown():
    assert check("https://h:1/x?y") == "https://h:1/x?y"
    with pytest.raises(UsageError) as caught:
        check("ftp://u:pw@h/token")
    assert "pw" not in str(caught.value) and "token" not in str(caught.value)
    assert hidden("http://h:9093") == "http://h:9093"
