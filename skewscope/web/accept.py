"""What a client takes, out of its Accept and Accept-Encoding, and the packed form of a body."""

from __future__ import annotations

import zlib
from types import ModuleType

compression: ModuleType = zlib
try:  # seven times faster on x86 and ARM; elsewhere there may be none
    from isal import isal_zlib

    compression = isal_zlib
except ImportError:
    pass


def gzipped(body: bytes) -> bytes:
    """Return the body in gzip form, quickly rather than tightly."""
    squeeze = compression.compressobj(1, zlib.DEFLATED, 31)
    made: bytes = squeeze.compress(body) + squeeze.flush()
    return made


def takes_gzip(accepted: str) -> bool:
    """Return whether a client takes gzip, from its Accept-Encoding.

    >>> takes_gzip("gzip, deflate"), takes_gzip("gzip;q=0"), takes_gzip("")
    (True, False, False)
    """
    return any(name in ("gzip", "*") and quality > 0 for name, quality in _choices(accepted))


def wants_openmetrics(accepted: str) -> bool:
    """Return whether a client likes OpenMetrics at least as well as plain text, from its Accept.

    >>> wants_openmetrics("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4")
    True
    >>> wants_openmetrics("text/plain"), wants_openmetrics("*/*")
    (False, False)
    """
    liked = {name: quality for name, quality in _choices(accepted)}
    openmetrics = liked.get("application/openmetrics-text", 0.0)
    return openmetrics > 0 and openmetrics >= liked.get("text/plain", 0.0)


def _choices(accepted: str) -> list[tuple[str, float]]:
    found = []
    for choice in accepted.split(","):
        name, *parameters = (part.strip().lower() for part in choice.split(";"))
        quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            found.append((name, float(quality)))
        except ValueError:
            found.append((name, 0.0))
    return found
