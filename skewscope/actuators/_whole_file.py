"""Files that others read while we write them: whole or not at all, and there after a power cut."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from ..errors import SkewscopeError, UsageError

LOCK = ".lock"
LOCK_S, POLL_S = 5.0, 0.02
READABLE = 0o644  # launchers and health checks run as other users
MOST_BYTES = 1 << 20


def file_of(folder: str, name: str) -> Path:
    """Return the file of a node or job, whatever its name holds: it cannot lead out of the folder.

    >>> str(file_of("/var/v", "n3")), str(file_of("/var/v", "../etc/x"))
    ('/var/v/n3.json', '/var/v/%2E.%2Fetc%2Fx.json')
    """
    safe = quote(name, safe="", errors="surrogatepass")
    return Path(folder) / f"{'%2E' + safe[1:] if safe[:1] == '.' else safe}.json"


def names_in(folder: str) -> tuple[str, ...]:
    """Return the names that have a file, sorted; raises SkewscopeError where the folder cannot be read."""
    if not folder:
        raise UsageError("set `folder`, where the files are to lie")
    try:
        files = sorted(os.listdir(folder))
    except OSError as error:
        raise SkewscopeError(f"{folder}: cannot be read: {error.strerror}") from None
    return tuple(
        unquote(name[:-5], errors="surrogatepass")
        for name in files
        if name.endswith(".json") and not name.startswith(".")
    )


def read(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """Return what a JSON file holds: None where there is none, "" where it is no JSON; raises SkewscopeError."""
    try:
        with open(path, "rb") as file:
            return json.loads(file.read(MOST_BYTES))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return ""
    except OSError as error:
        raise SkewscopeError(f"{path}: cannot be read: {error.strerror}") from None


@contextmanager
def locked(folder: str) -> Iterator[None]:
    """Hold the folder for one change; raises SkewscopeError where that is not allowed, or another holds it too long."""
    try:
        descriptor = os.open(Path(folder) / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SkewscopeError(f"{folder}: cannot be written to: {error.strerror}") from None
    try:
        if not _locked(descriptor):
            raise SkewscopeError(f"{folder}: another process holds its lock for over {LOCK_S:g} s")
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    ends_s = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES) or time.monotonic() > ends_s:
                return False
        time.sleep(POLL_S)


def write(path: Path, content: object) -> None:
    """Put JSON there, one key a line; None takes the file away. Raises SkewscopeError and leaves the old one then."""
    hidden = path.with_name(f".{path.name[-200:]}.{os.getpid()}.part")
    try:
        if content is None:
            path.unlink(missing_ok=True)
        else:
            _fill(hidden, json.dumps(content, indent=1).encode() + b"\n")
            os.replace(hidden, path)
        _settle(path.parent)
    except OSError as error:
        hidden.unlink(missing_ok=True)
        raise SkewscopeError(f"{path}: cannot be written: {error.strerror}") from None


def _fill(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, READABLE)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, READABLE)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _settle(folder: Path) -> None:
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(place)
    finally:
        os.close(place)
