"""One name per communicator: what files call a group becomes a name that is unique in the job, with its members."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from ..contracts import Coded
from ..frames import Part, empty, frame

Array = np.ndarray[Any, Any]
Parts = dict[str, Part]
CHANNEL = "p2p:"


@dataclass
class Group:
    """One communicator under its final name."""

    name: str
    members: set[int]
    size: int = -1
    description: str = ""
    source: str = ""


@dataclass
class _Told:
    """What one file says of one name."""

    members: set[int] = field(default_factory=set)
    size: int = -1
    description: str = ""
    source: str = ""


def unify(parts: Sequence[Parts], world_size: int) -> tuple[list[Parts], pd.DataFrame]:
    """Return the tables of each file with final group names and sizes, and the `groups` of the job.

    Files that declare the same name for different members speak of different groups: `name@lowest rank`. Members that
    nobody declares are the ranks that carry the group.
    """
    told = [_declared(part) for part in parts]
    carried = [_carriers(part) for part in parts]
    names = list(dict.fromkeys([name for file in told for name in file] + [name for file in carried for name in file]))
    final: dict[str, list[Group]] = {}
    for name in names:
        carriers = {rank for file in carried for rank in file.get(name, ())}
        final[name] = _identities(name, [file[name] for file in told if name in file], carriers, world_size)
    renamed = [_renamed(part, file, final) for part, file in zip(parts, told, strict=True)]
    return renamed, _table(group for groups in final.values() for group in groups)


def _declared(part: Parts) -> dict[str, _Told]:
    rows = part.get("groups")
    if rows is None or not len(rows):
        return {}
    found: dict[str, _Told] = {}
    columns = [_listed(rows.columns[name]) for name in ("group", "rank", "description", "group_size", "source")]
    for name, rank, description, size, source in zip(*columns, strict=True):
        told = found.setdefault(name, _Told())
        if rank >= 0:
            told.members.add(rank)
        told.size, told.description = max(told.size, size), told.description or description
        told.source = told.source or source
    return found


def _listed(column: Coded | Array) -> list[Any]:
    return [column.values[code] for code in column.codes.tolist()] if isinstance(column, Coded) else column.tolist()


def _carriers(part: Parts) -> dict[str, set[int]]:
    """Return the ranks whose calls name each group; channels between two ranks are no groups."""
    rows = part.get("collectives")
    if rows is None or not len(rows):
        return {}
    group: Coded = rows.columns["group"]
    ranks = rows.columns["rank"].astype(np.int64)
    span = int(ranks.max()) + 2
    pairs = pd.unique(group.codes.astype(np.int64) * span + ranks + 1)
    found: dict[str, set[int]] = {}
    for code, rank in zip((pairs // span).tolist(), (pairs % span - 1).tolist(), strict=True):
        name = group.values[code]
        if name and not name.startswith(CHANNEL):
            found.setdefault(name, set())
            if rank >= 0:
                found[name].add(rank)
    return found


def _identities(name: str, told: Sequence[_Told], carriers: set[int], world_size: int) -> list[Group]:
    """Return the communicators that one name stands for: one per full member set, all others are one more."""
    whole = list({frozenset(one.members): None for one in told if one.size > 0 and len(one.members) == one.size})
    loose = carriers | {rank for one in told for rank in one.members}
    loose -= {rank for members in whole for rank in members}
    groups = [Group(name, set(members), len(members)) for members in whole]
    if loose:
        size = max((one.size for one in told if not any(one.members <= members for members in whole)), default=-1)
        if size <= 0:
            size = world_size if name == "0" and world_size >= len(loose) else len(loose) if len(loose) > 1 else -1
        if len(groups) == 1 and size == groups[0].size:
            groups[0].members |= loose
        else:
            groups.append(Group(name, loose, max(size, len(loose)) if size > 0 else -1))
    for group in groups:
        fitting = [one for one in told if one.members & group.members] or list(told)
        group.description = next((one.description for one in fitting if one.description), "")
        group.source = next((one.source for one in fitting if one.source), "")
    if len(groups) > 1:
        taken: set[str] = set()
        for group in sorted(groups, key=lambda group: (min(group.members), -len(group.members))):
            lowest = f"{name}@{min(group.members)}"
            group.name = lowest if lowest not in taken else f"{lowest}x{len(group.members)}"
            taken.add(group.name)
    return groups


def _renamed(part: Parts, told: dict[str, _Told], final: dict[str, list[Group]]) -> Parts:
    """Return the tables of a file with final names in `collectives` and `ops`, and sizes where they were unknown."""
    made = dict(part)
    for table in ("collectives", "ops"):
        rows = part.get(table)
        if rows is None or not len(rows):
            continue
        group, size = _names(rows, told, final)
        changed: dict[str, Any] = {**rows.columns, "group": group}
        if table == "collectives":
            known = rows.columns["group_size"]
            changed["group_size"] = np.where(known > 0, known, size).astype(np.int32)
        made[table] = replace(rows, columns=changed)
    return made


def _names(rows: Part, told: dict[str, _Told], final: dict[str, list[Group]]) -> tuple[Coded, Array]:
    """Return final name and size of the group of each row; where a name stands for several, the row's rank decides."""
    group: Coded = rows.columns["group"]
    categories = list(group.values)
    codes = group.codes
    sizes = np.full(len(categories), -1, dtype=np.int64)
    values = list(categories)
    for place, name in enumerate(categories):
        groups = final.get(name, [])
        if len(groups) == 1:
            sizes[place] = groups[0].size
        elif groups:
            codes = _by_rank(rows, codes.astype(np.int64), place, _nearest_first(groups, told.get(name)), values)
            sizes = np.concatenate([sizes, [group.size for group in groups]])
        if name.startswith(CHANNEL):
            sizes[place] = 2
    unique = list(dict.fromkeys(values))
    at = {name: index for index, name in enumerate(unique)}
    moved = np.array([at[name] for name in values], dtype=np.int32)
    return Coded(moved[codes], unique), sizes[codes]


def _nearest_first(groups: list[Group], told: _Told | None) -> list[Group]:
    """Return the groups with the one that the file itself declares at the end, so that it is written last."""
    if told is None:
        return groups
    return sorted(groups, key=lambda group: group.members == told.members)


def _by_rank(rows: Part, codes: Array, place: int, groups: list[Group], values: list[str]) -> Array:
    mine = codes == place
    rank = rows.columns["rank"]
    for group in groups:
        codes[mine & np.isin(rank, list(group.members))] = len(values)
        values.append(group.name)
    return codes


def _table(groups: Iterable[Group]) -> pd.DataFrame:
    rows = [(group, rank) for group in groups for rank in sorted(group.members)]
    if not rows:
        return empty("groups")
    return frame("groups", {
        "job": "job", "group": [group.name for group, _ in rows], "rank": np.array([rank for _, rank in rows]),
        "description": [group.description for group, _ in rows],
        "group_size": np.array([group.size for group, _ in rows]), "source": [group.source for group, _ in rows],
    })  # fmt: skip
