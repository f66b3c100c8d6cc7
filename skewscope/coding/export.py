"""Codes and schedules as files that a trainer can read: who computes which chunks, with which coefficients, when."""

from __future__ import annotations

import json
from io import BytesIO, StringIO
from pathlib import PurePath
from typing import Any

import numpy as np

from ..errors import UsageError
from .approximate import Approximate
from .families import Scheme
from .fractional import Fractional, members
from .heterogeneous import Heterogeneous, layout
from .m_sgc import MSgc
from .matrices import Code
from .sr_sgc import SrSgc
from .uncoded import Uncoded


def matrix_file(code: Code, path: str) -> bytes:
    r"""Return the content of `path` for a code: .npy (fp64), .csv, or .json with groups and chunks per worker.

    Raises UsageError for another suffix.

    >>> from skewscope.coding.matrices import build
    >>> matrix_file(build("fractional", 2, 0), "code.csv")
    b'1,0\n0,1\n'
    """
    suffix = PurePath(path).suffix
    if suffix == ".npy":
        raw = BytesIO()
        np.save(raw, code.matrix, allow_pickle=False)
        return raw.getvalue()
    if suffix == ".csv":
        text = StringIO()
        np.savetxt(text, code.matrix, delimiter=",", fmt="%.17g")
        return text.getvalue().encode()
    if suffix == ".json":
        return (json.dumps(code_document(code), indent=1) + "\n").encode()
    raise UsageError(f"{path}: a code is written as .npy, .csv or .json")


def code_document(code: Code) -> dict[str, Any]:
    """Return a code as plain values: per worker its chunks and coefficients, and the groups of repetition codes."""
    held = [np.flatnonzero(row) for row in code.matrix]
    return {
        "code": code.kind, "workers": len(code.matrix), "chunks": code.matrix.shape[1], "losses": code.losses,
        "load": code.load, "groups": code.groups.tolist(),
        "worker_chunks": [part.tolist() for part in held],
        "worker_coefficients": [code.matrix[worker, part].tolist() for worker, part in enumerate(held)],
    }  # fmt: skip


def schedule(scheme: Scheme) -> dict[str, Any]:
    """Return who computes what in which round, for a run of any length.

    Chunks are numbered, with their sizes as shares of the batch. `slots` says which job a worker's k-th task of a round
    belongs to: the job opened `back` rounds ago.

    >>> schedule(MSgc(3, 1, 2, 1))["slots"][1]
    {'slot': 1, 'back': 1, 'task': 'repeat or coded', 'group': 0}
    """
    known = {"load": scheme.load, "delay_rounds": scheme.delay_rounds, "promise": scheme.promise}
    if isinstance(scheme, MSgc):
        return {**known, **_m_sgc(scheme)}
    if isinstance(scheme, Fractional | Approximate | Heterogeneous):
        return {**known, **_one_round(scheme)}
    n = scheme.workers
    losses = 0 if isinstance(scheme, Uncoded) else scheme.losses
    made = {**known, "chunk_sizes": [1 / n] * n, "worker_chunks": cyclic(n, losses)}
    if isinstance(scheme, SrSgc):
        return {**made, "back": scheme.burst_rounds, "losses": losses, "round": (
            f"of the workers without a result for the job of {scheme.burst_rounds} rounds ago, all but {losses} repeat "
            "it, in the order of their ranks; everybody else works on the new job")}  # fmt: skip
    return {**made, "round": f"return one combination of your chunks; any {n - losses} results give the gradient"}


def _one_round(scheme: Fractional | Approximate | Heterogeneous) -> dict[str, Any]:
    """Return the chunks of schemes whose workers hold more or less than s + 1 neighbouring ones."""
    if isinstance(scheme, Heterogeneous):
        chunks, held = scheme.partitions, layout(np.array(scheme.copies), scheme.partitions)
        done = f"return one combination of your chunks; the last {scheme.losses} workers are not waited for"
    else:
        chunks = scheme.groups if isinstance(scheme, Fractional) else scheme.workers // scheme.copies
        held = list(members(scheme.workers, chunks)[:, None])
        whole = isinstance(scheme, Fractional)
        ends = "when every group has a result" if whole else f"without the last {scheme.losses} workers"
        done = f"return the sum over your chunk; the round ends {ends}"
    return {"chunk_sizes": [1 / chunks] * chunks, "worker_chunks": [one.tolist() for one in held], "round": done}


def cyclic(workers: int, losses: int) -> list[list[int]]:
    """Return the chunks of each worker in a cyclic code.

    >>> cyclic(3, 1)
    [[0, 1], [1, 2], [2, 0]]
    """
    return ((np.arange(workers)[:, None] + np.arange(losses + 1)) % workers).tolist()  # type: ignore[no-any-return]


def _m_sgc(scheme: MSgc) -> dict[str, Any]:
    """Return the chunks of M-SGC: private ones first, (W - 1) per worker, then B groups of n that are coded."""
    n, burst, private, most = scheme.workers, scheme.burst_rounds, scheme.window_rounds - 1, scheme.late_workers
    coded = most < n
    unit = 1 / (n * (burst + private * (most + 1))) if coded else 0.0
    size = (most + 1) * unit if coded else 1 / (n * private)
    slots: list[dict[str, Any]] = [
        {"slot": slot, "back": slot, "task": "private", "chunk": slot} for slot in range(private)
    ]
    task = "repeat or coded" if coded else "repeat"
    slots += [
        {"slot": private + group, "back": private + group, "task": task, "group": group} for group in range(burst)
    ]
    first = n * private
    groups = [[[first + group * n + chunk for chunk in held] for held in cyclic(n, most)] for group in range(burst)]
    return {
        "chunk_sizes": [size] * first + ([unit] * (burst * n) if coded else []),
        "worker_private_chunks": [list(range(worker * private, (worker + 1) * private)) for worker in range(n)],
        "worker_group_chunks": groups if coded else [],
        "slots": slots, "jobs_in_flight": scheme.delay_rounds + 1,
        "round": "do the slots in order; a repeat slot redoes a private chunk of its job that was lost, and where none "
                 "was lost returns the coded result of its group",
    }  # fmt: skip
