"""The packages that skewscope stands on: which of each extra are installed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata

from .answer import Answer

LEAST_PYTHON = (3, 11)
FOR_USERS = ("", "analysis", "dashboard", "dask", "remote", "nvrx")  # "" is what is always needed
GIVES = {
    "": "the agent", "analysis": "analyze, simulate, plan, watch", "dashboard": "dashboard and pages with charts",
    "dask": "--dask", "remote": "recordings in object stores", "nvrx": "acting through NVRx",
}  # fmt: skip
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


def packages() -> Iterator[Answer]:
    """Yield one answer for Python, one for skewscope, and one for each extra that its metadata declares."""
    own = ".".join(map(str, sys.version_info[:3]))
    fits = sys.version_info[:2] >= LEAST_PYTHON
    yield Answer("packages", "python", "ok" if fits else "trouble", f"{own} at {sys.executable}",
                 "" if fits else f"use Python {'.'.join(map(str, LEAST_PYTHON))} or newer")  # fmt: skip
    try:
        declared = metadata.requires("skewscope") or []
        yield Answer("packages", "skewscope", "ok", metadata.version("skewscope"))
    except metadata.PackageNotFoundError:
        yield Answer("packages", "skewscope", "trouble", "runs from a folder and is not installed", "pip install .")
        return
    wanted = wanted_by(declared)
    for extra in FOR_USERS:
        if extra in wanted:
            yield of_extra(extra, wanted[extra])


def wanted_by(requires: Sequence[str]) -> dict[str, list[str]]:
    """Return the packages that each extra wants, by the extra's name ("" for those always wanted).

    >>> wanted_by(["psutil", "dask>=2024.5; extra == 'dask'", "skewscope[dask]; extra == 'all'"])
    {'': ['psutil'], 'dask': ['dask']}
    """
    found: dict[str, list[str]] = {}
    for line in requires:
        name, extra = NAME.match(line), EXTRA.search(line)
        if name and name[0] != "skewscope":
            found.setdefault(extra[1] if extra else "", []).append(name[0])
    return found


def of_extra(extra: str, names: Sequence[str]) -> Answer:
    """Return whether all packages of an extra are installed."""
    missing = [name for name in names if not _is_installed(name)]
    title = f"[{extra}]" if extra else "required"
    if not missing:
        return Answer("packages", title, "ok", f"{len(names)} packages, for {GIVES.get(extra, extra)}")
    mend = f"pip install 'skewscope[{extra}]'" if extra else "pip install skewscope"
    return Answer("packages", title, "absent" if extra else "trouble",
                  f"missing {', '.join(missing)}; without: no {GIVES.get(extra, extra)}", mend)  # fmt: skip


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
