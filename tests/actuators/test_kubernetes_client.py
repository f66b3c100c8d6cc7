"""What becomes of requests where the server is slow, away, busy, forgetful or lies; and of writes that lose a race."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

from skewscope.actuators._kubernetes_client import MANAGER, Client, NoAnswer, Refusal
from skewscope.actuators._kubernetes_login import Credential, Login
from skewscope.actuators.kubernetes import Kubernetes
from skewscope.errors import SkewscopeError, UsageError

WORLDS = run_path(str(Path(__file__).parent / "kubernetes" / "_world.py"))
own = WORLDS["own"]


def test_a_token_that_ended_is_replaced_once(own: Any) -> None:
    tokens = iter(["old", "secret-7", "never"])
    client = Client(Login(own.client.login.server, lambda: Credential(token=next(tokens))))
    assert client.get("/api/v1/namespaces/default")["metadata"]["name"] == "default"
    wrong = Client(Login(own.client.login.server, lambda: Credential(token="wrong")))
    with pytest.raises(Refusal, match="Kubernetes: 401 Unauthorized"):
        wrong.get("/api/v1/nodes")
    with pytest.raises(UsageError, match="line end"):
        Login("https://h", lambda: Credential(token="a\r\nX: y")).headers()


def test_secrets_are_in_no_representation() -> None:
    held = Credential("secret-7", "u:secret-7", "cert", "secret-7")
    client = Client(Login("https://h", lambda: held))
    client.login.credential()
    assert "secret-7" not in repr(client) + repr(held) + repr(client.login)


def test_a_list_is_read_in_pages(own: Any) -> None:
    for number in range(1_203):
        name = f"n{number:04}"
        own.inside.objects["nodes", "", name] = {
            "metadata": {"name": name, "uid": name, "resourceVersion": "1"},
            "spec": {},
        }
    assert len(own.kubernetes.look().nodes) == 1_203


def test_what_may_not_be_listed_makes_the_fleet_incomplete(own: Any) -> None:
    own.node()
    own.inside.forbidden.add(("GET", "pods"))
    fleet = own.kubernetes.look()
    assert not fleet.complete and not fleet.nodes["n1"].idle
    gone = {"act": "a1", "undo": {"parts": [{"kind": "node", "node": "n9", "uid": "u", "verb": "drain"}]}}
    assert own.kubernetes.holds(gone, fleet) is None
    assert "cannot be seen now" in own.kubernetes.undo(gone | {"verb": "drain", "target": "n9"}, fleet).refused
    own.inside.forbidden = {("GET", "jobs")}
    assert not own.kubernetes.look().complete
    own.inside.forbidden = {("GET", "nodes")}
    with pytest.raises(SkewscopeError, match="403 Forbidden: nodes is forbidden"):
        own.kubernetes.look()


def test_a_right_that_lacks_fails_the_act_and_says_so(own: Any) -> None:
    name = own.node()
    own.inside.forbidden.add(("PATCH", "nodes"))
    outcome = own.do(own.command("drain", name))
    assert outcome.result == "failed" and "the identity of skewscope lacks this right" in outcome.detail
    own.inside.forbidden = {("POST", "events")}
    outcome = own.do(own.command("drain", name))
    assert outcome.result == "done" and "no event: Kubernetes: 403" in outcome.detail


@pytest.mark.parametrize(
    ("code", "result", "after_s"),
    [(429, "waiting", 7.0), (503, "waiting", 7.0), (500, "failed", 0.0), (422, "failed", 0.0)],
)
def test_a_server_that_is_busy_is_asked_again_later(own: Any, code: int, result: str, after_s: float) -> None:
    name = own.node()
    command = own.command("drain", name)

    def busy(method: str, where: str) -> None:
        raise WORLDS["SERVER"]["No"](code, "Busy", "not\nnow", 7)

    own.inside.before_write = busy
    outcome = own.kubernetes.apply(command, dry_run=False)
    assert (outcome.result, outcome.after_s) == (result, 7.0 * (result == "waiting")) and "not now" in outcome.detail


def test_a_write_that_lost_a_race_is_made_again_from_a_fresh_look(own: Any) -> None:
    name = own.node()
    command = own.command("drain", name)
    rounds: list[str] = []

    def heartbeat(method: str, where: str) -> None:
        if method == "PATCH" and where == f"/api/v1/nodes/{name}" and len(rounds) < own.inside.races:
            rounds.append(where)
            own.inside.objects["nodes", "", name]["metadata"]["resourceVersion"] = own.inside.number()

    own.inside.before_write, own.inside.races = heartbeat, 2
    assert own.do(command).result == "done" and len(rounds) == 2
    own.inside.races = 99
    outcome = own.do(own.undo(command))
    assert outcome.result == "conflict" and "nothing was forced" in outcome.detail and len(rounds) == 5


def test_a_foreign_taint_put_in_the_very_moment_is_never_lost(own: Any) -> None:
    name = own.node()
    command = own.command("drain", name)

    def taint(method: str, where: str) -> None:
        node = own.inside.objects["nodes", "", name]
        if method == "PATCH" and len(node["spec"]["taints"]) == 1:
            node["spec"]["taints"] = [*node["spec"]["taints"], {"key": "bob", "effect": "NoExecute"}]
            node["metadata"]["resourceVersion"] = own.inside.number()

    own.inside.before_write = taint
    outcome = own.do(command)
    assert outcome.result == "conflict" and "bob:NoExecute" in outcome.detail
    assert [one["key"] for one in own.raw(name)["spec"]["taints"]] == ["nvidia.com/gpu", "bob"]


def answering(said: bytes, *, close: bool = True) -> tuple[str, threading.Event]:
    """Return the address of a server that says the same to everybody, and what ends it."""
    listener, stop = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def run() -> None:
        held = []
        while not stop.is_set():
            sock, _ = listener.accept()
            sock.recv(65536)
            sock.sendall(said)
            if close:
                sock.close()
            held.append(sock)

    threading.Thread(target=run, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}", stop


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (b"", "no answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "no answer: IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\noops", "no JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "no object"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://evil\r\nContent-Length: 0\r\n\r\n", "Kubernetes: 302"),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 12\r\n\r\n<html>nginx>", "Kubernetes: 502: <html>nginx>"),
        (b"gibberish\r\n\r\n", "no answer: BadStatusLine"),
    ],
)
def test_a_server_that_talks_nonsense_is_an_error_in_one_line(said: bytes, says: str) -> None:
    address, stop = answering(said)
    with pytest.raises(SkewscopeError, match=says) as caught:
        Client(Login(address, Credential), timeout_s=2.0).get("/api/v1/nodes")
    assert "\n" not in str(caught.value)
    stop.set()


def test_a_server_that_does_not_answer_in_time_or_at_all_fails(own: Any) -> None:
    name = own.node()
    command = own.command("drain", name)
    address, stop = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", close=False)
    with pytest.raises(NoAnswer, match="TimeoutError"):
        Client(Login(address, Credential), timeout_s=0.1).get("/api/v1/nodes")
    stop.set()
    own.client.login.server = "http://127.0.0.1:9"
    outcome = own.kubernetes.apply(command, dry_run=False)
    assert outcome.result == "failed" and "ConnectionRefusedError" in outcome.detail
    with pytest.raises(SkewscopeError, match="no answer"):
        own.kubernetes.look()


def test_a_login_that_is_lost_meanwhile_fails_the_act(own: Any) -> None:
    name = own.node()
    command = own.command("drain", name)
    lost = Kubernetes(kubeconfig="/none")
    assert lost.apply(command).result == "failed" and MANAGER == "skewscope"
