"""Rank and size of a job in the environment that launchers give to its processes."""

from __future__ import annotations

from collections.abc import Mapping

RANK = ("RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "PALS_RANKID", "SLURM_PROCID",
        "FLUX_TASK_RANK")  # fmt: skip
WORLD = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS",
         "SLURM_NTASKS", "FLUX_JOB_SIZE")  # fmt: skip
DIGITS = 9


def rank(environment: Mapping[str, str]) -> int:
    """Return the rank, that of torchrun before those of launchers of processes, -1 where none is told.

    >>> rank({"SLURM_PROCID": "7", "RANK": "3"}), rank({"RANK": "x"})
    (3, -1)
    """
    return _first(environment, RANK)


def world_size(environment: Mapping[str, str]) -> int:
    """Return the number of ranks, -1 where it is not told.

    >>> world_size({"OMPI_COMM_WORLD_SIZE": "16"})
    16
    """
    return _first(environment, WORLD)


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> int:
    texts = (environment.get(name, "").strip() for name in names)
    return next((int(text) for text in texts if text.isascii() and text.isdecimal() and len(text) <= DIGITS), -1)
