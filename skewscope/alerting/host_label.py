"""Makes expressions and texts of alerts name hosts by one label, whichever of `node` and `instance` a site has."""

from __future__ import annotations

import re

INSTANCE, NODE = "instance", "node"
BARE = '{{ reReplaceAll ":[0-9]+$" "" $labels.instance }}'  # n1:9709 -> n1
_LISTS = re.compile(r"\b(by|on|without|ignoring|group_left|group_right)(\s*)\(([^()]*)\)")
_MATCHERS = re.compile(r"\b(?:node|instance)\b(?=\s*(?:=|!=|=~|!~))")


def expression(expr: str, label: str) -> str:
    """Return an expression in which hosts are told apart by `label`.

    >>> expression("sum by (node, instance, gpu) (x) > on (node) y", "instance")
    'sum by (instance, gpu) (x) > on (instance) y'
    """

    def named(hit: re.Match[str]) -> str:
        names = [label if name in (NODE, INSTANCE) else name for name in re.findall(r"\w+", hit[3])]
        return f"{hit[1]}{hit[2]}({', '.join(dict.fromkeys(names))})"

    return _MATCHERS.sub(label, _LISTS.sub(named, expr))


def text(template: str, label: str) -> str:
    """Return a template that tells the host's name by `label`, without the port of an instance.

    >>> text("{{ $labels.node }} is slow", "node"), text("{{ $labels.node }} is slow", "instance")
    ('{{ $labels.node }} is slow', '{{ reReplaceAll ":[0-9]+$" "" $labels.instance }} is slow')
    """
    return re.sub(r"\{\{ \$labels\.(?:node|instance) \}\}", lambda _: host(label), template)


def host(label: str) -> str:
    """Return the template of a host's name.

    >>> host("node")
    '{{ $labels.node }}'
    """
    return BARE if label == INSTANCE else f"{{{{ $labels.{label} }}}}"
