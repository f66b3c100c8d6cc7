"""Opens an http or https address and nothing else, and takes no secret to a server that was not named."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Mapping
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

from ..errors import UsageError
from .access import Access
from .shown import hidden


def opened(
    url: str, access: Access, *, timeout_s: float, method: str = "GET", body: bytes | None = None,
    headers: Mapping[str, str] | None = None, follow: bool = True, proxies: Mapping[str, str] | None = None,
) -> HTTPResponse:  # fmt: skip
    """Return the reply of a server, to be closed by the caller; `headers` are sent besides those of `access`.

    A redirect is followed within the same server, and not at all without `follow`: it then is the HTTPError of its
    status. `proxies` None takes those of the environment. Raises UsageError for a secret or a certificate that cannot
    be read and for a login in the address, ValueError for what is no address, and OSError (URLError, HTTPError) where
    no reply of status 200 to 299 came: for a `file:` or `ftp:` address, too.
    """
    if "@" in urlsplit(url).netloc:
        raise UsageError(f"the address of {hidden(url)} holds a login, which others may read: leave it out")
    lines = {"User-Agent": "skewscope", **(headers or {}), **access.lines()}
    request = urllib.request.Request(url, data=body, headers=lines, method=method)  # noqa: S310 - see the handlers
    request.type = _Scheme(request.type)
    director = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(None if proxies is None else dict(proxies)),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _SameServer() if follow else _Straight(),
    ):
        director.add_handler(handler)
    if request.type == "https":
        director.add_handler(urllib.request.HTTPSHandler(context=access.tls()))
    reply: HTTPResponse = director.open(request, timeout=timeout_s)
    return reply


class _Scheme(str):
    """Makes the same string of the same ending each time.

    urllib looks methods up by such strings, and CPython keeps thousands of names that were looked up.
    """

    __slots__ = ()

    def __add__(self, ending: str) -> str:
        return sys.intern(super().__add__(ending))


class _Straight(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: a POST would become a GET, and secrets would go elsewhere."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


class _SameServer(urllib.request.HTTPRedirectHandler):
    """Follows no redirect to another server, nor out of TLS: a login would go there, too."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:  # noqa: ANN401
        if urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)
