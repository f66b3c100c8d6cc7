"""What stands on nodes as we wrote it down ourselves: for actuators to which nobody else tells it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..acts import LADDER, Fleet, NodeState, Outcome, Request
from ..errors import SkewscopeError
from . import _verdicts, _whole_file


def remembered(scheduler: str, folder: str, names: Sequence[str]) -> Fleet:
    """Return the listed nodes, and those with a file, with the acts that stand on them; raises SkewscopeError."""
    written = set(_whole_file.names_in(folder))
    nodes = {}
    for name in dict.fromkeys((*names, *sorted(written))):
        content = _whole_file.read(_whole_file.file_of(folder, name)) if name in written else None
        nodes[name] = _verdicts.state(name, content)
    return Fleet(scheduler, nodes, read_ns=time.time_ns(), complete=bool(names))


def looked(scheduler: str, folder: str, names: Sequence[str]) -> Fleet:
    """Return the listed nodes with what we remember of them; without a folder nothing but their names is known."""
    if folder:
        return remembered(scheduler, folder, names)
    return Fleet(scheduler, {name: NodeState(name, idle=False) for name in names}, {}, time.time_ns(), bool(names))


def kept(folder: str, request: Request, event: str, told: str) -> Outcome:
    """Write down that an act was sent ("act") or taken back ("undo"), where there is a folder; return what came of it.

    Where that fails the act has been done all the same: it says so, for people, and is found missing at the next look.
    """
    if not folder or request.verb not in LADDER:
        return Outcome("done", told)
    path = _whole_file.file_of(folder, request.target)
    try:
        with _whole_file.locked(folder):
            acts = _verdicts.acts_of(_whole_file.read(path))
            if acts is None:
                raise SkewscopeError(f"{path} is somebody else's")
            others = [one for one in acts if one["act"] != request.act]
            stands = [*others, _verdicts.entry(request)] if event == "act" else others
            _whole_file.write(path, _verdicts.document(request.target, stands))
    except SkewscopeError as error:
        return Outcome("done", f"{told}; but it could not be written down: {error}")
    return Outcome("done", told)
