"""The web configuration file that exporters share, read strictly: what is not understood is an error, not ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skewscope.errors import UsageError

SECTIONS: Mapping[str, Mapping[str, type]] = {
    "tls_server_config": {
        "cert_file": str, "key_file": str, "client_ca_file": str, "cert": str, "key": str, "client_ca": str,
        "client_auth_type": str, "client_allowed_sans": list, "min_version": str, "max_version": str,
        "cipher_suites": list, "prefer_server_cipher_suites": bool, "curve_preferences": list,
    },
    "http_server_config": {"http2": bool, "headers": dict},
    "rate_limit": {"interval": str, "burst": int},
    "basic_auth_users": {},
}  # fmt: skip
HEADERS: Mapping[str, tuple[str, ...]] = {  # the values that are allowed, any where none is given
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
KINDS = {str: "a text", list: "a list of texts", bool: "true or false", int: "a whole number", dict: "a table"}
BCRYPT = re.compile(r"\$2[abxy]\$(?:0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")  # salt, then hash
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
MOST_BURST = 1_000_000_000
UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Tls:
    """`tls_server_config`. A certificate, key or authority is a path or the PEM text itself."""

    cert: Path | str
    key: Path | str = field(repr=False)
    client_ca: Path | str | None = None
    client_auth_type: str = "NoClientCert"
    client_allowed_sans: tuple[str, ...] = ()
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it names."""
        return tuple(one for one in (self.cert, self.key, self.client_ca) if isinstance(one, Path))


@dataclass(frozen=True)
class WebFile:
    """A whole file. `interval_s` is the time between two requests at most, 0 without a limit."""

    tls: Tls | None = None
    http2: bool | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict, repr=False)  # name -> bcrypt
    interval_s: float = 0.0
    burst: int = 0


def read(path: Path) -> WebFile:
    """Return what a file says; raises UsageError that names the file, the key and what was wanted, never a secret."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"cannot read the web configuration {path}: {reason}") from error
    try:
        return _file(_loaded(text), path.parent)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _loaded(text: str) -> Mapping[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that stands twice: the first would be lost in silence."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            names = [key.value for key, _ in node.value]
            for name in names:
                if names.count(name) > 1:
                    raise UsageError(f"{name} stands twice; keep one")
            return super().construct_mapping(node, deep)

        def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:  # noqa: ANN401 - as the parent
            """Refuse what no file, name or header can hold: half a character, as an escape can write it, and NUL."""
            found = super().construct_scalar(node)
            if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in str(found)):
                raise UsageError(f"line {node.start_mark.line + 1}: a text with half a character or a NUL in it")
            return found

    try:
        found = yaml.load(text, Loader)  # noqa: S506 - a SafeLoader, though the rule does not see it
    # Besides its own errors, those of numbers with thousands of digits, of days that no month has, and of depth.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""  # the error's own text would show the line, perhaps a secret
        raise UsageError(f"{line}no valid YAML ({getattr(error, 'problem', None) or 'unreadable'})") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UsageError(f"wanted a table with {', '.join(SECTIONS)}, got {type(found).__name__}")
    return found


def _file(found: Mapping[str, Any], folder: Path) -> WebFile:
    _known("", found, SECTIONS)
    parts = {name: _section(name, found.get(name)) for name in SECTIONS}
    http, limit = parts["http_server_config"], parts["rate_limit"]
    interval_s, burst = _seconds(limit.get("interval", "0s")), limit.get("burst", 0)
    if burst > MOST_BURST or (interval_s and burst < 1):
        raise UsageError(f"rate_limit.burst: wanted 1 to {MOST_BURST:,}; 0 would refuse every request")
    return WebFile(
        tls=_tls(parts["tls_server_config"], folder), http2=http.get("http2"), headers=_headers(http.get("headers")),
        users=_users(parts["basic_auth_users"]), interval_s=interval_s, burst=burst,
    )  # fmt: skip


def _section(name: str, found: object) -> dict[str, Any]:
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UsageError(f"{name}: wanted a table, got {type(found).__name__}")
    if name == "basic_auth_users":
        return found
    kinds = SECTIONS[name]
    _known(f"{name}.", found, kinds)
    kept = {key: value for key, value in found.items() if value is not None}
    if name == "rate_limit" and kept.get("interval") == 0:
        kept["interval"] = "0s"
    for key, value in kept.items():
        right = isinstance(value, kinds[key]) and not (kinds[key] is int and isinstance(value, bool))
        if not right or (kinds[key] is list and not all(isinstance(one, str) for one in value)):
            raise UsageError(f"{name}.{key}: wanted {KINDS[kinds[key]]}, got {type(value).__name__}")
    return kept


def _known(before: str, found: Mapping[Any, Any], allowed: Mapping[str, Any]) -> None:
    for key in found:
        if key not in allowed:
            from difflib import get_close_matches

            near = get_close_matches(str(key), list(allowed), n=1)
            hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(allowed)}"
            raise UsageError(f"{before}{key} is no setting; {hint}")


def _tls(found: dict[str, Any], folder: Path) -> Tls | None:
    if not found:
        return None
    pems: dict[str, Any] = {}
    for name in ("cert", "key", "client_ca"):
        path, text = found.pop(f"{name}_file", ""), found.pop(name, "")
        if path and text:
            raise UsageError(f"tls_server_config: both {name} and {name}_file are given; keep one")
        if path or text:
            pems[name] = folder / path if path else text
        elif name != "client_ca":
            raise UsageError(f"tls_server_config: {name}_file is missing")
    rest: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in found.items()}
    return Tls(**pems, **rest)


def _headers(found: dict[Any, Any] | None) -> dict[str, str]:
    _known("http_server_config.headers.", found or {}, HEADERS)
    kept = {name: value for name, value in (found or {}).items() if value not in (None, "")}
    for name, value in kept.items():
        allowed = HEADERS[name]
        if not isinstance(value, (str, int)) or not (text := str(value)).isascii() or not text.isprintable():
            raise UsageError(f"http_server_config.headers.{name}: wanted one line of ASCII")
        if allowed and text not in allowed:
            raise UsageError(f"http_server_config.headers.{name}: wanted {' or '.join(allowed)}, got {text!r}")
    return {name: str(value) for name, value in kept.items()}


def _users(found: Mapping[Any, Any]) -> dict[str, str]:
    for name, hashed in found.items():
        if not isinstance(name, str) or not name or ":" in name:
            raise UsageError(f"basic_auth_users: {name!r} can be no user; give a text in quotes, without a colon")
        if not isinstance(hashed, str) or not BCRYPT.fullmatch(hashed):
            raise UsageError(f"basic_auth_users.{name}: wanted a bcrypt hash, as `htpasswd -nBC 10 {name}` makes it")
    return dict(found)


def _seconds(text: str) -> float:
    """Return a duration in seconds; raises UsageError.

    >>> _seconds("1m30s"), _seconds("500ms")
    (90.0, 0.5)
    """
    if text == "0":
        return 0.0
    parts = DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise UsageError(f"rate_limit.interval: wanted a time as 1s or 500ms, got {text!r}")
    return sum(float(number) * UNITS_S[unit] for number, unit in parts)
