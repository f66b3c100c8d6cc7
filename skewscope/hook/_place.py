"""Who this process is and where its ring goes: rank, job, device, folder."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

SPOOL = Path("/run/skewscope/spool")
_LOCAL_RANKS = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK")
_JOBS = ("SKEWSCOPE_JOB", "SLURM_JOB_ID", "TORCHELASTIC_RUN_ID")


def job_name() -> str:
    """Return the job's name from the environment, "job" where it holds none."""
    return next((os.environ[name] for name in _JOBS if os.environ.get(name)), "job")


def rank_and_world() -> tuple[int, int] | None:
    """Return (rank, world size), from torch.distributed once it is initialised; None where nobody knows yet."""
    dist = sys.modules.get("torch.distributed")
    if dist is not None and dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    rank = _number("RANK")
    return None if rank < 0 else (rank, _number("WORLD_SIZE"))


def local_rank() -> int:
    """Return the rank on this node, -1 where it is unknown."""
    return next((_number(name) for name in _LOCAL_RANKS if name in os.environ), -1)


def device() -> tuple[int, str]:
    """Return (index, uuid) of this process's GPU as NVML knows it, (-1, "") where there is none; never starts CUDA."""
    cuda = sys.modules.get("torch.cuda")
    if cuda is None or not cuda.is_initialized():
        return -1, ""
    index = cuda.current_device()
    uuid = str(getattr(cuda.get_device_properties(index), "uuid", ""))
    visible = [word.strip() for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word.strip()]
    if visible:  # CUDA counts what is visible, NVML counts all; a uuid in the list has no index of its own
        index = int(visible[index]) if index < len(visible) and visible[index].isdecimal() else -1
    return index, uuid if not uuid or uuid.startswith("GPU-") else f"GPU-{uuid}"


def spool(asked: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder for the ring: the one asked for, else a private one.

    A spool is made by the agent or the administrator, never here. Where it is missing or closed to us, a folder that
    only this user can enter takes its place, and only that one is made. Raises OSError where neither will do.
    """
    wanted = Path(asked or os.environ.get("SKEWSCOPE_SPOOL") or SPOOL)
    if wanted.is_dir() and os.access(wanted, os.W_OK | os.X_OK):
        return wanted
    return private(Path(os.environ.get("XDG_RUNTIME_DIR") or "/nonexistent"), Path("/tmp"))  # noqa: S108 - it is checked


def private(runtime: Path, temporary: Path) -> Path:
    """Return a folder of mode 0700 below the user's runtime folder, or below the one for temporary files."""
    uid = os.getuid()
    if runtime.is_dir() and runtime.stat().st_uid == uid and os.access(runtime, os.W_OK | os.X_OK):
        folder = runtime / "skewscope"
    else:
        folder = temporary / f"skewscope-{uid}"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    found = folder.lstat()
    # Anybody may make this name below /tmp first: a link or a foreign folder would hand our records to its owner.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(f"{folder} is not a folder of this user alone (mode 0700)")
    return folder


def _number(name: str) -> int:
    try:
        return int(os.environ.get(name, ""))
    except ValueError:
        return -1
