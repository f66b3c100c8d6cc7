"""The programs that skewscope works with: which are there, and what they are for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from .answer import Answer

# For each purpose the names a program goes by, and what to do where none is there.
WANTED = {
    "GPU driver tools": (("nvidia-smi", "rocm-smi"), "reads GPUs by hand; comes with the driver"),
    "InfiniBand tools": (("ibstat", "rdma"), "apt-get install rdma-core infiniband-diags"),
    "Prometheus": (("prometheus",), "apt-get install prometheus; or none: `watch --scrape` needs no server"),
    "rule checker": (("promtool",), "comes with prometheus; `rules --check` wants it"),
    "Alertmanager": (("prometheus-alertmanager", "alertmanager"), "apt-get install prometheus-alertmanager"),
    "Slurm": (("scontrol",), "apt-get install slurm-client; only for --scheduler slurm"),
    "torchrun": (("torchrun",), "comes with torch; `skewscope run` starts any launcher"),
}


def programs() -> Iterator[Answer]:
    """Yield one answer for each purpose; what is absent is no trouble unless it is wanted."""
    for purpose, (names, mend) in WANTED.items():
        found = [place for name in names if (place := shutil.which(name))]
        if found:
            yield Answer("programs", purpose, "ok", found[0])
        else:
            yield Answer("programs", purpose, "absent", f"no {' or '.join(names)} on the path", mend)
