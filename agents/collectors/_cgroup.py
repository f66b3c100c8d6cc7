"""What the path of a process's control group tells: the Slurm job, the Kubernetes pod, the container."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ._proc import Kept, whole

# job_123 below slurm, slurm_<node>, slurmstepd.scope or <node>_slurmstepd.scope; Slurm 26.05 names jobs by SLUID
SLURM = re.compile(r"/[^/]*slurm[^/]*/(?:uid_\d+/)?(?:job_([^/\n]+)|(s[0-9A-Z]{8,})(?=/|$))", re.MULTILINE)
# a pod's uid has dashes, underscores (below systemd) or, for static pods, neither
POD = re.compile(r"kubepods.*?pod([0-9a-f]{8}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{12})")
CONTAINER = re.compile(r"[/:-]([0-9a-f]{64})(?:\.scope)?(?:/|:|$)", re.MULTILINE)
CONTAINER_LETTERS = 12  # as container tools show it
DEEPEST = 12


@dataclass(frozen=True)
class Owner:
    """To whom a process belongs: `job_id` as `source` ("slurm", "kubernetes", "") names it; `path` is its group."""

    source: str = ""
    job_id: str = ""
    pod: str = ""
    container: str = ""
    path: str = ""


def owner(text: str) -> Owner:
    """Return the owner that <proc>/PID/cgroup tells of.

    >>> owner("0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0").job_id
    '7'
    >>> owner("0::/user.slice/user-0.slice/session-3.scope").path
    '/user.slice/user-0.slice/session-3.scope'
    """
    slurm, pod, container = SLURM.search(text), POD.search(text), CONTAINER.search(text)
    pod_uid = pod[1].replace("_", "-") if pod else ""
    source, job_id = ("slurm", slurm[1] or slurm[2]) if slurm else ("kubernetes" if pod else "", pod_uid)
    return Owner(source, job_id, pod_uid, container[1][:CONTAINER_LETTERS] if container else "", _path(text))


def _path(text: str) -> str:
    """Return the path that says most: of the unified hierarchy, else of the longest of the others."""
    paths = [line.split(":", 2)[2] for line in text.splitlines() if line.count(":") >= 2]
    unified = [line[3:] for line in text.splitlines() if line.startswith("0::")]
    return next((path for path in unified if path != "/"), max(paths, key=len, default=""))


def throttled(text: str, mounted: str) -> list[Kept]:
    """Return the `cpu.stat` of a process's groups that have a CPU quota or could have one, innermost first.

    `text` is <proc>/PID/cgroup, `mounted` where control groups are mounted. Quotas of pods lie above their containers.
    """
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        folders = [mounted, f"{mounted}/unified"] if not controllers else []
        if "cpu" in controllers.split(","):
            folders = [f"{mounted}/{controllers}", f"{mounted}/cpu"]
        for folder in folders:
            files = _stats(folder, path)
            if files:
                return files
    return []


def _stats(folder: str, path: str) -> list[Kept]:
    if ".." in path.split("/"):
        return []  # a group outside of what this namespace shows
    parts = [part for part in path.split("/") if part]
    names = ["/".join((folder, *parts[:depth], "cpu.stat")) for depth in range(len(parts), 0, -1)]
    return [Kept(name, 1024) for name in names[:DEEPEST] if b"nr_throttled" in whole(name)]


def throttled_s(files: list[Kept]) -> float | None:
    """Return the greatest time for which a quota held up one of the groups, in s; None where none tells."""
    longest: float | None = None
    for file in files:
        for line in file.read().splitlines():
            name, _, value = line.partition(b" ")
            if name in (b"throttled_usec", b"throttled_time") and value.isdigit():
                seconds = int(value) / (1e6 if name == b"throttled_usec" else 1e9)
                longest = seconds if longest is None else max(longest, seconds)
    return longest
