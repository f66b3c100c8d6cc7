"""Who we are to a Kubernetes API server: read from a kubeconfig, or from the service account of the pod we run in."""

from __future__ import annotations

import base64
import ssl
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import UsageError


@dataclass(frozen=True)
class Credential:
    """What proves who we are, good until `until_s` (seconds since the epoch). Certificate and key are PEM text."""

    token: str = field(default="", repr=False)
    basic: str = field(default="", repr=False)  # "user:password"
    certificate: str = ""
    key: str = field(default="", repr=False)
    until_s: float = inf


@dataclass
class Login:
    """An API server and how we prove who we are: `ask` gives a credential, and is asked again when that is spent.

    `authorities` is PEM text of the certificates to trust, "" those of the system; `server_name` the name to expect in
    the server's certificate where it is not the host's; `namespace` is the one of the context.
    """

    server: str
    ask: Callable[[], Credential] = field(repr=False)
    namespace: str = "default"
    authorities: str = ""
    server_name: str = ""
    _held: Credential | None = field(default=None, init=False, repr=False)
    _trust: tuple[Credential, ssl.SSLContext] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{self.server!r}: the address of an API server is https://HOST:PORT")

    def credential(self, now_s: float | None = None) -> Credential:
        """Return what proves who we are now; raises UsageError where it cannot be had."""
        if self._held is None or (time.time() if now_s is None else now_s) >= self._held.until_s:
            self._held = self.ask()
        return self._held

    def forget(self) -> None:
        """Ask anew next time: the server did not take what we showed."""
        self._held = None

    def headers(self) -> dict[str, str]:
        r"""Return the headers of a request; raises UsageError for a token that would be more than one header.

        >>> Login("https://h", lambda: Credential(token="abc")).headers()
        {'Authorization': 'Bearer abc'}
        """
        held = self.credential()
        if any(sign in held.token + held.basic for sign in "\r\n"):
            raise UsageError("the token for Kubernetes holds a line end")
        if held.token:
            return {"Authorization": f"Bearer {held.token}"}
        return {"Authorization": "Basic " + base64.b64encode(held.basic.encode()).decode()} if held.basic else {}

    def tls(self) -> ssl.SSLContext:
        """Return what TLS trusts and shows; raises UsageError for certificates that cannot be used."""
        held = self.credential()
        if self._trust and self._trust[0].certificate == held.certificate and self._trust[0].key == held.key:
            return self._trust[1]
        try:
            context = ssl.create_default_context(cadata=self.authorities or None)
            if held.certificate:
                _show(context, held)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise UsageError(f"{self.server}: a certificate for Kubernetes cannot be used: {error}") from None
        self._trust = (held, context)
        return context


def _show(context: ssl.SSLContext, held: Credential) -> None:
    """Load certificate and key, which Python takes from files only: they stand in a private folder for a moment."""
    with tempfile.TemporaryDirectory(prefix="skewscope-") as folder:
        file = Path(folder, "pair.pem")
        file.touch(mode=0o600)
        file.write_text(f"{held.certificate}\n{held.key}\n")
        context.load_cert_chain(file)
