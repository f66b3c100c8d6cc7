"""Rules as YAML that people read: expressions in blocks, keys in the order in which they were given."""

from __future__ import annotations

from typing import Any

import yaml

SafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # five times faster, where libyaml is there


class _Dumper(SafeDumper):  # type: ignore[misc]
    """Writes texts of several lines as blocks and never refers back to an equal part."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401 - a method of the library
        """Return True: equal parts are written again."""
        return True


def _told(dumper: Any, text: str) -> Any:  # noqa: ANN401 - nodes of a library without types
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _told)


def dumped(document: Any, head: str = "") -> str:  # noqa: ANN401 - any plain value
    r"""Return a document as YAML under a head of comments.

    >>> dumped({"expr": "a > 1\nand b", "for": "5m"})
    'expr: |-\n  a > 1\n  and b\nfor: 5m\n'
    """
    return head + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10**6, allow_unicode=True)
