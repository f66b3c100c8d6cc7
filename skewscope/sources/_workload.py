"""What a table of counts that names no job is called: several such files side by side are several workloads."""

from __future__ import annotations

import re
from pathlib import Path

ENDING = re.compile(r"(\.(npz|npy|csv|json|jsonl|gz|parquet|txt))+$", re.IGNORECASE)
BARE = re.compile(r"(expert_?)?(counts?|loads?|trace|frequency|statistics?)", re.IGNORECASE)


def workload(path: Path) -> str:
    """Return the file's name without its ending, that of its folder where it says nothing.

    >>> workload(Path("a/code_prefill.npz")), workload(Path("a/counts.npz"))
    ('code_prefill', 'a')
    """
    stem = ENDING.sub("", path.name) or path.name
    return path.absolute().parent.name or stem if BARE.fullmatch(stem) else stem
