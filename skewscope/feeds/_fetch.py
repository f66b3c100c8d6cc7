"""One connection to one agent, kept open: asks for a page and gives its text."""

from __future__ import annotations

import asyncio
import os
import ssl
import zlib
from collections.abc import Mapping
from typing import Any

import httptools

from skewscope.errors import SkewscopeError

from .targets import Target

OK = 200


class Refused(SkewscopeError):
    """A page could not be had; the text says why."""


class Fetcher(asyncio.Protocol):
    """Fetches pages from one target over one connection; one at a time."""

    def __init__(self, target: Target, most_bytes: int) -> None:
        self.target = target
        self.most_bytes = most_bytes
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[bytes] | None = None
        self._silent = True  # nothing came since it was asked
        self._clear()

    def _clear(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self._inflate: Any = None
        self._measured = False  # whether the head tells where the body ends
        self._headed = False

    async def fetch(self, headers: Mapping[str, str], tls: ssl.SSLContext | None, timeout_s: float) -> bytes:
        """Return the page; raises Refused. A kept connection that was closed meanwhile is opened again, once."""
        try:
            async with asyncio.timeout(timeout_s):
                reused = self._transport is not None
                try:
                    return await self._ask(headers, tls)
                except ConnectionError:
                    if not (reused and self._silent):
                        raise
                    return await self._ask(headers, tls)
        except TimeoutError:
            self.close()
            raise Refused(f"no answer within {timeout_s:g} s") from None
        except (OSError, ssl.SSLError) as error:
            self.close()
            raise Refused(_reason(error)) from None

    async def _ask(self, headers: Mapping[str, str], tls: ssl.SSLContext | None) -> bytes:
        if self._transport is None:
            loop = asyncio.get_running_loop()
            target = self.target
            await loop.create_connection(lambda: self, target.host, target.port, ssl=tls if target.secure else None)
        if (transport := self._transport) is None:
            raise ConnectionResetError("the connection was closed")
        self._clear()
        self._silent = True
        self._waiter = asyncio.get_running_loop().create_future()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        transport.write(f"GET {self.target.path} HTTP/1.1\r\nHost: {self.target.authority}\r\n{lines}\r\n".encode())
        try:
            return await self._waiter
        finally:
            self._waiter = None
            self._body = bytearray()

    def close(self) -> None:
        """Close the connection; the next page opens a new one."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self._silent = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            told = error.__context__ if isinstance(error.__context__, Refused) else None
            self._fail(told or Refused(f"no HTTP: {error}"))
        except Refused as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """End what waits; a body without a length ends here."""
        self._transport = None
        if self._headed and not self._measured and exc is None:
            self.on_message_complete()
        if self._waiter and not self._waiter.done():
            self._waiter.set_exception(ConnectionResetError(str(exc or "the connection was closed in an answer")))

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note how the body is packed and whether its end is told."""
        name = name.lower()
        self._measured |= name in (b"content-length", b"transfer-encoding")
        if name == b"content-encoding" and value.lower() == b"gzip":
            self._inflate = zlib.decompressobj(31)

    def on_headers_complete(self) -> None:
        """Note that a body may begin."""
        self._headed = True

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, never more than allowed."""
        if self._inflate is not None:
            try:
                body = self._inflate.decompress(body, self.most_bytes + 1 - len(self._body))
            except zlib.error:
                raise Refused("a damaged gzip body") from None
        self._body += body
        if len(self._body) > self.most_bytes:
            raise Refused(f"a page of more than {self.most_bytes} bytes")

    def on_message_complete(self) -> None:
        """Give the page to the one who waits."""
        status, keep = self._parser.get_status_code(), self._parser.should_keep_alive()
        if not self._waiter or self._waiter.done():
            return
        if self._inflate is not None and not self._inflate.eof:
            self._fail(Refused("a cut gzip body"))
        elif status != OK:
            self._fail(Refused(f"HTTP status {status}"))
        else:
            self._waiter.set_result(bytes(self._body))
            if not keep:
                self.close()

    def _fail(self, error: Refused) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_exception(error)
        self.close()


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {error.verify_message}"
    if isinstance(error, OSError) and error.errno and error.errno > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno).lower()  # asyncio's own text holds the address: each agent's another
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
