"""What an act would change and send, as lines that people read: `- ` was, `+ ` becomes, `> ` is sent."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from skewscope.reports import wording

from ._act_records import Record

GONE, COME, SENT = "- ", "+ ", "> "
KINDS = {GONE: "gone", COME: "come"}  # classes of the style sheet
MOST_LINES, LONGEST = 80, 600


def lines(record: Record) -> tuple[str, ...]:
    """Return the difference between before and after, then what is sent; cut where it is very long."""
    made = [*changes(_mapping(record.get("before")), _mapping(record.get("after"))), *sent(record)]
    more = [f"{len(made) - MOST_LINES} more lines are in the audit file."] if len(made) > MOST_LINES else []
    return tuple(_cut(one) for one in made[:MOST_LINES]) + tuple(more)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the lines of what differs; of lists, the items that come and go.

    >>> changes({"State": "IDLE", "labels": {"a": "1"}}, {"State": "IDLE+DRAIN", "labels": {"a": "1", "b": "2"}})
    ['- State: IDLE', '+ State: IDLE+DRAIN', '+ labels.b: 2']
    """
    return list(_changes("", before, after))


def sent(record: Record) -> list[str]:
    """Return what is sent, a line each: the words of a program quoted as a shell would want them.

    >>> sent({"sent": [{"kind": "run", "words": ["scontrol", "update", "Reason=a b"]}]})
    ["> scontrol update 'Reason=a b'"]
    """
    steps = record.get("sent")
    return [_step(one) for one in steps if isinstance(one, Mapping)] if isinstance(steps, list | tuple) else []


def _changes(name: str, before: Any, after: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys([*before, *after]):
            within = f"{name}.{key}" if name else str(key)
            if key not in after:
                yield f"{GONE}{within}: {_value(before[key])}"
            elif key not in before:
                yield f"{COME}{within}: {_value(after[key])}"
            else:
                yield from _changes(within, before[key], after[key])
    elif isinstance(before, list | tuple) and isinstance(after, list | tuple):
        yield from (f"{GONE}{name}: {_value(one)}" for one in before if one not in after)
        yield from (f"{COME}{name}: {_value(one)}" for one in after if one not in before)
    elif before != after:
        yield from (f"{GONE}{name}: {_value(before)}", f"{COME}{name}: {_value(after)}")


def _value(value: Any) -> str:  # noqa: ANN401 - any JSON
    return wording.clean(value) if isinstance(value, str) and value.strip() == value != "" else _json(value)


def _json(value: Any) -> str:  # noqa: ANN401 - any JSON
    return wording.clean(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str))


def _step(step: Mapping[str, Any]) -> str:
    given = step.get("words")
    told: Sequence[str] = [str(one) for one in given] if isinstance(given, list | tuple) else []
    said = shlex.join(told) if step.get("kind") == "run" else " ".join(told)
    body = "" if step.get("body") is None else f" {_json(step['body'])}"
    return f"{SENT}{wording.clean(said)}{body}"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ... ({len(line) - LONGEST:,} more in the audit file)"
