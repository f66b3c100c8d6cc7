"""What the live view reads of Prometheus pages: the few families it shows, parsed line by line."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from ..errors import SkewscopeError


class One(NamedTuple):
    """One sample."""

    name: str
    labels: dict[str, str]
    value: float


def of(body: bytes, names: Collection[str]) -> Iterator[One]:
    r"""Yield the samples of some families of a page in text form; raises SkewscopeError for what is no such page.

    >>> [one.value for one in of(b'up 1\nskewscope_x{a="b"} 2\n', {"skewscope_x"})]
    [2.0]
    """
    lines = [line for line in body.decode("utf-8", "replace").splitlines() if _name(line) in names]
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                yield One(sample.name, dict(sample.labels), float(sample.value))
    except ValueError as error:
        raise SkewscopeError(f"the page cannot be understood: {error}") from None


def _name(line: str) -> str:
    return line.partition("{")[0].partition(" ")[0]
