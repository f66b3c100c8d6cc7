"""What the commands share that act on schedulers: where the audit is, who the person is, how records are printed."""

from __future__ import annotations

import argparse
import getpass
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..acts import plain_text
from ..errors import UsageError

if TYPE_CHECKING:
    from ..policy.settings import Policy

WIDTH = 12


def flags(parser: argparse.ArgumentParser, *, policy: bool = True) -> None:
    """Declare --audit, and --policy."""
    parser.add_argument("--audit", metavar="FILE", type=Path,
                        help=f"the record of all acts (default {_shown(default_audit())})")  # fmt: skip
    if policy:
        parser.add_argument("--policy", metavar="FILE", type=Path, help="limits and settings: `skewscope policy init`")


def default_audit() -> Path:
    """Return where the audit of this person lies."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "skewscope" / "audit.jsonl"


def _shown(path: Path) -> str:
    home = str(Path.home())
    return str(path).replace(home, "~", 1)


def audit_file(given: Path | None, *, there: bool = False) -> Path:
    """Return the audit; `there` asks that it exists, else its folder is made. Raises UsageError."""
    path = given or default_audit()
    if there and not path.is_file():
        raise UsageError(f"{path}: there is no such audit; --audit FILE names it")
    if not there and given is None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.parent.is_dir():
        raise UsageError(f"--audit {path}: the folder {path.parent} does not exist; make it first")
    return path


def policy_of(path: Path | None) -> Policy:
    """Return the policy of a file, the careful default without one."""
    from ..policy.settings import Policy

    return Policy() if path is None else Policy.load(path)


def person() -> str:
    """Return who calls, as the audit names them."""
    try:
        return plain_text(getpass.getuser(), 60)
    except (KeyError, OSError):  # a user without a name
        return f"uid {os.getuid()}"


def changed(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a record says would change or has changed, and what is sent for it."""
    from ..acting.account import changes

    for number, (name, before, after) in enumerate(changes(record.get("before") or {}, record.get("after") or {})):
        yield line("" if number else "changes", f"{name}: {value(before)} -> {value(after)}")
    for number, step in enumerate(record.get("sent") or ()):
        yield line("" if number else "sends", words(step))


def words(step: Mapping[str, Any]) -> str:
    """Return a step as one reads it; it is never run from this text.

    >>> words({"kind": "run", "words": ["scontrol", "update", "Reason=it is slow"], "body": None})
    "scontrol update 'Reason=it is slow'"
    """
    import json
    import shlex

    said = shlex.join(step["words"]) if step["kind"] == "run" else " ".join(step["words"])
    return said if step.get("body") is None else f"{said} {json.dumps(step['body'], sort_keys=True)}"


def value(told: object) -> str:
    """Return a value of a scheduler's state as one reads it.

    >>> value(""), value(None), value(["a", "b"])
    ('(none)', '(none)', 'a, b')
    """
    if isinstance(told, list | tuple) and all(isinstance(one, str) for one in told):
        told = ", ".join(told)
    return "(none)" if told is None or told == "" else str(told)


def line(name: str, text: str) -> str:
    """Return one line of a block, safe on a terminal."""
    from ..reports.wording import clean

    return f"  {name:{WIDTH}}{clean(text)}"
