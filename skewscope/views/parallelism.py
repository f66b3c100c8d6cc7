"""How is the job laid out: data, tensor, pipeline, expert and context parallel, and does that match what it declares?

Each communicator's kind is told from its name, from what runs on it, and from its ranks: tensor groups are neighbours
with many calls per step, data-parallel groups are strided and carry gradients, expert groups exchange all to all, and
messages between pairs make pipeline stages. Every answer comes with how sure it is, and why.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from skewscope.contracts import Frames, Picture, Shown
from skewscope.errors import NoData

from ._needed import HOW

Array = np.ndarray[Any, Any]
DIMENSIONS = ("dp", "tp", "pp", "ep", "cp")
NAMED = (
    ("ep", r"\bep\b|expert|moe"), ("tp", r"\btp\b|tensor"), ("cp", r"\bcp\b|context|sequence|\bsp\b"),
    ("pp", r"\bpp\b|pipe"), ("dp", r"\bdp\b|data|fsdp|shard|replicate|hsdp"),
)  # fmt: skip
MANY = 8.0  # calls per step above which neighbours that reduce are tensor parallel
MESSAGE = re.compile(r"^p2p:(\d+)-(\d+)$")


@dataclass(frozen=True)
class Parallelism:
    """The view; `declared` are sizes as "dp=4 tp=2" to compare with, by default those the recording declares."""

    declared: str = ""
    needs: ClassVar[tuple[str, ...]] = ()  # collectives or groups

    def show(self, tables: Frames) -> Shown:
        """Return the dimensions and the kinds of communicators; raises NoData without collectives of two ranks."""
        calls = tables["collectives"]
        if not len(calls) and not len(tables["groups"]):
            raise NoData(f"no collectives and no groups in the recording; {HOW['collectives']}")
        members = _members(tables)
        world = max((len(ranks) for ranks in members.values()), default=0)
        world = max(world, len(np.unique(np.concatenate([*members.values(), calls["rank"].to_numpy()]))))
        if world < 2:
            raise NoData(f"only one rank was recorded; {HOW['groups']}")
        kinds = _kinds(tables, members, world)
        dimensions = _dimensions(kinds, calls, _declared(self.declared, tables["ranks"]), world)
        pictures = (Picture("groups", "bars", "Calls per step on each kind of group", "kind", "calls_per_step_count"),)
        return Shown({"dimensions": dimensions, "groups": kinds}, _said(dimensions, world), _notes(kinds), pictures)


def _members(tables: Frames) -> dict[str, Array]:
    """Return the sorted ranks of each communicator, as declared, else as seen in its calls."""
    found: dict[str, Array] = {}
    for table in (tables["groups"], tables["collectives"]):
        pairs = table[["group", "rank"]].drop_duplicates() if len(table) else table
        for name, ranks in pairs.groupby("group", observed=True)["rank"] if len(pairs) else ():
            known = np.unique(ranks.to_numpy())
            if not MESSAGE.match(str(name)) and len(known) > len(found.get(str(name), ())):
                found[str(name)] = known
    return found


def _kinds(tables: Frames, members: dict[str, Array], world: int) -> pd.DataFrame:
    """Return one row per kind, size and distance of groups, what runs on them, and why they are taken for that kind."""
    calls, groups = tables["collectives"], tables["groups"]
    said = (
        {str(name): str(text) for name, text in zip(groups["group"], groups["description"], strict=True)}
        if len(groups)
        else {}
    )
    steps = max(int(calls["step"][calls["step"] >= 0].nunique()), 1) if len(calls) else 1
    traffic = _traffic(calls, members, steps)
    rows = []
    for name, ranks in members.items():
        apart = np.diff(ranks)
        stride = int(apart[0]) if len(apart) and (apart == apart[0]).all() else 0
        ops, per_step, moved = traffic.get(name, ((), 0.0, np.nan))
        kind, sure, why = kind_of(said.get(name, "") or name, ops, per_step, len(ranks), stride, world)
        rows.append(
            (
                kind,
                len(ranks),
                stride,
                "-".join(map(str, ranks[[0, -1]].tolist())),
                per_step,
                moved,
                ", ".join(ops),
                sure,
                why,
            )
        )
    columns = [
        "kind",
        "group_size",
        "stride",
        "example",
        "calls_per_step_count",
        "moved_per_step_bytes",
        "ops",
        "confidence_ratio",
        "why",
    ]
    table = pd.DataFrame(rows, columns=columns)
    over = table.groupby(["kind", "group_size", "stride"], sort=True)
    made = over.first()
    made.insert(0, "groups_count", over.size())
    made["confidence_ratio"] = over["confidence_ratio"].max()
    return made.reset_index()


def _traffic(
    calls: pd.DataFrame, members: dict[str, Array], steps: int
) -> dict[str, tuple[tuple[str, ...], float, float]]:
    """Return of each group its operations (most calls first), calls and bytes per step of a member."""
    if not len(calls):
        return {}
    over = calls.groupby(["group", "op"], observed=True)["message_bytes"].agg(["size", "sum"]).reset_index()
    found = {}
    for name, part in over.groupby("group", observed=True):
        if str(name) in members:
            share = len(members[str(name)]) * steps
            ops = part.sort_values(["size", "op"], ascending=[False, True])["op"].astype(str)
            found[str(name)] = (
                tuple(ops),
                float(part["size"].sum()) / share,
                float(part["sum"].clip(lower=0).sum()) / share,
            )
    return found


def kind_of(
    name: str, ops: Sequence[str], per_step: float, size: int, stride: int, world: int
) -> tuple[str, float, str]:
    """Return what a communicator is for, how sure that is (0..1), and why.

    >>> kind_of("mesh_tp", ("all_reduce",), 40.0, 4, 1, 16)[:2]
    ('tp', 0.95)
    >>> kind_of("17", ("reduce_scatter", "all_gather"), 4.0, 4, 4, 16)[:2]
    ('dp', 0.7)
    """
    plain = re.sub(r"[_\W\d]+", " ", name.lower())
    if size == 1:
        return "alone", 0.9, "one rank"
    told = next((kind for kind, pattern in NAMED if re.search(pattern, plain)), "")
    if told:
        return told, 0.95, f"it is called {name}"
    main = ops[0] if ops else ""
    if main in ("all_to_all", "dispatch", "combine"):
        return "ep", 0.7, f"its ranks exchange by {main}"
    if size == world:
        whole = any(op in ("all_reduce", "reduce_scatter", "all_gather") for op in ops)
        return ("dp", 0.6, "all ranks reduce or gather together") if whole else ("world", 0.8, "it holds every rank")
    if stride == 1 and per_step >= MANY and main in ("all_reduce", "all_gather", "reduce_scatter"):
        return "tp", 0.7, f"neighbours that {main} {per_step:.0f} times a step"
    if stride > 1 and any(op in ("all_reduce", "reduce_scatter", "all_gather") for op in ops):
        return "dp", 0.7, f"every {stride}. rank, with {main} {per_step:.0f} times a step"
    if not ops:
        return "unknown", 0.2, "nothing ran on it"
    return "unknown", 0.3, f"{main} {per_step:.0f} times a step on ranks with no clear pattern"


def _stages(calls: pd.DataFrame) -> tuple[int, str]:
    """Return how many ranks stand in a row of messages from rank to rank, and what tells it; 0 for no messages."""
    names = {MESSAGE.match(str(name)) for name in calls["group"].unique()} if len(calls) else set()
    pairs = {(int(found[1]), int(found[2])) for found in names if found}
    peers = (
        calls[(calls["op"].isin(["send", "recv"])).to_numpy() & (calls["peer"] >= 0).to_numpy()]
        if len(calls)
        else calls
    )
    if len(peers):
        both = peers[["rank", "peer"]].drop_duplicates().to_numpy()
        pairs |= {(int(one), int(other)) for one, other in both}
    if not pairs:
        return 0, ""
    parent = {one: one for pair in pairs for one in pair}

    def root(one: int) -> int:
        while parent[one] != one:
            parent[one] = one = parent[parent[one]]
        return one

    for one, other in pairs:
        parent[root(one)] = root(other)
    sizes = pd.Series([root(one) for one in parent]).value_counts()
    return int(sizes.median()), f"messages join {int(sizes.median())} ranks in a row ({len(sizes)} rows)"


def _declared(text: str, ranks: pd.DataFrame) -> dict[str, int]:
    """Return the declared sizes: of the setting, else of the coordinates of ranks.

    >>> _declared("dp=4 tp=2", pd.DataFrame())
    {'dp': 4, 'tp': 2}
    """
    told = {name: int(size) for name, size in re.findall(r"(\w+)\s*=\s*(\d{1,9})\b", text)}
    seen = {name: int(ranks[name].max()) + 1 for name in DIMENSIONS if len(ranks) and (ranks[name] >= 0).any()}
    return told or seen


def _dimensions(kinds: pd.DataFrame, calls: pd.DataFrame, given: dict[str, int], world: int) -> pd.DataFrame:
    """Return one row per dimension: its size, how sure that is, why, and whether the declared size agrees."""
    found = {name: _size(kinds, name) for name in DIMENSIONS}
    stages, told = _stages(calls)
    if stages > 1:
        found["pp"] = (stages, 0.9, told)
    others = found["tp"][0] * found["pp"][0] * found["cp"][0]
    if found["dp"][0] == 1 and world % others == 0 and world > others:
        found["dp"] = (world // others, 0.5, f"{world} ranks over the other dimensions")
    rows = [
        (name, size, sure, why, given.get(name, -1), given.get(name, -1) in (-1, size))
        for name, (size, sure, why) in found.items()
    ]
    columns = ["dimension", "ranks_count", "confidence_ratio", "why", "declared_count", "agrees"]
    return pd.DataFrame(rows, columns=columns)


def _size(kinds: pd.DataFrame, name: str) -> tuple[int, float, str]:
    """Return the size of the groups of a kind, how sure it is, and why."""
    mine = kinds[kinds["kind"] == name].sort_values(
        ["confidence_ratio", "groups_count"], ascending=False, kind="stable"
    )
    if not len(mine):
        return 1, 0.5, "no group of its kind"
    first = mine.to_dict("records")[0]
    return int(first["group_size"]), float(first["confidence_ratio"]), str(first["why"])


def _said(dimensions: pd.DataFrame, world: int) -> tuple[str, ...]:
    parts = [
        f"{one['dimension']} {one['ranks_count']}" for one in dimensions.to_dict("records") if one["ranks_count"] > 1
    ]
    said = [f"{world} ranks: {', '.join(parts) or 'no dimension could be told'}."]
    wrong = dimensions[~dimensions["agrees"].astype(bool)]
    said += [
        f"The job declares {one['dimension']} {one['declared_count']}, the traffic looks like {one['ranks_count']} "
        f"({one['why']})."
        for one in wrong.to_dict("records")
    ]
    return tuple(said)


def _notes(kinds: pd.DataFrame) -> tuple[str, ...]:
    unknown = int(kinds["groups_count"][kinds["kind"] == "unknown"].sum())
    return (f"The purpose of {unknown} communicators could not be told.",) if unknown else ()
