"""How Prometheus is to read pages behind a web configuration: by which scheme, whom it trusts, as whom it asks."""

from __future__ import annotations

import os
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

from skewscope.errors import UsageError

from . import _tls, _web_file
from ._login import Login
from ._web_file import Tls
from .access import Access

ROUNDS = 8  # of a handshake; it takes three


def scraped(web_config: Path, access: Access, folder: Path) -> dict[str, object]:
    """Return `scheme`, `tls_config` and `basic_auth` of a scrape_config; raises UsageError where it would be refused.

    Only the certificate that is served is trusted, from its own file: a new one counts as soon as it is served. A
    password stays in the file of `access`. A certificate that stands in the configuration itself is written to
    `folder`, for the owner alone.
    """
    web = _web_file.read(web_config)
    made: dict[str, object] = {"scheme": "https" if web.tls else "http"}
    try:
        if web.tls:
            made["tls_config"] = _tls_config(web.tls, access, folder)
        if web.users:
            made["basic_auth"] = _basic_auth(web.users, access)
    except UsageError as error:
        raise UsageError(f"Prometheus could not read what {web_config} guards: {error}") from None
    return made


def _basic_auth(users: Any, access: Access) -> dict[str, str]:  # noqa: ANN401 - names and hashes
    user = access.user or (next(iter(users)) if len(users) == 1 else "")
    if not user or not access.password_file:
        whose = f"of {user}" if user else f"and --user, one of {', '.join(users)}"
        raise UsageError(f"it holds only hashes of passwords; give --password-file FILE with the password {whose}")
    if not Path(access.password_file).is_file():
        raise UsageError(f"--password-file {access.password_file}: wants a file that can be read again and again")
    told = replace(access, user=user, bearer_token_file="").lines()["Authorization"]
    if Login(users).status(told) != 200:
        raise UsageError(f"--password-file {access.password_file}: that is not the password of {user}")
    return {"username": user, "password_file": os.path.abspath(access.password_file)}


def _tls_config(tls: Tls, access: Access, folder: Path) -> dict[str, str]:
    served = tls.cert if isinstance(tls.cert, Path) else _written(tls.cert, folder / "served.pem")
    made = {"ca_file": os.path.abspath(served), "server_name": _name(_shown(tls, access, served))}
    if access.certificate_file:
        made["cert_file"] = os.path.abspath(access.certificate_file)
        made["key_file"] = os.path.abspath(access.key_file or access.certificate_file)
    return made


def _written(text: str, path: Path) -> Path:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # the key may stand in the same text
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(text)
    return path


def _name(certificate: Any) -> str:  # noqa: ANN401 - a dict of many shapes
    """Return a name that a certificate, as the ssl module shows it, is good for; raises UsageError.

    >>> _name({"subjectAltName": (("IP Address", "127.0.0.1"), ("DNS", "*.example"))})
    'skewscope.example'
    """
    found = dict(reversed(certificate.get("subjectAltName", ())))
    name = str(found.get("DNS") or found.get("IP Address") or "")
    if not name:
        raise UsageError("its certificate names no host (subjectAltName), and without one Prometheus trusts none")
    return name.replace("*", "skewscope", 1)


def _shown(tls: Tls, access: Access, served: Path) -> Any:  # noqa: ANN401 - a dict of many shapes
    """Return the certificate that a client sees who trusts just what is served; raises UsageError for one it refuses.

    Server and client agree in memory: all that they would find amiss later is found before either is there.
    """
    server_side = _tls.context(tls)
    client_side = replace(access, ca_file=str(served)).tls()
    client_side.check_hostname = False  # it gets the name that we are about to read
    client_side.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    try:
        for _ in range(ROUNDS):
            _step(client)
            _step(server)
    except ssl.SSLCertVerificationError as error:
        raise UsageError(f"a certificate is not trusted: {error.verify_message}") from None
    except ssl.SSLError as error:
        mend = "" if access.certificate_file else "; give --cert-file and --key-file if it asks who comes"
        raise UsageError(f"TLS fails: {error.reason}{mend}") from None
    if not _tls.is_allowed(server.getpeercert(), tls.client_allowed_sans):
        raise UsageError(f"--cert-file {access.certificate_file}: none of its names is in client_allowed_sans")
    return client.getpeercert()


def _step(side: ssl.SSLObject) -> None:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        pass  # the other side is to speak
