from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import bcrypt
import pytest
import trustme

from skewscope.errors import UsageError
from skewscope.web.access import Access
from skewscope.web.scraped import scraped

EC = trustme.KeyType.ECDSA
CA, STRANGERS = trustme.CA(key_type=EC), trustme.CA(key_type=EC)
TLS = "tls_server_config: {cert_file: web.crt, key_file: web.key}\n"
CHECKED = TLS.replace("}", ", client_ca_file: ca.crt, client_auth_type: RequireAndVerifyClientCert}")
ANN, BOB = (f"{name}: '{bcrypt.hashpw(name.encode() * 3, bcrypt.gensalt(4)).decode()}'" for name in ("ann", "bob"))
USERS = f"basic_auth_users: {{{ANN}}}\n"


@pytest.fixture
def site(tmp_path):
    """Return a folder with a pair of a common authority, what clients need, and the password of ann."""
    issue(tmp_path, "n1.example", "127.0.0.1")
    CA.cert_pem.write_to_path(tmp_path / "ca.crt")
    for name, authority in (("own", CA), ("strange", STRANGERS)):
        authority.issue_cert("prom.example", key_type=EC).private_key_and_cert_chain_pem.write_to_path(
            tmp_path / f"{name}.pem"
        )
    (tmp_path / "password").write_text("annannann\n")
    return tmp_path


def issue(folder: Path, *names: str, **more: object) -> None:
    made = CA.issue_cert(*names, key_type=EC, **more)
    made.private_key_pem.write_to_path(folder / "web.key")
    made.cert_chain_pems[0].write_to_path(folder / "web.crt")


def told(folder: Path, text: str, **files: str) -> dict[str, object]:
    (folder / "web.yml").write_text(text)
    access = Access(**{key: name if key == "user" else str(folder / name) for key, name in files.items()})
    return scraped(folder / "web.yml", access, folder)


def test_what_is_served_is_trusted_and_the_password_stays_in_its_file(site):
    assert told(site, TLS + USERS, password_file="password") == {
        "scheme": "https",
        "tls_config": {"ca_file": str(site / "web.crt"), "server_name": "n1.example"},
        "basic_auth": {"username": "ann", "password_file": str(site / "password")},
    }
    assert told(site, USERS, password_file="password")["scheme"] == "http"
    assert told(site, "") == {"scheme": "http"}


def test_files_are_named_so_that_prometheus_finds_them_from_its_own_folder(site, monkeypatch):
    monkeypatch.chdir(site)
    (site / "web.yml").write_text(TLS + USERS)
    made = scraped(Path("web.yml"), Access(password_file="password"), site)
    assert made["tls_config"]["ca_file"] == str(site / "web.crt")
    assert made["basic_auth"]["password_file"] == str(site / "password")


@pytest.mark.parametrize(
    ("names", "name"),
    [(("127.0.0.1",), "127.0.0.1"), (("*.example",), "skewscope.example"), (("::1",), "0:0:0:0:0:0:0:1")],
)
def test_it_asks_for_a_name_that_the_certificate_has(site, names, name):
    issue(site, *names)
    assert told(site, TLS)["tls_config"]["server_name"] == name


def test_a_certificate_in_the_configuration_itself_is_written_for_the_owner_alone(site):
    pems = {name: (site / f"web.{name}").read_text().replace("\n", "\n    ") for name in ("crt", "key")}
    text = f"tls_server_config:\n  cert: |\n    {pems['crt']}\n  key: |\n    {pems['key']}\n"
    written = Path(told(site, text)["tls_config"]["ca_file"])
    assert written.parent == site and stat.S_IMODE(written.stat().st_mode) == 0o600
    assert "BEGIN CERTIFICATE" in written.read_text()


def test_a_client_certificate_is_passed_on(site):
    made = told(site, CHECKED, certificate_file="own.pem")["tls_config"]
    assert (made["cert_file"], made["key_file"]) == (str(site / "own.pem"), str(site / "own.pem"))
    assert told(site, CHECKED.replace("client_auth", "client_allowed_sans: [prom.example], client_auth"),
                certificate_file="own.pem")  # fmt: skip


@pytest.mark.parametrize(
    ("text", "files", "says"),
    [
        (TLS + USERS, {}, "only hashes of passwords; give --password-file FILE with the password of ann"),
        (USERS.replace("}", f", {BOB}}}"), {"password_file": "password"}, "and --user, one of ann, bob"),
        (USERS, {"password_file": "web.key"}, "that is not the password of ann"),
        (USERS, {"password_file": "password", "user": "eve"}, "that is not the password of eve"),
        (USERS, {"password_file": "gone"}, "wants a file"),
        (CHECKED, {}, "give --cert-file and --key-file"),
        (CHECKED, {"certificate_file": "strange.pem"}, "not trusted"),
        (CHECKED.replace("client_auth", "client_allowed_sans: [eve], client_auth"), {"certificate_file": "own.pem"},
         "none of its names is in client_allowed_sans"),
    ],
    ids=["no password", "no user", "other password", "other user", "no file", "no certificate", "strange", "name"],
)  # fmt: skip
def test_what_would_be_refused_later_is_said_now(site, text, files, says):
    with pytest.raises(UsageError, match="Prometheus could not read what .*web.yml guards: ") as refused:
        told(site, text, **files)
    assert says in str(refused.value)
    assert "annannann" not in str(refused.value)


def test_a_certificate_without_a_host_or_out_of_date_is_said_now(site):
    issue(site, "ann@example.org")
    with pytest.raises(UsageError, match="names no host"):
        told(site, TLS)
    issue(site, "n1.example", not_before=datetime(2020, 1, 1, tzinfo=UTC), not_after=datetime(2020, 1, 2, tzinfo=UTC))
    with pytest.raises(UsageError, match="certificate has expired"):
        told(site, TLS)
