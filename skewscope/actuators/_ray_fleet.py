"""What Ray says of its nodes, asked by a program of a few lines that runs in Ray's own Python.

Ray tells over HTTP which nodes live, but not which are being drained: only its control store knows that. Whose drain
it is, it tells once the node is gone; until then our own notes must.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..acts import OWNER, Fleet, NodeState
from ..errors import SkewscopeError

GROUP = "ray.io/node-group"
HEAD = "node:__internal_head__"
NOBODY = "somebody else, by Ray"
PROBE = """
import json, sys
from ray._private.state import GlobalState
from ray._raylet import GcsClientOptions
state = GlobalState()
state._initialize_global_state(
    GcsClientOptions.create(sys.argv[1], None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False)
)
told = {"nodes": state.node_table(), "draining": state.get_draining_nodes()}
told |= {"free": state.available_resources_per_node(), "all": state.total_resources_per_node()}
print(json.dumps(told, default=str))
"""


def fleet(scheduler: str, told: Any, notes: Mapping[str, str]) -> Fleet:  # noqa: ANN401 - whatever came
    """Return the nodes by host name (by Ray's own where hosts hold several); raises SkewscopeError.

    `notes` holds the reasons of our own drains by Ray's id of the node. Dead nodes are left out, but those of ours.
    """
    try:
        rows = list(told["nodes"])
        names = Counter(row["NodeManagerHostname"] for row in rows if row["Alive"])
        found: dict[str, NodeState] = {}
        for row in sorted(rows, key=lambda row: bool(row["Alive"])):  # a living one takes the place of a dead one
            name = row["NodeManagerHostname"] if names[row["NodeManagerHostname"]] < 2 else row["NodeName"]
            node = _living(name, row, told, notes) if row["Alive"] else _dead(name, row)
            if node is not None:
                found[node.name] = node
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SkewscopeError(f"Ray told of its nodes in another way than is known: {error!r}") from None
    return Fleet(scheduler, found, {}, time.time_ns())


def _living(name: str, row: Mapping[str, Any], told: Mapping[str, Any], notes: Mapping[str, str]) -> NodeState:
    id_ = str(row["NodeID"])
    draining = id_ in told["draining"]
    mine = notes.get(id_, "") if draining else ""
    owner = "" if not draining else OWNER if mine else NOBODY
    head = HEAD in row["Resources"]
    group = row.get("Labels", {}).get(GROUP)
    return NodeState(
        str(name), not draining, owner, mine or ("is being drained" if draining else ""), _is_idle(id_, told),
        groups=(str(group),) if group else (), native={"node_id": id_, "alive": True, "head": head},
    )  # fmt: skip


def _is_idle(id_: str, told: Mapping[str, Any]) -> bool:
    free, whole = told["free"].get(id_), told["all"].get(id_)
    if free is None or whole is None:
        return False
    return all(free.get(kind, 0.0) == whole.get(kind, 0.0) for kind in ("CPU", "GPU"))


def _dead(name: str, row: Mapping[str, Any]) -> NodeState | None:
    reason = str(row.get("DeathReasonMessage") or "")
    if not reason.startswith(f"{OWNER}:"):
        return None
    native = {"node_id": str(row["NodeID"]), "alive": False, "head": False}
    return NodeState(str(name), schedulable=False, owner=OWNER, reason=reason, idle=True, native=native)
