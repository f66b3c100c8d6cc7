"""Acts posted to a receiver: signed, known again, tried again, and never sent by a dry run."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from runpy import run_path

import pytest
import trustme

from skewscope.actuators._asked import asked
from skewscope.actuators.webhook import Webhook, signature
from skewscope.errors import SkewscopeError, UsageError

nasty = run_path(str(Path(__file__).with_name("_nasty.py")))
request, record, clean = nasty["request"], nasty["record"], nasty["clean"]


class Handler(BaseHTTPRequestHandler):
    """A scheduler that takes acts by POST, shows its fleet by GET, and answers as a test says."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.headers, body))
        status, headers, text = self.server.answers.pop(0) if self.server.answers else (200, {}, "ok")
        told = json.loads(body)
        if status == 200 and told["event"] == "act":
            self.server.fences[told["node"]] = told["reason"]
        if status == 200 and told["event"] == "undo":
            self.server.fences.pop(told["node"], None)
        self.answer(status, headers, text)

    def do_GET(self):
        fences = self.server.fences
        nodes = [{"name": n, "schedulable": n not in fences, "reason": fences.get(n, "")} for n in ("n1", "n2")]
        if self.path == "/fleet":
            self.answer(200, {}, json.dumps({"schema": "skewscope.fleet/1", "nodes": nodes}))
        elif self.path == "/moved":
            self.answer(302, {"Location": "/fleet"}, "")
        else:
            self.answer(404 if self.path == "/none" else 200, {}, "<html>")

    def answer(self, status: int, headers: dict, text: str):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@contextmanager
def serving(tls=None):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.seen, server.answers, server.fences = [], [], {}
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server():
    with serving() as one:
        yield one


@pytest.fixture
def hook(server, tmp_path: Path) -> Webhook:
    (tmp_path / "secret").write_text("s3cret\n")
    return Webhook(url=f"{server.url}/T0/token", secret_file=str(tmp_path / "secret"), fleet_url=f"{server.url}/fleet")


def send(hook: Webhook, made):
    command = hook.command(made, hook.look())
    return command, hook.apply(command, dry_run=False)


def test_an_act_arrives_signed_and_is_known_again(server, hook: Webhook):
    made = request(job='j"1', params={"evict": True})
    command, outcome = send(hook, made)
    assert outcome.result == "done" and hook.apply(command, dry_run=False).result == "done"
    (headers, body), (again, same) = server.seen
    assert headers["Idempotency-Key"] == again["Idempotency-Key"] == "a1" and body == same
    told = json.loads(body)
    assert (told["schema"], told["event"], told["verb"], told["node"]) == ("skewscope.act/1", "act", "drain", "n1")
    assert clean(told["reason"]) and told["params"] == {"evict": True} and told == dict(command.steps[0].body)
    signed = headers["X-Skewscope-Timestamp"].encode() + b"." + body
    assert headers["X-Skewscope-Signature"] == "sha256=" + hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()


def test_undo_restores_the_former_state(server, hook: Webhook):
    seeing = Webhook(url=hook.url, fleet_url=f"{server.url}/fleet")
    server.fences["n2"] = "ops: bad fan"
    before = seeing.look().nodes
    command, _ = send(seeing, request())
    told = record(request(), dict(command.undo))
    node = seeing.look().nodes["n1"]
    assert (node.ours, node.schedulable, seeing.holds(told, seeing.look())) == (True, False, True)
    assert seeing.apply(seeing.undo(told, seeing.look()), dry_run=False).result == "done"
    assert seeing.look().nodes == before and seeing.holds(told, seeing.look()) is False
    assert [headers["Idempotency-Key"] for headers, _ in server.seen] == ["a1", "a1/undo"]
    again = seeing.undo(told, seeing.look())
    assert again.nothing and seeing.apply(again, dry_run=False).result == "nothing"


def test_a_node_fenced_by_somebody_else_is_left_alone(server, hook: Webhook):
    seeing = Webhook(url=hook.url, fleet_url=f"{server.url}/fleet")
    server.fences["n1"] = "ops: bad fan"
    assert "bears a mark of ops: bad fan" in seeing.command(request(), seeing.look()).refused
    assert seeing.undo(record(request(), {}), seeing.look()).refused
    assert server.seen == []


def test_a_dry_run_posts_nothing(server, hook: Webhook, tmp_path: Path):
    command = hook.command(request(), hook.look())
    assert hook.apply(command).result == "done" and server.seen == []
    (tmp_path / "secret").write_text("")
    assert hook.apply(command).result == "failed"
    (tmp_path / "secret").unlink()
    assert hook.apply(command).result == hook.apply(command, dry_run=False).result == "failed" and server.seen == []


@pytest.mark.parametrize(
    ("answer", "result", "after_s"),
    [((503, {}, "busy"), "waiting", 30.0), ((429, {"Retry-After": "7"}, ""), "waiting", 7.0),
     ((403, {}, "no"), "refused", 0.0), ((302, {"Location": "/x"}, ""), "refused", 0.0), ((202, {}, ""), "done", 0.0)],
)  # fmt: skip
def test_answers(server, hook: Webhook, answer, result: str, after_s: float):
    server.answers = [answer]
    _, outcome = send(hook, request())
    assert (outcome.result, outcome.after_s, len(server.seen)) == (result, after_s, 1)


def test_a_receiver_that_is_away_is_tried_again_and_its_address_is_not_told():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        hook = Webhook(url=f"http://127.0.0.1:{one.getsockname()[1]}/T0/token", nodes=("n1",))
        command, outcome = send(hook, request("ticket"))
    assert outcome.result == "waiting" and "token" not in outcome.detail + str(command.steps[0].words)


@pytest.mark.parametrize("name", nasty["NAMES"])
def test_a_node_that_is_not_listed_is_refused(server, hook: Webhook, name: str):
    _, outcome = send(hook, request(target=name))
    assert outcome.result == "refused" and server.seen == []


def test_without_a_fleet_or_memory_nothing_lasting_is_sent(server):
    hook = Webhook(url=server.url, nodes=("n1",))
    assert "fleet_url, or memory" in hook.command(request(), hook.look()).refused
    told = record(request("note"), {})
    assert hook.holds(told, hook.look()) is None and not hook.undo(told, hook.look()).nothing


def test_memory_stands_in_for_a_fleet(server, tmp_path: Path):
    hook = Webhook(url=server.url, nodes=("n[1-2]",), memory=str(tmp_path))
    before = hook.look().nodes
    command, _ = send(hook, request())
    told, node = record(request(), dict(command.undo)), hook.look().nodes["n1"]
    assert (node.ours, node.schedulable, hook.holds(told, hook.look())) == (True, False, True)
    assert hook.apply(hook.undo(told, hook.look()), dry_run=False).result == "done"
    assert hook.look().nodes == before and server.fences == {}
    server.answers = [(503, {}, "")]
    send(hook, request())
    assert hook.look().nodes == before


def test_over_tls_with_a_token(tmp_path: Path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "token").write_text("abc")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with serving(context) as server:
        trusting = {"ca_file": str(tmp_path / "ca.pem"), "bearer_token_file": str(tmp_path / "token")}
        hook = Webhook(url=server.url, fleet_url=f"{server.url}/fleet", **trusting)
        assert send(hook, request())[1].result == "done"
        assert server.seen[0][0]["Authorization"] == "Bearer abc"
        with pytest.raises(SkewscopeError, match="CERTIFICATE"):
            Webhook(url=server.url, fleet_url=f"{server.url}/fleet").look()


@pytest.mark.parametrize("path", ["moved", "page"])
def test_what_is_no_fleet_is_an_error(server, path: str):
    with pytest.raises(SkewscopeError):
        Webhook(fleet_url=f"{server.url}/{path}").look()
    assert asked(f"{server.url}/none") is None


def test_an_address_must_be_one():
    hook = Webhook(url="file:///etc/passwd", nodes=("n1",))
    assert "http" in hook.command(request("note"), hook.look()).refused
    with pytest.raises(UsageError):
        Webhook(fleet_url="n1").look()


def test_the_signature_depends_on_everything():
    made = {signature(key, body, at) for key in (b"a", b"b") for body in (b"1", b"2") for at in (1, 2)}
    assert len(made) == 8
