"""A policy file to start from: every key with its default, and what it does."""

from __future__ import annotations

import dataclasses

from .explained import toml
from .sections import MODES
from .settings import SCHEMA, SECTIONS

HEAD = f"""\
# The policy of skewscope: what may be done to the cluster, when, and how much of it at once.
# Each key stands here with its default and may be left out. `skewscope policy check FILE` explains and checks it.
# Times are in seconds where a name ends in _s; shares go from 0 to 1.

schema = "{SCHEMA}"

# Guard 1: nothing is done until somebody says so: {", ".join(MODES)}. It holds where no scheduler says otherwise.
mode = "observe"

# Each scheduler may have a mode of its own, and so may partitions or node pools, or nodes by name: of several that
# hold for a node, the most cautious counts. The other keys are the settings of the scheduler's actuator.
#
# [schedulers.slurm]
# mode = "approve"
# dry_run = true                 # false: for real, at once; left out: a dry run for dry_run.first_days
#
# [schedulers.slurm.groups.canary]
# mode = "act"
# nodes = ["n1*"]
"""


def template() -> str:
    """Return the text of the file.

    >>> template().splitlines()[4]
    'schema = "skewscope.policy/1"'
    """
    return "\n".join([HEAD, *(_section(name) for name in SECTIONS)])


def _section(name: str) -> str:
    kind = SECTIONS[name]
    usual, about = kind(), (kind.__doc__ or "").strip().splitlines()[0]
    lines = [f"# {about}", f"[{name}]"]
    for one in dataclasses.fields(kind):
        lines += [f"# {one.metadata['does']}", f"{one.name} = {toml(getattr(usual, one.name))}"]
    return "\n".join(lines) + "\n"
