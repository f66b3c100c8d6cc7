from __future__ import annotations

import base64
import logging
import os
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import bcrypt
import pytest
import trustme

from skewscope.errors import UsageError
from skewscope.web import _tls as tls_module
from skewscope.web import server as server_module
from skewscope.web.web_config import WebConfig

http = SimpleNamespace(**run_path(str(Path(__file__).with_name("_http.py"))))
BODY, GET, DEADLINE_S, pages = http.BODY, http.GET, http.DEADLINE_S, http.pages
serving, connect, read_reply, until_end, wait_for = (
    http.serving, http.connect, http.read_reply, http.until_end, http.wait_for,
)  # fmt: skip
EC = trustme.KeyType.ECDSA
CA, STRANGERS = trustme.CA(key_type=EC), trustme.CA(key_type=EC)
PAIR = "cert_file: agent.crt, key_file: agent.key"
CHECKED = f"{PAIR}, client_ca_file: ca.crt, client_auth_type: RequireAndVerifyClientCert"


def issue(folder: Path, ca: trustme.CA = CA) -> None:
    made = ca.issue_cert("localhost", key_type=EC)
    made.private_key_pem.write_to_path(str(folder / "agent.key"))
    made.cert_chain_pems[0].write_to_path(str(folder / "agent.crt"))


@pytest.fixture
def write(tmp_path: Path):
    """Return a function: tls_server_config as YAML, and the rest, to the path of a file; certificates lie beside it."""
    issue(tmp_path)
    CA.cert_pem.write_to_path(str(tmp_path / "ca.crt"))

    def written(tls: str, rest: str = "") -> Path:
        path = tmp_path / "web.yml"
        path.write_text(f"tls_server_config: {{{tls}}}\n{rest}\n")
        return path

    return written


def trusting(ca: trustme.CA = CA, client: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    if client:
        client.configure_cert(context)
    return context


def spoken(server, context: ssl.SSLContext, data: bytes = GET):
    """Return the reply, or raise what the client meets."""
    with context.wrap_socket(connect(server), server_hostname="localhost") as sock:
        sock.sendall(data)
        return read_reply(sock)


def refused(server, context: ssl.SSLContext) -> bool:
    try:
        return not spoken(server, context)
    except (OSError, EOFError):
        return True


def test_a_scrape_over_tls(write):
    with serving(web_config=write(PAIR)) as server:
        with trusting().wrap_socket(connect(server), server_hostname="localhost") as sock:
            assert sock.version() == "TLSv1.3"
            for _ in range(2):
                sock.sendall(GET)
                assert read_reply(sock)[2] == BODY
            sock.sendall(GET.replace(b"GET", b"BREW"))
            assert until_end(sock).startswith(b"HTTP/1.1 405 ")
        with pytest.raises(ssl.SSLCertVerificationError):
            spoken(server, ssl.create_default_context())


def test_the_end_of_a_connection_is_signed(write):
    with serving(web_config=write(PAIR)) as server:
        sock = trusting().wrap_socket(connect(server), server_hostname="localhost", suppress_ragged_eofs=False)
        with sock:
            sock.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            assert read_reply(sock)[0] == 200
            assert sock.recv(1) == b""


def test_with_tls_all_addresses_may_be_served(write):
    with serving(":0", web_config=write(PAIR)) as server:
        port = server.address[1]
        with socket.create_connection(("127.0.0.1", port)) as plain:
            with trusting().wrap_socket(plain, server_hostname="localhost") as sock:
                sock.sendall(GET)
                assert read_reply(sock)[0] == 200


def test_passwords_without_tls_do_not_open_the_network(tmp_path: Path):
    path = tmp_path / "web.yml"
    path.write_text("basic_auth_users: {prom: '" + bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode() + "'}")
    with pytest.raises(UsageError, match="--web-config with tls_server_config"):
        server_module.Server(":0", pages, web_config=path).start()


def test_passwords_headers_and_limits_reach_the_client(write):
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
    rest = f"basic_auth_users: {{prom: '{hashed}'}}\nhttp_server_config: {{headers: {{X-Frame-Options: deny}}}}\n"
    counted = []
    path = write(PAIR, rest + "rate_limit: {interval: 1h, burst: 2}")
    with serving(web_config=path, on_reply=lambda *reply: counted.append(reply)) as server:
        status, headers, body, _ = spoken(server, trusting())
        assert (status, body) == (401, b"401 Unauthorized\n")
        assert headers["www-authenticate"].startswith("Basic realm=") and headers["x-frame-options"] == "deny"
        login = b"Authorization: Basic " + base64.b64encode(b"prom:right") + b"\r\n\r\n"
        assert spoken(server, trusting(), GET[:-2] + login)[2] == BODY
        assert spoken(server, trusting(), GET[:-2] + login)[0] == 429
    assert counted == [("/metrics", 401), ("/metrics", 200), ("/metrics", 429)]


def test_plain_speech_to_a_tls_port_is_answered_plainly(write):
    with serving(web_config=write(PAIR)) as server, connect(server) as sock:
        sock.sendall(GET)
        answer = until_end(sock)
        assert answer.startswith(b"HTTP/1.1 400 ") and b"this port speaks https" in answer


def test_a_handshake_that_stalls_is_cut_off_and_holds_up_nobody(write):
    with serving(web_config=write(PAIR), header_timeout_s=0.5, max_connections=2) as server:
        with connect(server) as stalled:
            stalled.sendall(b"\x16\x03\x01")
            assert spoken(server, trusting())[0] == 200
            begun_s = time.monotonic()
            assert until_end(stalled) == b""
            assert time.monotonic() - begun_s < 3.0
        with connect(server) as garbage:
            garbage.sendall(b"\x16\x03\x01" + bytes(100))
            until_end(garbage)
        assert spoken(server, trusting())[0] == 200


def test_beyond_the_cap_a_tls_client_is_just_ended(write):
    with serving(web_config=write(PAIR), max_connections=1) as server, connect(server) as first:
        wait_for(lambda: len(server._open) == 1)
        with connect(server) as second:
            assert until_end(second) == b""
        first.close()


def test_certificates_rotate_without_a_restart(write, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with serving(web_config=write(PAIR)) as server:
        assert spoken(server, trusting())[0] == 200
        kept = (tmp_path / "agent.crt").read_bytes()
        STRANGERS.issue_cert("localhost", key_type=EC).cert_chain_pems[0].write_to_path(str(tmp_path / "agent.crt"))
        assert spoken(server, trusting())[0] == spoken(server, trusting())[0] == 200  # its key is not there yet
        assert caplog.text.count("stays as it was") == 1
        issue(tmp_path, STRANGERS)
        assert spoken(server, trusting(STRANGERS))[0] == 200
        assert refused(server, trusting())
        os.unlink(tmp_path / "agent.key")
        assert spoken(server, trusting(STRANGERS))[0] == 200
        issue(tmp_path)
        assert (tmp_path / "agent.crt").read_bytes() != kept
        assert spoken(server, trusting())[0] == 200


def test_tls_is_not_switched_off_while_it_runs(write, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with serving(web_config=write(PAIR)) as server:
        (tmp_path / "web.yml").write_text("{}")
        assert spoken(server, trusting())[0] == 200
        assert "needs a restart" in caplog.text


def client(*names: str, ca: trustme.CA = CA) -> trustme.LeafCert:
    return ca.issue_cert(*(names or ("prometheus.example",)), key_type=EC)


def test_only_clients_of_the_authority_come_in(write):
    with serving(web_config=write(CHECKED)) as server:
        assert spoken(server, trusting(client=client()))[0] == 200
        assert refused(server, trusting())
        assert refused(server, trusting(client=client(ca=STRANGERS)))


@pytest.mark.parametrize("kind", ["RequireAnyClientCert", "RequireClientCert"])
def test_any_certificate_still_means_one_of_the_authority(write, kind: str):
    with serving(web_config=write(f"{PAIR}, client_ca_file: ca.crt, client_auth_type: {kind}")) as server:
        assert spoken(server, trusting(client=client()))[0] == 200
        assert refused(server, trusting()) and refused(server, trusting(client=client(ca=STRANGERS)))


def test_a_certificate_that_need_not_be_given_must_be_right(write):
    how = f"{PAIR}, client_ca_file: ca.crt, client_auth_type: VerifyClientCertIfGiven, client_allowed_sans: [good]"
    with serving(web_config=write(how)) as server:
        assert spoken(server, trusting())[0] == 200
        assert spoken(server, trusting(client=client("good")))[0] == 200
        assert refused(server, trusting(client=client("bad")))
        assert refused(server, trusting(client=client("good", ca=STRANGERS)))


@pytest.mark.parametrize("kind", ["NoClientCert", "RequestClientCert"])
def test_where_nothing_is_checked_nothing_is_asked(write, kind: str):
    with serving(web_config=write(f"{PAIR}, client_auth_type: {kind}")) as server:
        assert spoken(server, trusting())[0] == 200
        assert spoken(server, trusting(client=client(ca=STRANGERS)))[0] == 200


@pytest.mark.parametrize("name", ["prom.example", "10.0.0.9", "2001:db8::9", "ops@example.org"])
def test_only_the_named_clients_come_in(write, name: str):
    with serving(web_config=write(f"{CHECKED}, client_allowed_sans: [other, '{name}']")) as server:
        assert spoken(server, trusting(client=client("x.example", name)))[0] == 200
        assert refused(server, trusting(client=client("x.example")))
        assert refused(server, trusting(client=client("sub.prom.example", "10.0.0.90", "dev.ops@example.org")))


@pytest.mark.parametrize(
    ("tls", "told"),
    [
        ("cert_file: agent.crt, key_file: ca.crt", "cannot use .*agent.crt and .*ca.crt as certificate and key"),
        ("cert_file: none.crt, key_file: agent.key", "none.crt .*No such file"),
        (f"{PAIR}, client_ca_file: ca.crt", "set RequireAndVerifyClientCert"),
        (f"{PAIR}, client_allowed_sans: [a]", "set RequireAndVerifyClientCert"),
        (f"{PAIR}, client_ca_file: ca.crt, client_auth_type: RequestClientCert, client_allowed_sans: [a]", "nobody's"),
        (f"{PAIR}, client_auth_type: RequireAndVerifyClientCert", "wants client_ca_file"),
        (f"{PAIR}, client_auth_type: RequireAnyClientCert", "wants client_ca_file"),
        (f"{PAIR}, client_auth_type: Maybe", "'Maybe' is unknown; there is NoClientCert"),
        (f"{CHECKED.replace('ca.crt', 'agent.key')}", "agent.key holds no certificate"),
        (f"{CHECKED.replace('ca.crt', 'none.crt')}", "none.crt"),
        (f"{PAIR}, min_version: TLS14", "min_version: 'TLS14' is unknown; there is TLS10"),
        (f"{PAIR}, min_version: TLS13, max_version: TLS12", "TLS13 is above max_version TLS12"),
        (f"{PAIR}, cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]", "cipher_suites: 'TLS_RSA_WITH_RC4_128_SHA' is unknown"),
        (f"{PAIR}, curve_preferences: [P-256]", "curve_preferences: 'P-256' is unknown; there is CurveP256"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_told(write, tls: str, told: str):
    with pytest.raises(UsageError, match=told):
        WebConfig(write(tls))


def test_a_key_with_a_passphrase_is_refused_without_asking(write, tmp_path: Path):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((tmp_path / "agent.key").read_bytes(), None)
    form, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked = key.private_bytes(form, pkcs8, serialization.BestAvailableEncryption(b"locked"))
    (tmp_path / "agent.key").write_bytes(locked)
    with pytest.raises(UsageError, match="passphrase"):
        WebConfig(write(PAIR))


def limited(**how: object) -> ssl.SSLContext:
    context = trusting()
    for name, value in how.items():
        setattr(context, name, value)
    return context


def test_versions_ciphers_and_curves_are_kept_to(write):
    suites = "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256]"
    path = write(f"{PAIR}, {suites}, max_version: TLS12, curve_preferences: [CurveP384]")
    with serving(web_config=path) as server:
        with trusting().wrap_socket(connect(server), server_hostname="localhost") as sock:
            assert sock.version() == "TLSv1.2" and sock.cipher()[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
        other = trusting()
        other.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        assert refused(server, other)
        curve = trusting()
        curve.set_ecdh_curve("prime256v1")
        assert refused(server, curve)
    with serving(web_config=write(f"{PAIR}, min_version: TLS13, curve_preferences: [X25519, CurveP256]")) as server:
        assert refused(server, limited(maximum_version=ssl.TLSVersion.TLSv1_2))
        assert spoken(server, trusting())[0] == 200


def test_below_tls_1_2_nobody_comes_in_by_default(write):
    old = limited()
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with serving(web_config=write(PAIR)) as server:
        assert refused(server, old)


def test_every_cipher_name_is_known_to_openssl():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for name in filter(None, tls_module.CIPHERS.values()):
        context.set_ciphers(name)
        assert name in {one["name"] for one in context.get_ciphers()}


def test_the_server_may_choose_the_cipher_or_leave_it(write):
    for prefers, chosen in ((True, "ECDHE-ECDSA-AES256-GCM-SHA384"), (False, "ECDHE-ECDSA-AES128-GCM-SHA256")):
        suites = ", ".join(f"TLS_ECDHE_ECDSA_WITH_AES_{one}" for one in ("256_GCM_SHA384", "128_GCM_SHA256"))
        path = write(f"{PAIR}, max_version: TLS12, cipher_suites: [{suites}], prefer_server_cipher_suites: {prefers}")
        asking = trusting()
        asking.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
        with serving(web_config=path) as server:
            with asking.wrap_socket(connect(server), server_hostname="localhost") as sock:
                assert sock.cipher()[0] == chosen


def test_certificates_may_stand_in_the_file(tmp_path: Path):
    made = CA.issue_cert("localhost", key_type=EC)
    pems = {"cert": made.cert_chain_pems[0], "key": made.private_key_pem, "client_ca": CA.cert_pem}
    indented = {name: pem.bytes().decode().replace("\n", "\n    ") for name, pem in pems.items()}
    text = "".join(f"  {name}: |\n    {pem}\n" for name, pem in indented.items())
    path = tmp_path / "web.yml"
    path.write_text(f"tls_server_config:\n  client_auth_type: RequireAndVerifyClientCert\n{text}")
    with serving(web_config=path) as server:
        assert spoken(server, trusting(client=client()))[0] == 200
        assert refused(server, trusting())


def test_tls_over_a_unix_socket(write, tmp_path: Path):
    with serving(f"unix:{tmp_path}/agent.sock", web_config=write(PAIR)) as server:
        assert spoken(server, trusting())[0] == 200


def test_stopping_sends_nothing_in_clear(write):
    with serving(web_config=write(PAIR)) as server:
        with trusting().wrap_socket(connect(server), server_hostname="localhost") as sock:
            sock.sendall(GET)
            assert read_reply(sock)[0] == 200
            begun_s = time.monotonic()
            server.stop()
            assert time.monotonic() - begun_s < 1.0
            assert sock.recv(1) == b""


def test_refused_clients_are_no_news(write, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO), serving(web_config=write(CHECKED)) as server:
        assert refused(server, trusting())
    assert not caplog.records


def test_without_a_file_nothing_of_it_is_imported():
    code = """
import sys
before = set(sys.modules)
from skewscope.web.server import Server
Server("127.0.0.1:0", print).start()
print(*{"ssl", "yaml", "bcrypt", "hashlib", "asyncio", "http.server", "email"} & (set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert done.stdout.split() == []
