"""TLS out of `tls_server_config`: its names are those of Go, its engine here is OpenSSL."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skewscope.errors import UsageError

from ._reply import head, said
from ._web_file import Tls

if TYPE_CHECKING:
    import ssl

VERSIONS = {"TLS10": "TLSv1", "TLS11": "TLSv1_1", "TLS12": "TLSv1_2", "TLS13": "TLSv1_3"}
CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
NEVER_ASKED = ("NoClientCert", "RequestClientCert")
AUTH_TYPES = (*NEVER_ASKED, "VerifyClientCertIfGiven", "RequireAnyClientCert", "RequireAndVerifyClientCert")
CIPHERS = {  # those of TLS 1.3 cannot be chosen, neither in Go
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",  # these four without forward secrecy: older Go took them
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
}


def context(tls: Tls) -> ssl.SSLContext:
    """Return the server's side of TLS; raises UsageError that names the key."""
    import ssl

    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    made.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # a request cut short is noticed by its parser
    made.num_tickets = 0  # scrapers keep their connection instead
    try:
        _set_versions(made, tls)
        _set_ciphers(made, tls)
        _load_pair(made, tls)
        _set_client_auth(made, tls)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise UsageError(f"tls_server_config: {getattr(error, 'reason', None) or error}") from error
    return made


def _chosen(table: dict[str, str], key: str, name: str) -> str:
    if name not in table:
        raise UsageError(f"tls_server_config.{key}: {name!r} is unknown; there is {', '.join(table)}")
    return table[name]


def _set_versions(made: ssl.SSLContext, tls: Tls) -> None:
    import ssl
    import warnings

    least = ssl.TLSVersion[_chosen(VERSIONS, "min_version", tls.min_version)]
    most = ssl.TLSVersion[_chosen(VERSIONS, "max_version", tls.max_version)]
    if least > most:
        raise UsageError(f"tls_server_config: min_version {tls.min_version} is above max_version {tls.max_version}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the operator asked for an old version by name
        made.minimum_version, made.maximum_version = least, most


def _set_ciphers(made: ssl.SSLContext, tls: Tls) -> None:
    import ssl

    suites = [name for one in tls.cipher_suites if (name := _chosen(CIPHERS, "cipher_suites", one))]
    if suites:
        made.set_ciphers(":".join(suites))
    if tls.prefer_server_cipher_suites:
        made.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        made.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    curves = [_chosen(CURVES, "curve_preferences", one) for one in tls.curve_preferences]
    many: Any = getattr(made, "set_groups", None)  # not before Python 3.15
    if curves and many:
        many(":".join(curves))
    elif len(curves) == 1:
        made.set_ecdh_curve(curves[0])


def _load_pair(made: ssl.SSLContext, tls: Tls) -> None:
    with ExitStack() as stack:
        cert, key = (stack.enter_context(_as_file(one)) for one in (tls.cert, tls.key))
        try:
            made.load_cert_chain(cert, key, password=_no_password)
        except OSError as error:
            names = " and ".join(str(one) for one in (tls.cert, tls.key) if isinstance(one, Path)) or "cert and key"
            reason = getattr(error, "reason", None) or error.strerror or error
            raise UsageError(f"tls_server_config: cannot use {names} as certificate and key: {reason}") from error


def _no_password() -> str:
    raise UsageError("tls_server_config: the key has a passphrase, and there is nobody to ask; give one without")


@contextmanager
def _as_file(pem: Path | str) -> Iterator[str]:
    """Yield a file name for a PEM: OpenSSL reads files only, and a key belongs on no disk."""
    if isinstance(pem, Path):
        yield str(pem)
        return
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _set_client_auth(made: ssl.SSLContext, tls: Tls) -> None:
    """Set who may come in. OpenSSL checks every certificate it asks for, so no type is weaker here than in Go."""
    import ssl

    kind = "RequireAnyClientCert" if tls.client_auth_type == "RequireClientCert" else tls.client_auth_type
    if kind not in AUTH_TYPES:
        raise UsageError(f"tls_server_config.client_auth_type: {kind!r} is unknown; there is {', '.join(AUTH_TYPES)}")
    if tls.client_ca is None and kind not in NEVER_ASKED:
        raise UsageError(
            f"tls_server_config: client_auth_type {kind} wants client_ca_file, for a certificate of nobody in "
            "particular proves nothing"
        )
    if kind in NEVER_ASKED and (tls.client_allowed_sans or (tls.client_ca and kind == "NoClientCert")):
        raise UsageError(
            f"tls_server_config: with client_auth_type {kind} nobody's certificate is checked, though client_ca or "
            "client_allowed_sans asks for it; set RequireAndVerifyClientCert"
        )
    if kind in NEVER_ASKED:
        return
    if isinstance(tls.client_ca, Path):
        _load_authorities(made, tls.client_ca.read_text("ascii", "ignore"), str(tls.client_ca))
    else:
        _load_authorities(made, tls.client_ca or "", "client_ca")
    made.verify_mode = ssl.CERT_OPTIONAL if kind == "VerifyClientCertIfGiven" else ssl.CERT_REQUIRED


def _load_authorities(made: ssl.SSLContext, text: str, name: str) -> None:
    import ssl

    try:
        made.load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise UsageError(f"tls_server_config: {name} holds no certificate in PEM form") from error


def shaken(sock: ssl.SSLSocket, allowed_names: tuple[str, ...]) -> bool:
    """Agree on TLS within the socket's timeout and return whether the client is let in; raises OSError."""
    import ssl

    try:
        sock.do_handshake()
    except ssl.SSLError as error:
        if error.reason == "HTTP_REQUEST":  # spoken plainly, it is answered plainly
            reply = said(400)
            plain = reply.body + b"this port speaks https\n"
            reply = type(reply)(400, reply.content_type, plain)
            socket.socket.send(sock, head(reply, connection="close") + reply.body)
        raise
    return not allowed_names or is_allowed(sock.getpeercert(), allowed_names)


def is_allowed(shown: Any, allowed_names: tuple[str, ...]) -> bool:  # noqa: ANN401 - a dict of many shapes
    """Return whether the certificate of a client, as the ssl module shows it, has a name that is allowed."""
    return not (shown and allowed_names) or bool(names(shown) & {_plain(one) for one in allowed_names})


def names(certificate: Any) -> set[str]:  # noqa: ANN401 - a dict of many shapes
    """Return the alternative names of a certificate as the ssl module shows it.

    >>> names({"subjectAltName": (("DNS", "prom"), ("IP Address", "0:0:0:0:0:0:0:1"))}) == {"prom", "::1"}
    True
    """
    kinds = ("DNS", "IP Address", "email", "URI")
    return {_plain(name) for kind, name in certificate.get("subjectAltName", ()) if kind in kinds}


def _plain(name: str) -> str:
    """Return a name with an IPv6 address in its short form."""
    try:
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, name.strip()))
    except OSError:
        return name


def taken_leave(sock: ssl.SSLSocket) -> None:
    """Tell the client that nothing more comes, without waiting for its answer."""
    try:
        sock.settimeout(0)
        sock.unwrap()
    except (OSError, ValueError):
        pass  # most often: the client has not answered yet
