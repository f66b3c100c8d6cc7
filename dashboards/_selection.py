"""What the reader has selected: shared by all pages and kept in the address, so that a link shows the same."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

LONGEST_QUERY, LONGEST_TEXT = 2048, 200
LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Selection:
    """The selected job, node, rank, steps `begin` to `end` (both too) and times; -1 and "" select all.

    `show` is a page's own switch, as which quantity a map shows; `order` is what rows are ordered by; `zoom` is what of
    the page's maps is in view (see `_zoom.linked`), which no link takes along.
    """

    job: str = ""
    node: str = ""
    rank: int = -1
    begin: int = -1
    end: int = -1
    since_ns: int = -1
    until_ns: int = -1
    show: str = ""
    order: str = ""
    zoom: str = ""

    def query(self) -> str:
        """Return the selection as the query of an address, "" where all is selected.

        >>> Selection(job="a b", rank=5).query()
        '?job=a+b&rank=5'
        """
        chosen = {one.name: getattr(self, one.name) for one in fields(self)}
        chosen = {name: value for name, value in sorted(chosen.items()) if value not in ("", -1)}
        return f"?{urlencode(chosen)}" if chosen else ""

    @classmethod
    def of(cls, query: str) -> Selection:
        """Return the selection that a query names. The text may come from anybody: what does not fit is left out.

        >>> Selection.of("?rank=5&begin=x&job=j&evil=1")
        Selection(job='j', node='', rank=5, begin=-1, end=-1, since_ns=-1, until_ns=-1, show='', order='', zoom='')
        """
        if len(query) > LONGEST_QUERY:
            return cls()
        found: dict[str, Any] = {}
        try:
            pairs = parse_qsl(query.removeprefix("?"), max_num_fields=40)
        except ValueError:
            return cls()
        texts = {one.name for one in fields(cls) if one.type == "str"}
        for name, text in pairs:
            if name in texts:
                found[name] = _plain(text)
            elif any(one.name == name for one in fields(cls)):
                found[name] = _whole(text)
        return cls(**found)

    def link(self, path: str, **changes: str | int) -> str:
        """Return the address of a page with this selection, changed.

        >>> Selection(rank=5).link("/why", begin=10, end=40)
        '/why?begin=10&end=40&rank=5'
        """
        return path + self.having(**{"zoom": "", **changes}).query()

    def having(self, **changes: str | int) -> Selection:
        """Return this selection with other values; a number may come as text.

        >>> Selection().having(rank="5").rank
        5
        """
        changed: dict[str, Any] = dict(changes)
        for one in fields(self):
            if one.type == "int" and isinstance(changed.get(one.name), str):
                changed[one.name] = _whole(changed[one.name])
        return replace(self, **changed)


def _plain(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())[:LONGEST_TEXT]


def _whole(text: str) -> int:
    """Return a whole number from 0, -1 for anything else.

    >>> _whole("12"), _whole("-3"), _whole("1e9"), _whole("9" * 30)
    (12, -1, -1, -1)
    """
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        return -1
    number = int(text)
    return number if number <= LARGEST else -1
