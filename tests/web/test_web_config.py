from __future__ import annotations

import base64
import os
import threading
from pathlib import Path

import bcrypt
import pytest

from skewscope.errors import UsageError
from skewscope.web import _login as login_module
from skewscope.web import _web_file as file_module
from skewscope.web.web_config import WebConfig

HASHED = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
OTHER = bcrypt.hashpw(b"other", bcrypt.gensalt(4)).decode()


@pytest.fixture
def write(tmp_path: Path):
    """Return a function: text to the path of the configuration file, a new file each time."""

    def written(text: str) -> Path:
        path = tmp_path / "web.yml"
        path.with_suffix(".new").write_text(text)
        os.replace(path.with_suffix(".new"), path)
        return path

    return written


def basic(user: str, password: str | bytes) -> dict[str, str]:
    secret = password if isinstance(password, bytes) else password.encode()
    return {"authorization": "Basic " + base64.b64encode(user.encode() + b":" + secret).decode()}


@pytest.mark.parametrize("text", ["", "{}", "basic_auth_users:\nhttp_server_config: {headers: }\ntls_server_config:\n"])
def test_an_empty_file_lets_all_in(write, text: str):
    config = WebConfig(write(text))
    assert (config.tls, config.lines, config.admitted({})) == (False, "", 200)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tls_server_confg: {}", "tls_server_confg is no setting; did you mean tls_server_config?"),
        ("x: {}", "x is no setting; there is tls_server_config"),
        ("tls_server_config: {cert_fil: a}", "tls_server_config.cert_fil is no setting; did you mean cert_file?"),
        ("tls_server_config: {key_file: a}", "cert_file is missing"),
        ("tls_server_config: {cert_file: a}", "key_file is missing"),
        ("tls_server_config: {min_version: TLS12}", "cert_file is missing"),
        ("tls_server_config: {cert_file: a, cert: b, key_file: c}", "both cert and cert_file"),
        ("tls_server_config: {cert_file: [a], key_file: c}", "cert_file: wanted a text, got list"),
        ("tls_server_config: {client_allowed_sans: [1]}", "client_allowed_sans: wanted a list of texts"),
        ("tls_server_config: {prefer_server_cipher_suites: 1}", "wanted true or false, got int"),
        ("tls_server_config: 1", "tls_server_config: wanted a table, got int"),
        ("http_server_config: {headers: {X-Powered-By: us}}", "X-Powered-By is no setting"),
        ("http_server_config: {headers: {X-Frame-Options: some}}", "wanted deny or sameorigin, got 'some'"),
        ('http_server_config: {headers: {X-XSS-Protection: "1\\r\\nSet-Cookie: x"}}', "one line of ASCII"),
        ("rate_limit: {interval: 1s}", "rate_limit.burst: wanted 1 to 1,000,000,000"),
        (f"rate_limit: {{burst: 1{'0' * 400}}}", "rate_limit.burst: wanted 1 to 1,000,000,000"),
        ('\nbasic_auth_users: {"\\ud83d": x}', "line 2: a text with half a character or a NUL"),
        ('tls_server_config: {cert_file: "a\\0b"}', "line 1: a text with half a character or a NUL"),
        ("rate_limit: {interval: fast, burst: 1}", "wanted a time as 1s or 500ms, got 'fast'"),
        ("rate_limit: {interval: 10, burst: 1}", "rate_limit.interval: wanted a text, got int"),
        ("rate_limit: {interval: 1s, burst: true}", "burst: wanted a whole number, got bool"),
        ("basic_auth_users: [a]", "basic_auth_users: wanted a table"),
        ("basic_auth_users: {'a:b': x}", "without a colon"),
        ("basic_auth_users: {1: x}", "can be no user; give a text in quotes"),
        ("basic_auth_users: {a: x}\nbasic_auth_users: {}", "basic_auth_users stands twice"),
        ("basic_auth_users: {a: x, a: y}", "a stands twice"),
        ("- a", "wanted a table with tls_server_config"),
        ("a: b: c", "line 1: no valid YAML"),
        ("!!python/object/apply:os.system [id]", "no valid YAML"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_told_with_its_place(write, text: str, told: str):
    with pytest.raises(UsageError) as caught:
        WebConfig(write(text))
    assert told in str(caught.value) and "web.yml" in str(caught.value)


def test_a_missing_or_binary_file_is_told(tmp_path: Path):
    with pytest.raises(UsageError, match=r"none\.yml: No such file"):
        WebConfig(tmp_path / "none.yml")
    (tmp_path / "web.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="it is not UTF-8"):
        WebConfig(tmp_path / "web.yml")


@pytest.mark.parametrize(
    "secret", ["hunter2", "$2y$10$short", "$2y$99$" + "e" * 53, "$2y$03$" + "e" * 53, "$2y$10$" + "a" * 53]
)
def test_a_wrong_hash_names_its_user_and_is_not_shown(write, secret: str):
    with pytest.raises(UsageError) as caught:
        WebConfig(write(f"basic_auth_users: {{prom: '{secret}'}}"))
    assert "basic_auth_users.prom: wanted a bcrypt hash" in str(caught.value)
    assert secret not in str(caught.value)


def test_secrets_are_in_no_text(write):
    path = write(f"basic_auth_users:\n  prom: '{HASHED}'\n   bad: '{OTHER}'\n")
    with pytest.raises(UsageError) as caught:
        WebConfig(path)
    assert "$2b$" not in str(caught.value)
    key = "tls_server_config: {cert: PUBLIC, key: SECRET}\nbasic_auth_users: {prom: '" + HASHED + "'}"
    shown = repr(file_module.read(write(key)))
    assert "PUBLIC" in shown and "SECRET" not in shown and HASHED not in shown


def test_headers_are_kept_and_empty_ones_left_out(write):
    headers = "{X-Frame-Options: deny, X-Content-Type-Options: nosniff, X-XSS-Protection: 0}"
    config = WebConfig(
        write(f"http_server_config: {{http2: false, headers: {headers[:-1]}, Content-Security-Policy: ''}}}}")
    )
    assert config.lines == "X-Frame-Options: deny\r\nX-Content-Type-Options: nosniff\r\nX-XSS-Protection: 0\r\n"


def test_http2_is_told_to_be_missing(write, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("INFO"):
        WebConfig(write("http_server_config: {http2: true}"))
    assert "HTTP/2 is not spoken" in caplog.text


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch):
    """Return the list of hashes that bcrypt was asked about."""
    asked, real = [], bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", lambda password, hashed: asked.append(hashed) or real(password, hashed))
    return asked


def test_the_right_password_is_checked_once(write, checks: list[bytes]):
    config = WebConfig(write(f"basic_auth_users: {{prom: '{HASHED}', other: '{OTHER}'}}"))
    assert [config.admitted(basic("prom", "right")) for _ in range(5)] == [200] * 5
    assert checks == [HASHED.encode()]
    assert config.admitted(basic("other", "right")) == config.admitted(basic("prom", "other")) == 401
    assert config.admitted(basic("other", "other")) == 200


def test_a_wrong_password_costs_one_check_however_often_it_comes(write, checks: list[bytes]):
    config = WebConfig(write(f"basic_auth_users: {{prom: '{HASHED}'}}"))
    assert [config.admitted(basic("prom", "wrong")) for _ in range(5)] == [401] * 5
    assert len(checks) == 1


def test_an_unknown_user_costs_as_much_as_a_known_one(write, checks: list[bytes]):
    config = WebConfig(write(f"basic_auth_users: {{prom: '{HASHED}'}}"))
    assert config.admitted(basic("nobody", "right")) == 401
    assert len(checks) == 1 and checks[0] != HASHED.encode()
    assert checks[0][:7] == HASHED.encode()[:7] and len(checks[0]) == 60


@pytest.mark.parametrize("field", ["", "Basic", "Basic !!!", "Basic cHJvbQ==", "Bearer cHJvbTpyaWdodA==", "basic é"])
def test_what_is_no_password_is_refused_without_a_check(write, checks: list[bytes], field: str):
    config = WebConfig(write(f"basic_auth_users: {{prom: '{HASHED}'}}"))
    assert config.admitted({"authorization": field}) == 401
    assert not checks


def test_odd_passwords_are_compared_as_bcrypt_does(write):
    long = b"x" * 72
    hashed = bcrypt.hashpw(long, bcrypt.gensalt(4)).decode()
    as_htpasswd = hashed.replace("$2b$", "$2y$")
    config = WebConfig(write(f"basic_auth_users: {{long: '{as_htpasswd}', prom: '{HASHED}', ü: '{OTHER}'}}"))
    assert config.admitted(basic("long", long + b"and more")) == 200
    assert config.admitted(basic("prom", b"right\x00x")) == 401
    assert config.admitted(basic("prom", b"\xff\xfe")) == 401
    assert config.admitted(basic("ü", "other")) == 200
    assert config.admitted(basic("prom", "")) == 401


def test_only_one_check_runs_at_a_time(monkeypatch: pytest.MonkeyPatch):
    running, most, gate = 0, 0, threading.Barrier(4)

    def check(password: bytes, hashed: bytes) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        threading.Event().wait(0.01)
        running -= 1
        return False

    monkeypatch.setattr(bcrypt, "checkpw", check)
    login = login_module.Login({"prom": HASHED})

    def enter(at: int) -> None:
        gate.wait()
        login.status(basic("prom", f"guess {at}")["authorization"])

    threads = [threading.Thread(target=enter, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_who_waits_too_long_for_a_check_is_put_off(monkeypatch: pytest.MonkeyPatch, checks: list[bytes]):
    monkeypatch.setattr(login_module, "PATIENCE_S", 0.01)
    login = login_module.Login({"prom": HASHED})
    with login._one_check:
        assert login.status(basic("prom", "right")["authorization"]) == 503
    assert login.status(basic("prom", "right")["authorization"]) == 200
    with login._one_check:  # who is known does not wait
        assert login.status(basic("prom", "right")["authorization"]) == 200


def test_what_is_kept_of_refusals_is_bounded_and_holds_no_password(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bcrypt, "checkpw", lambda password, hashed: False)
    login = login_module.Login({"prom": HASHED})
    for at in range(login_module.REFUSED_KEPT + 50):
        login.status(basic("prom", f"guess {at}")["authorization"])
    assert len(login._refused) == login_module.REFUSED_KEPT
    assert not any(b"guess" in mark for mark in login._refused)
    assert login._mark(b"a", b"h", b"p") != login_module.Login({})._mark(b"a", b"h", b"p")


def test_users_come_and_go_while_it_runs(write):
    path = write(f"basic_auth_users: {{prom: '{HASHED}'}}")
    config = WebConfig(path)
    assert config.admitted(basic("prom", "right")) == 200
    write(f"basic_auth_users: {{prom: '{OTHER}'}}")
    assert config.admitted(basic("prom", "right")) == 401
    assert config.admitted(basic("prom", "other")) == 200
    write(f"basic_auth_users: {{new: '{HASHED}'}}")
    assert config.admitted(basic("prom", "other")) == 401
    assert config.admitted(basic("new", "right")) == 200
    write("{}")
    assert config.admitted({}) == 200


@pytest.mark.parametrize("broken", ["basic_auth_users: {prom: x}", "a: b: c", "tls_server_config: {cert_file: none}"])
def test_a_broken_new_version_keeps_the_old_and_is_told_once(write, caplog: pytest.LogCaptureFixture, broken: str):
    config = WebConfig(write(f"basic_auth_users: {{prom: '{HASHED}'}}"))
    path = write(broken)
    assert [config.admitted({}) for _ in range(3)] == [401] * 3
    assert config.admitted(basic("prom", "right")) == 200
    assert len(caplog.records) == 1 and "stays as it was" in caplog.text and HASHED not in caplog.text
    path.unlink()
    assert config.admitted({}) == 401
    write("{}")
    assert config.admitted({}) == 200


def test_the_rate_limit_is_a_token_bucket(write):
    now_s = 0.0
    config = WebConfig(write("rate_limit: {interval: 500ms, burst: 2}"), clock_s=lambda: now_s)
    assert [config.admitted({}) for _ in range(3)] == [200, 200, 429]
    now_s = 0.49
    assert config.admitted({}) == 429
    now_s = 0.51
    assert [config.admitted({}) for _ in range(2)] == [200, 429]
    write("rate_limit: {interval: 500ms, burst: 2}\nhttp_server_config: {}")
    assert config.admitted({}) == 429, "reading the file again filled the bucket"
    now_s = 100.0
    assert [config.admitted({}) for _ in range(3)] == [200, 200, 429]
    write("rate_limit: {interval: 0, burst: 0}")
    assert {config.admitted({}) for _ in range(9)} == {200}


@pytest.mark.parametrize(("text", "seconds"), [("1s", 1), ("1h2m3s", 3723), ("1.5ms", 0.0015), ("0", 0), ("9us", 9e-6)])
def test_durations_are_read_as_go_writes_them(text: str, seconds: float):
    assert file_module._seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "1", "1 s", "-1s", "1d", "1s1"])
def test_other_durations_are_refused(text: str):
    with pytest.raises(UsageError, match="wanted a time"):
        file_module._seconds(text)
