from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from skewscope.web.web_config import WebConfig

pytest.importorskip("dash")
made = run_path(str(Path(__file__).with_name("_served.py")))
served, body, View, Guard, Audit = (
    made["served"],
    made["body"],
    made["View"],
    made["security"].Guard,
    made["acts"].Audit,
)
POST, HASH = "/_dash-update-component", bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
RECOMMENDED = {
    "id": "r1", "for": ["f1"], "planner": "batch", "action": "<b>reweight</b>", "params": {}, "cost": "none",
    "predicted": {"step_time_ratio": 0.8, "gpu_hours_saved": 1.0, "confidence": 0.8}, "risk": "small",
}  # fmt: skip
KEY = "k" * 20


def advising() -> object:
    view = View(id="one", title="made up")
    return replace(view, report={**view.report, "recommendations": [RECOMMENDED]})


@pytest.fixture
def web(tmp_path):
    path = tmp_path / "web.yml"
    path.write_text(f"basic_auth_users:\n  ann: {HASH}\n  bob: {HASH}\n")
    return WebConfig(path)


@pytest.fixture
def audit(tmp_path):
    return Audit(tmp_path / "decisions.jsonl", clock_ns=lambda: 1)


@pytest.fixture
def local(audit):
    """Return a client of an operator on the machine itself."""
    client, _ = served(advising(), Guard(operators=frozenset({"local"})), audit)
    return client


def sign_in(client, name="ann", password="right"):
    return client.post("/login", data={"name": name, "password": password})


def form(client, action="approve", **changes):
    """Return a form as the page of its confirmation offers it."""
    page = client.get(f"/act/{action}?recommendation=r1")
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text))
    return {**fields, "reason": "because", **changes}


def lines(audit) -> list[dict]:
    return [json.loads(line) for line in audit.path.read_text().splitlines()]


def test_every_reply_forbids_what_no_page_needs():
    client, _ = served()
    for path in ("/", "/nothing", "/login", "/export/maps/same.csv", "/assets/dashboard.js"):
        headers = client.get(path).headers
        policy = headers["Content-Security-Policy"]
        scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
        assert "unsafe" not in scripts, path
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"


def test_without_signing_in_nothing_is_shown(web):
    client, _ = served(guard=Guard(web))
    assert client.get("/").headers["Location"] == "/login"
    for path in (
        "/export/maps/same.csv",
        "/_dash-layout",
        "/_dash-dependencies",
        "/assets/dashboard.js",
        "/act/approve",
    ):
        assert client.get(path).status_code in (302, 401), path
    assert client.post(POST, json=body()).status_code == 401
    assert client.post("/act/approve", data={}).status_code == 401


def test_the_right_password_opens_and_signing_out_closes(web):
    client, _ = served(guard=Guard(web))
    assert sign_in(client, password="wrong").status_code == 401
    cookie = sign_in(client).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert client.get("/").status_code == 200
    token = re.search(r'value="([0-9a-f]{64})"', client.get("/logout").text)[1]
    assert client.post("/logout", data={"csrf": "x"}).status_code == 403
    assert client.post("/logout", data={"csrf": token}).status_code == 303
    assert client.get("/").status_code == 302


def test_with_tls_the_cookie_is_secure(web):
    client, _ = served(guard=Guard(web, secure=True))
    assert "Secure" in sign_in(client).headers["Set-Cookie"]


def test_who_is_taken_off_the_file_is_out_at_once(web, tmp_path):
    client, _ = served(guard=Guard(web))
    sign_in(client)
    assert client.get("/").status_code == 200
    (tmp_path / "web.yml").write_text(f"basic_auth_users:\n  bobby: {HASH}\n")
    assert client.get("/").status_code == 302


def test_too_many_wrong_passwords_must_wait(web):
    client, _ = served(guard=Guard(web))
    codes = [sign_in(client, password=f"wrong{one}").status_code for one in range(10)]
    assert codes[:8] == [401] * 8
    assert codes[8:] == [429] * 2
    assert sign_in(client).status_code == 429  # the right one too


@pytest.mark.parametrize("headers", [{"Origin": "http://evil"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}])
def test_posts_of_other_sites_are_refused(local, headers, audit):
    assert local.post(POST, json=body(), headers=headers).status_code == 403
    assert local.post("/act/approve", data=form(local), headers=headers).status_code == 403
    assert local.post("/login", data={}, headers=headers).status_code == 403
    assert not lines(audit)


def test_posts_of_the_own_pages_are_taken(local):
    own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert local.post(POST, json=body(), headers=own).status_code == 200


def test_a_name_that_is_pointed_here_is_refused():
    client, _ = served()
    assert client.get("/", headers={"Host": "rebound.evil"}).status_code == 400
    assert client.get("/", headers={"Host": "127.0.0.1:8790"}).status_code == 200


def test_a_proxy_says_who_asks_and_nobody_else_may():
    guard = Guard(auth_header="X-Remote-User", proxies=(ipaddress.ip_network("10.0.0.0/8"),), hosts=frozenset(),
                  operators=frozenset({"ann"}))  # fmt: skip
    client, _ = served(advising(), guard)
    said = {"X-Remote-User": "ann"}
    assert client.get("/", headers=said, environ_base={"REMOTE_ADDR": "10.1.2.3"}).status_code == 200
    assert client.get("/", environ_base={"REMOTE_ADDR": "10.1.2.3"}).status_code == 401
    assert client.get("/", headers=said, environ_base={"REMOTE_ADDR": "192.168.0.1"}).status_code == 401


def test_a_decision_is_written_down_once(local, audit):
    asked = form(local)
    assert local.post("/act/approve", data=asked).status_code == 303
    assert local.post("/act/approve", data=asked).status_code == 303  # the same key again
    (told,) = lines(audit)
    assert told == {
        "schema": "skewscope.decision/1", "time_ns": 1, "key": asked["key"], "person": "local", "decision": "approve",
        "recommendation": "r1", "findings": ["f1"], "action": "<b>reweight</b>", "reason": "because",
    }  # fmt: skip
    assert local.post("/act/snooze", data=form(local, "snooze", **{"for": "8 hours"})).status_code == 303
    assert lines(audit)[1]["seconds"] == 28_800


def test_decisions_outlive_a_restart(local, audit):
    asked = form(local)
    local.post("/act/approve", data=asked)
    with open(audit.path, "a") as file:
        file.write('{"half a line')
    again = Audit(audit.path)
    assert [one["key"] for one in again.latest()] == [asked["key"]]
    assert not again.record(asked["key"], {})


def test_pages_know_the_decisions(audit):
    client, source = served(advising(), Guard(operators=frozenset({"local"})), audit)
    dashboard = made["app"].Dashboard(source, None, audit, {"why": made["Why"]()})
    before = dashboard.view()
    client.post("/act/reject", data=form(client, "reject"))
    after = dashboard.view()
    assert after.id != before.id
    assert [one["decision"] for one in after.decisions] == ["reject"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"csrf": ""}, 403), ({"csrf": "0" * 64}, 403), ({"csrf": "\u00e9"}, 403), ({"reason": " "}, 400),
        ({"reason": "x" * 501}, 400), ({"key": "short"}, 400), ({"key": "../../etc/passwd_______"}, 400),
        ({"recommendation": "r2"}, 404), ({"recommendation": ""}, 404),
    ],
)  # fmt: skip
def test_a_form_that_does_not_fit_is_refused(local, audit, changes, status):
    assert local.post("/act/approve", data=form(local, **changes)).status_code == status
    assert not lines(audit)


def test_there_is_nothing_else_to_do(local, audit):
    assert local.post("/act/destroy", data=form(local)).status_code == 404
    assert local.post("/act/snooze", data=form(local, "snooze", **{"for": "ever"})).status_code == 400
    assert not lines(audit)


def test_a_viewer_sees_no_forms_and_may_not_act(web, audit):
    client, _ = served(advising(), Guard(web, operators=frozenset({"ann"})), audit)
    sign_in(client, "ann")
    asked = form(client)
    assert "/act/approve" in json.dumps(made["shown"](client))
    sign_in(client, "bob")
    assert "/act/approve" not in json.dumps(made["shown"](client))
    assert client.get("/act/approve?recommendation=r1").status_code == 403
    assert client.post("/act/approve", data=asked).status_code == 403
    sign_in(client, "ann")
    assert client.post("/act/approve", data=asked).status_code == 403  # the token is of the old session
    assert not lines(audit)


def test_a_script_in_a_name_stays_text(local):
    page = local.get("/act/approve?recommendation=r1").text
    assert "<b>reweight" not in page
    assert "&lt;b&gt;reweight" in page


def test_a_file_that_cannot_be_written_refuses_the_decision(local, audit, monkeypatch):
    asked = form(local)
    audit.path.unlink()
    audit.path.mkdir()
    assert local.post("/act/approve", data=asked).status_code == 503


WRONG = [
    b"", b"{", b"[]", b"null", b'"x"', b"{}", b'{"output":1}', b'{"output":"page.children","inputs":[]}',
    b'{"output":"x.y","outputs":{"id":"x","property":"y"},"inputs":[{}],"changedPropIds":[]}', b"\xff\xfe",
    json.dumps({**body(), "inputs": []}).encode(), json.dumps({**body(), "inputs": [1, 2, 3, 4]}).encode(),
    json.dumps({**body(), "outputs": "x"}).encode(), json.dumps({**body(), "state": 7}).encode(),
    json.dumps({**body(), "changedPropIds": 5}).encode(), b"[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
def test_malformed_bodies_are_the_senders_fault(wrong):
    client, _ = served()
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
        assert 400 <= client.post(POST, data=wrong, content_type=kind).status_code < 500


def test_values_of_any_kind_do_no_harm():
    client, _ = served()
    for wrong in (1, [], {}, None, True, "\x00", {"key": []}, "x" * 10_000, {"map": {"xaxis": [1]}}):
        for name in ("path", "search", "sent", "seen", "theme"):
            reply = client.post(POST, json=body(**{name: wrong}))
            assert reply.status_code in (200, 204), (name, wrong)
        for changed in ({"relayout": wrong}, {"relayout": {"xaxis.range": wrong}}, {"path": wrong}, {"name": wrong}):
            reply = client.post(POST, json=made["zoom_body"](**{"relayout": {"xaxis.autorange": True}, **changed}))
            assert reply.status_code < 500, changed


values = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False) | some.text(max_size=9),
    lambda part: some.lists(part, max_size=4) | some.dictionaries(some.text(max_size=9), part, max_size=4),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(some.sampled_from(["output", "outputs", "inputs", "state", "changedPropIds"]), values)
def test_no_body_is_answered_with_500(name, value):
    assert CLIENT.post(POST, json={**body(), name: value}).status_code < 500


CLIENT = served()[0]


def test_what_is_too_large_is_refused():
    client, _ = served()
    assert client.post(POST, data=b"x" * 600_000, content_type="application/json").status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../_security.py", "/assets/..%2f_security.py", "/assets/report.py", "/_reload-hash/../x", "/act/",
        "/_dash-component-suites/os/path.py", "/_dash-component-suites/dash/../../flask/app.py", "/%00", "/a" * 3000,
    ],
)  # fmt: skip
def test_paths_lead_nowhere_else(path):
    client, _ = served()
    assert client.get(path).status_code in (301, 302, 308, 400, 404, 405, 414)
