"""The servers that were named: do they answer, and as what they are taken for."""

from __future__ import annotations

import json
import ssl
import urllib.error
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from ..web.access import Access
from ..web.opened import opened
from ..web.shown import without_login
from .answer import Answer

TIMEOUT_S = 5.0
MOST_BYTES = 1 << 20
# Of each kind: the path to ask, and a word that its answer holds.
KINDS = {
    "prometheus": ("/api/v1/status/buildinfo", '"version"'),
    "alertmanager": ("/api/v2/status", '"cluster"'),
    "watch": ("/api/v1/incidents", '"incidents"'),
    "agent": ("/metrics", "skewscope_"),
}


def services(named: Mapping[str, str], access: Access) -> Iterator[Answer]:
    """Yield an answer for each server: `named` maps "kind address" to its URL, kind one of KINDS."""
    for title, url in named.items():
        yield asked(title.partition(" ")[0], url, access)


def asked(kind: str, url: str, access: Access) -> Answer:
    """Return whether one server answers as its kind does."""
    shown = without_login(url)
    if urlsplit(url).scheme not in ("http", "https"):
        return Answer("servers", kind, "trouble", f"{shown} is no http or https address", "name it as http://HOST:PORT")
    if "@" in urlsplit(url).netloc:
        return Answer("servers", kind, "trouble", f"the address of {shown} holds a login, which others may read",
                      "leave it out, and give --user and --password-file")  # fmt: skip
    path, word = KINDS[kind]
    try:
        with opened(url.rstrip("/") + path, access, timeout_s=TIMEOUT_S) as reply:
            text = reply.read(MOST_BYTES).decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return Answer("servers", kind, "trouble", f"{shown}{path} answers {error.code} {error.reason}", _of(error.code))
    except (OSError, ValueError) as error:
        return Answer("servers", kind, "trouble", f"{shown} does not answer: {_reason(error)}", _mend(error))
    if word not in text:
        return Answer("servers", kind, "trouble", f"{shown} answers, but not as a {kind} does",
                      f"name the address of the {kind}; without a path it is asked for {path}")  # fmt: skip
    return Answer("servers", kind, "ok", f"{shown}{_version(text)}")


def _version(text: str) -> str:
    try:
        told = json.loads(text)
    except ValueError:
        return ""
    data = told.get("data", told) if isinstance(told, dict) else {}
    version = data.get("version") or (data.get("versionInfo") or {}).get("version") if isinstance(data, dict) else ""
    return f", version {version}" if version else ""


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    return str(inner) or type(error).__name__


def _of(code: int) -> str:
    if code in (401, 403):
        return "give --user and --password-file, or --bearer-token-file"
    return "is it the right address? its log says more" if code == 404 else "look at its log"


def _mend(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    if isinstance(inner, ssl.SSLError):
        return "give its certificate authority with --ca-file"
    return "is it running, does it listen there, and does a firewall stand between?"
