"""What a recording holds beside the tables that are read in parts: ranks, groups, samples, events, the job file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..recording import Recording
from . import _gather_jobs, _gather_parts, _gather_ranks
from ._gather import _checked, _input, _recording
from ._gather_pool import read_all


def gather_rest(paths: Sequence[Path], workers: int = 0) -> Recording:
    """Return what these files hold of one job, which may be nothing; every file has its `Input`, in their order."""
    drafts = read_all(paths, workers)
    ordered = [drafts[path] for path in paths]
    _gather_parts.join(ordered)
    kept = _gather_jobs.one_job(ordered)
    _gather_ranks.with_rank_names(kept)
    _gather_ranks.with_nodes(kept)
    parts = _checked(kept)
    kept = [draft for draft in kept if draft.readable]
    return _recording(kept, parts, [_input(draft) for draft in ordered], set())
