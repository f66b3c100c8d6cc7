"""What may be believed of a test on a fenced node before the node comes back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..errors import Unreadable
from .document import Result, found
from .judge import Limits, verdict


def answer(
    text: str, node: str, since_ns: int, references: Iterable[Result], limits: Limits | None = None
) -> Result:  # fmt: skip
    """Return the judged result of `node` in what a program wrote there after `since_ns`; "pass" alone lets it back.

    A text without a result, of another node or from before the test began is "unsure" with the reason: nothing that
    goes wrong here may free a node.

    >>> answer("Killed", "n3", 0, ()).verdict
    'unsure'
    """
    empty = Result(node, since_ns, "", "", verdict="unsure")
    try:
        results = found(text)
    except Unreadable as error:
        return replace(empty, why=(str(error),))
    mine = [one for one in results if one.node == node]
    if not mine:
        return replace(empty, why=(f"the answer is of {results[0].node}, not of {node}",))
    newest = max(mine, key=lambda one: one.time_ns)
    if newest.time_ns < since_ns:
        return replace(empty, why=("the answer was measured before the test began",))
    return verdict(newest, [*references, *(one for one in results if one.node != node)], limits)


def references(path: Path) -> list[Result]:
    """Return the results that a file of JSON lines, or all files `*.json*` of a folder, hold; other lines are no harm.

    Raises Unreadable where there is none.
    """
    try:
        files = sorted(path.glob("*.json*")) if path.is_dir() else [path]
        text = "\n".join(one.read_text("utf-8", "replace") for one in files)
    except OSError as error:
        raise Unreadable(
            f"{path}: {error.strerror or error}", "name a file that `skewscope retest --keep` wrote"
        ) from None
    try:
        return found(text)
    except Unreadable as error:
        raise Unreadable(f"{path}: {error.reason}") from None


def keep(path: Path, text: str) -> None:
    """Add one line to a file that many nodes may write at once; raises OSError."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(text + "\n")
