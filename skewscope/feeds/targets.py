"""Which agents are scraped: a list, or a file that may change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from skewscope.errors import UsageError

from ..web.shown import without_login

PORTS = {"http": 80, "https": 443}
FORM = "give [NODE=]HOST:PORT or [NODE=]http[s]://HOST:PORT/PATH"


@dataclass(frozen=True)
class Target:
    """One page to ask for; `node` is whose it is where the page does not say, or whatever it says if it was `named`."""

    node: str
    host: str
    port: int
    path: str = "/metrics"
    secure: bool = False
    named: bool = False

    @property
    def url(self) -> str:
        """Return the address of the page."""
        return f"http{'s' * self.secure}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """Return host and port as they stand in an address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def target(text: str) -> Target:
    """Return the target that a text means; raises UsageError for one that means none.

    A node without a name has that of its host; two targets of one host are one node, so agents that share a host need
    names.

    >>> target("n1=10.0.0.7:9400").url, target("https://gpu7:9400/m").node, target("[::1]:9400").authority
    ('http://10.0.0.7:9400/metrics', 'gpu7', '[::1]:9400')
    """
    shown = without_login(text)
    name, equals, rest = text.strip().partition("=")
    if not equals or "/" in name or "?" in name:
        name, rest = "", text.strip()
    scheme = "http" if "://" not in rest else rest.partition("://")[0].lower()
    try:
        parts = urlsplit(rest if "://" in rest else f"//{rest}")
        host, port = parts.hostname or "", parts.port
    except ValueError:  # its text holds what stands where a port should, which may be a password
        raise UsageError(f"target {shown!r} is no address: {FORM}") from None
    if not host or scheme not in PORTS or not (port or "://" in rest) or parts.username is not None:
        raise UsageError(f"target {shown!r} is no address: {FORM}")
    path = (parts.path or "/metrics") + (f"?{parts.query}" if parts.query else "")
    if not (rest.isascii() and rest.isprintable()) or " " in rest:
        raise UsageError(f"target {shown!r} holds what an address must not: {FORM}")
    return Target(name or host, host, port or PORTS[scheme], path, scheme == "https", bool(name))


def parse(texts: Iterable[str]) -> tuple[Target, ...]:
    """Return targets in order, each once; texts may hold several with commas, `#` begins a comment.

    >>> [one.port for one in parse(["a:1,a:2", "", "# b:3", "a:1"])]
    [1, 2]
    """
    single = (part.strip() for text in texts for part in text.partition("#")[0].split(","))
    return tuple(dict.fromkeys(target(part) for part in single if part))


class Targets:
    """The targets of a list or, for a single `@FILE` or path of a file, of its lines."""

    def __init__(self, given: Iterable[str]) -> None:
        texts = list(given)
        name = texts[0].removeprefix("@") if len(texts) == 1 else ""
        self.file = Path(name) if name and (texts[0].startswith("@") or Path(name).is_file()) else None
        self._stamp = (-1, -1)
        self._known = () if self.file else parse(texts)

    def now(self) -> tuple[tuple[Target, ...], str]:
        """Return the targets and what is wrong with their file, "" for nothing: then the last good ones stay."""
        if self.file is None:
            return self._known, ""
        try:
            found = self.file.stat()
            stamp = (found.st_mtime_ns, found.st_size)
            if stamp != self._stamp:
                self._known, self._stamp = parse(self.file.read_text("utf-8").splitlines()), stamp
        except (OSError, UnicodeDecodeError, UsageError) as error:
            return self._known, f"{self.file}: {error}"
        return self._known, ""
