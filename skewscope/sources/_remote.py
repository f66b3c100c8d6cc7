"""Files in object stores and behind other URLs, through fsspec: found by name, fetched when their turn has come.

A remote file stands for itself as a path in a temporary folder that mirrors the store. Small ones are fetched when they
are found, since readers may look at what lies beside a recording; a large one is fetched by the process that reads it,
and gone afterwards, so that the folder never holds more than one large file per process.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path, PosixPath
from typing import Any

from ..contracts import Reading
from ..errors import Unreadable, UsageError
from ..recording import Input

URL = re.compile(r"^[a-z][a-z0-9+.\-]*(?:://|::)", re.I)
SECRETS = re.compile(r"(?<=://)[^/@\s]+@|\?[^\s#'\"]+")
SMALL_BYTES = 1_000_000
AT_ONCE = 16  # small files that are fetched side by side
FREE_RATIO = 0.9  # of the free disk that one file may take
MOST_FILES = 100_000
DRIVERS = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs",
    "http": "aiohttp", "https": "aiohttp", "sftp": "paramiko", "ssh": "paramiko", "hf": "huggingface_hub",
    "oci": "ocifs", "hdfs": "pyarrow", "webdav": "webdav4",
}  # fmt: skip


class RemoteFile(PosixPath):
    """A path in the temporary folder that stands for a remote file, with its URL, as it is shown, and its size."""

    url: str = ""
    shown: str = ""
    size_bytes: int = 0

    @classmethod
    def of(cls, local: Path, url: str, size_bytes: int) -> RemoteFile:
        """Return the path of a remote file."""
        made = cls(local)
        made.url, made.shown, made.size_bytes = url, without_secrets(url), size_bytes
        return made

    def __reduce__(self) -> Any:  # noqa: ANN401 - what pickle wants
        return RemoteFile.of, (Path(self), self.url, self.size_bytes)


def is_url(text: str) -> bool:
    """Return whether a text is a URL and no path; `file://` is one, too.

    >>> is_url("s3://bucket/run"), is_url("zip://x.json::/tmp/a.zip"), is_url("runs/a"), is_url("C:/runs")
    (True, True, False, False)
    """
    return bool(URL.match(text))


def without_secrets(text: str) -> str:
    """Return a text without what its URLs may hold that nobody else should read: logins and signed queries.

    >>> without_secrets("https://ann:pw@host/a.json?X-Amz-Signature=1b2")
    'https://host/a.json'
    """
    return SECRETS.sub("", text)


def found(url: str) -> tuple[list[RemoteFile], list[Input]]:
    """Return the files at a URL (a file, a folder or a pattern with `*`), sorted by name, and what cannot be read.

    Raises UsageError where fsspec or the driver of the store is missing, and where nothing is there.
    """
    system, place = _opened(url)
    try:
        listed = _listed(system, place)
    except Exception as error:  # noqa: BLE001 - drivers raise errors of their own kinds
        raise UsageError(f"{without_secrets(url)}: {_said(error)}") from None
    if not listed:
        raise UsageError(f"no such file or folder: {without_secrets(url)}")
    if len(listed) > MOST_FILES:
        raise UsageError(f"{without_secrets(url)}: more than {MOST_FILES:,} files; name a folder further down")
    root = Path(tempfile.mkdtemp(dir=_spool()))
    files, refused = [], []
    for name, size in sorted(listed.items()):
        whole = _url_of(system, url, name)
        if not size:
            refused.append(Input(without_secrets(whole), "", -1, 0, "unreadable", "empty file"))
            continue
        local = root.joinpath(*[part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")])
        files.append(RemoteFile.of(local, whole, size))
        if size > SMALL_BYTES:
            _hold_place(files[-1])
    _fetch_ahead([one for one in files if one.size_bytes <= SMALL_BYTES])
    return files, refused


@contextmanager
def at_hand(path: Path) -> Iterator[None]:
    """Have a remote file on this machine within the block; a large one is gone afterwards. Raises Unreadable."""
    if not isinstance(path, RemoteFile) or not path.url:
        yield
        return
    large = path.size_bytes > SMALL_BYTES  # until now a hole of its size stood there, at most
    if large or not path.exists():
        _fetch(path)
    try:
        yield
    finally:
        if large:
            path.unlink(missing_ok=True)


def named(reading: Reading, path: Path) -> Reading:
    """Return a reading that speaks of the URL, where its path only stands for one."""
    if isinstance(path, RemoteFile) and path.url:
        local = str(path)
        reading.path = path.shown
        reading.error = reading.error.replace(local, path.shown)
        reading.warnings = [line.replace(local, path.shown) for line in reading.warnings]
    return reading


def folder_of(path: Path) -> str:
    """Return the folder of a file, of a remote one the folder in its store."""
    shown = path.shown if isinstance(path, RemoteFile) and path.url else ""
    return shown.partition("::")[0].rpartition("/")[0] if shown else str(path.parent)


def _hold_place(path: RemoteFile) -> None:
    """Put a hole of the file's size where it will stand: whoever shares out the work looks at sizes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(path.size_bytes)


def _fetch_ahead(files: list[RemoteFile]) -> None:
    """Fetch small files side by side; what fails is tried again in its turn, which tells the reason."""

    def one(path: RemoteFile) -> None:
        with suppress(Unreadable, UsageError):
            _fetch(path)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, files))


def _fetch(path: RemoteFile) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if path.size_bytes > FREE_RATIO * free:
        raise Unreadable(f"it holds {path.size_bytes:,} bytes and {path.parent} has {free:,} free",
                         "set TMPDIR to a larger disk")  # fmt: skip
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        system, place = _opened(path.url)
        system.get_file(place, str(part))
        os.replace(part, path)
    except Unreadable:
        raise
    except Exception as error:  # noqa: BLE001 - drivers raise errors of their own kinds
        raise Unreadable(f"it cannot be fetched ({_said(error)})", "check the address and your login") from None
    finally:
        Path(part).unlink(missing_ok=True)


def _opened(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the place in it; raises UsageError that says what to install."""
    try:
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]
    except ImportError:
        raise UsageError(
            f"{without_secrets(url)}: URLs want the package fsspec: pip install 'skewscope[remote]'{_driver(url)}"
        ) from None
    try:
        system, place = url_to_fs(url)
    except ImportError:
        raise UsageError(f"{without_secrets(url)}: pip install fsspec{_driver(url)} is missing for such URLs") from None
    except Exception as error:  # noqa: BLE001 - drivers raise errors of their own kinds
        raise UsageError(f"{without_secrets(url)}: cannot be opened: {_said(error)}") from None
    return system, place


def _driver(url: str) -> str:
    name = DRIVERS.get(url.partition(":")[0].lower(), "")
    return f" {name}" if name else ""


def _listed(system: Any, place: str) -> dict[str, int]:  # noqa: ANN401 - a file system of fsspec
    """Return name and size of all files; hidden ones in folders are left out."""
    if any(sign in place for sign in "*?["):
        places = system.glob(place)
    else:
        places = [place]
    made: dict[str, int] = {}
    for one in places:
        if system.isfile(one):
            made[one] = int(system.size(one) or 0)
            continue
        for name, told in system.find(one, detail=True).items():
            inside = name[len(one) :] if name.startswith(one) else name
            if told.get("type") == "file" and not any(part.startswith(".") for part in inside.split("/") if part):
                made[name] = int(told.get("size") or 0)
    return made


def _url_of(system: Any, url: str, name: str) -> str:  # noqa: ANN401 - a file system of fsspec
    """Return the URL of a file in the file system that a URL led to; login and archive stay as they were given."""
    head, chain, rest = url.partition("::")
    scheme = head.partition("://")[0]
    if chain:
        return f"{scheme}://{name.lstrip('/')}::{rest}"
    if name.startswith(f"{scheme}://"):
        return name
    login = re.match(r"[^/]*@(?=[^/]*)", head.partition("://")[2])
    bare = name.lstrip("/") if scheme not in ("file", "local") else name
    return f"{scheme}://{login[0] if login and '@' not in bare else ''}{bare}"


def _said(error: Exception) -> str:
    told = " ".join(str(error).split()) or type(error).__name__
    return without_secrets(told)[:300]


@cache
def _spool() -> str:
    """Return the temporary folder of this process, which goes with it."""
    _held.append(tempfile.TemporaryDirectory(prefix="skewscope-remote-"))
    return _held[-1].name


_held: list[tempfile.TemporaryDirectory[str]] = []
