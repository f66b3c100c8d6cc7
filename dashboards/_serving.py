"""Puts a dashboard together from what the command line says: source, guard, audit, server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from skewscope.errors import UsageError
from skewscope.web.web_config import WebConfig

from ._acts import Audit
from ._security import LOOPBACK, Guard, networks
from ._server import Server, exposed, parsed
from ._sources import Source
from .app import Dashboard


class Options(Protocol):
    """What the command line gives."""

    listen: str
    web_config: Path | None
    web_allow_plain: bool
    auth_header: str
    trusted_proxy: Sequence[str]
    external_url: str
    operators: Sequence[str]
    audit: Path | None


class Serving:
    """A source, its dashboard and its server; raises UsageError for what cannot be."""

    def __init__(self, source: Source, options: Options) -> None:
        guard = guarded(options)
        audit = Audit(options.audit) if options.audit else None
        self.source, self.dashboard = source, Dashboard(source, guard, audit)
        self._server = Server(
            self.dashboard.server, options.listen, web=guard.web, allow_plain=options.web_allow_plain,
            guarded=guard.signing_in or bool(guard.auth_header),
        )  # fmt: skip

    def start(self) -> None:
        """Bind, then begin to refresh; what takes longest to make is made before the first visitor asks."""
        self._server.start()
        self.source.start(self.dashboard.warm)

    @property
    def address(self) -> str:
        """Where it listens, as a URL."""
        return self._server.address

    def run(self) -> None:
        """Serve until `stop`."""
        self._server.run()

    def stop(self) -> None:
        """End serving and refreshing."""
        self.source.stop()
        self._server.stop()


def guarded(options: Options) -> Guard:
    """Return the guard that the options mean."""
    web = WebConfig(options.web_config) if options.web_config else None
    host, _ = parsed(options.listen)
    if bool(options.auth_header) != bool(options.trusted_proxy):
        raise UsageError("--auth-header and --trusted-proxy go together: who tells the name, and who may tell it")
    named = urlsplit(options.external_url)
    if options.external_url and (named.scheme not in ("http", "https") or not named.hostname):
        raise UsageError(f"--external-url {options.external_url!r}: give one as https://ops.example")
    anywhere = exposed(host) or bool(options.auth_header)
    return Guard(
        web, options.auth_header, networks(options.trusted_proxy), frozenset(options.operators),
        frozenset() if anywhere else LOOPBACK | {host}, options.external_url,
        (web is not None and web.tls) or named.scheme == "https",
    )  # fmt: skip
