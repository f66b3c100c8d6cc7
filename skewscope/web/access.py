"""How a server is asked: who we are, whom we trust."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from skewscope.errors import UsageError


@dataclass(frozen=True)
class Access:
    """Login and trust. Secrets stand in files, which are read again for every request: they may be changed meanwhile.

    `ca_file` holds the certificates to trust instead of the system's; `certificate_file` and `key_file` are our own;
    `headers` are sent along, as X-Scope-OrgID for Mimir.
    """

    user: str = ""
    password_file: str = ""
    bearer_token_file: str = ""
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> dict[str, str]:
        """Return the headers of a request; raises UsageError for a secret that cannot be read.

        >>> Access(headers={"X-Scope-OrgID": "gpu"}).lines()
        {'X-Scope-OrgID': 'gpu'}
        """
        found = dict(self.headers)
        if self.bearer_token_file:
            found["Authorization"] = f"Bearer {_secret(self.bearer_token_file)}"
        elif self.user:
            password = _secret(self.password_file) if self.password_file else ""
            found["Authorization"] = "Basic " + base64.b64encode(f"{self.user}:{password}".encode()).decode()
        if any(part in name + value for name, value in found.items() for part in "\r\n"):
            raise UsageError("a header for the server holds a line end: give name and value on one line")
        return found

    def tls(self) -> ssl.SSLContext:
        """Return what TLS trusts; raises UsageError for files that cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
            if self.certificate_file:
                context.load_cert_chain(self.certificate_file, self.key_file or None)
        except (OSError, ssl.SSLError) as error:
            where = self.ca_file if not self.certificate_file else f"{self.ca_file} or {self.certificate_file}"
            raise UsageError(f"{where}: no certificate that can be used: {error}") from None
        return context


def _secret(path: str) -> str:
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: the secret cannot be read: {error}") from None
