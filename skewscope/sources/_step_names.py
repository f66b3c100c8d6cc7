"""What the columns of step logs are called in the wild, and what they mean here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

NS_PER = {
    "ns": 1, "nanoseconds": 1, "us": 1e3, "microseconds": 1e3, "ms": 1e6, "msec": 1e6, "milliseconds": 1e6, "s": 1e9,
    "sec": 1e9, "secs": 1e9, "seconds": 1e9,
}  # fmt: skip
STEP = ("step", "global_step", "iteration", "iter", "it", "train_step", "step_num", "step_id")
RANK = ("rank", "global_rank", "rank_id", "worker_rank")
HOST = ("host", "hostname", "node", "node_name", "host_name")
TOKENS = ("tokens", "num_tokens", "n_tokens", "work_tokens", "tokens_per_rank")
START = re.compile(r"(t_)?(start|begin|time|timestamp|ts|t|time_start|start_time|step_start|wall_time|unix_time)")
END = re.compile(r"(t_)?(end|stop|finish|end_time|step_end)")
WHOLE = re.compile(
    r"(train_)?(step|iter|iteration|batch)(_time|_duration|_length|_elapsed)?|(elapsed|duration)(_time)?(_per_\w+)?"
    r"|time_per_(step|iter|iteration)"
)
PHASES = (
    ("data", re.compile(r"data\w*|(data_?)?loader|load(ing)?|fetch\w*|input\w*|h2d")),
    ("other", re.compile(r"(forward|fwd)_?(backward|bwd)|(forward|fwd)_and_(backward|bwd)")),
    ("forward", re.compile(r"forward|fwd|fw|forward_pass|forward_compute")),
    ("backward", re.compile(r"backward|bwd|bw|backward_pass|backward_compute")),
    ("sync", re.compile(r"\w*sync\w*|all_?reduce|grad\w*_reduce|comm|communication|barrier")),
    ("optimizer", re.compile(r"optim\w*|opt(_step)?")),
    ("checkpoint", re.compile(r"(check_?point\w*|ckpt|save)(_save)?")),
    ("eval", re.compile(r"eval\w*|valid\w*")),
    ("gc", re.compile(r"gc|garbage\w*")),
)
METRICS = {
    "rx_bytes": "skewscope_host_network_received_bytes", "tx_bytes": "skewscope_host_network_transmitted_bytes",
    "rx_drop": "skewscope_host_network_receive_drops", "tx_drop": "skewscope_host_network_transmit_drops",
    "tcp_retrans_segs": "skewscope_host_tcp_retransmits",
    # torch.cuda.memory_stats(): counts since the process began
    "num_alloc_retries": "skewscope_gpu_allocator_retries", "num_ooms": "skewscope_gpu_allocator_failures",
}  # fmt: skip


@dataclass
class Meaning:
    """Which column is which: names as they stand in the log; times and lengths with nanoseconds per unit.

    A unit of 0 means that the size of the value must tell it.
    """

    step: str = ""
    rank: str = ""
    host: str = ""
    tokens: str = ""
    start: tuple[str, float] = ("", 0)
    end: tuple[str, float] = ("", 0)
    whole: tuple[str, float] = ("", 0)
    phases: list[tuple[str, str, float]] = field(default_factory=list)  # column, phase, nanoseconds per unit
    metrics: list[tuple[str, str]] = field(default_factory=list)  # column, metric

    @property
    def known(self) -> bool:
        """Whether these columns are a step log."""
        return bool(self.step and (self.whole[0] or self.start[0] and (self.end[0] or self.phases)))


@lru_cache(maxsize=256)
def meaning(columns: tuple[str, ...]) -> Meaning:
    """Return what the columns of a log mean; the first of several names for one thing counts.

    >>> found = meaning(("step", "t_start_ns", "step_ms", "fwd_ms"))
    >>> found.whole, found.phases
    (('step_ms', 1000000.0), [('fwd_ms', 'forward', 1000000.0)])
    """
    found = Meaning()
    for column in columns:
        plain = column.strip().lower().replace("-", "_").replace("/", "_")
        if not _label(found, column, plain):
            _time(found, column, plain)
    return found


def _label(found: Meaning, column: str, plain: str) -> bool:
    """Note a column that is no time; return whether it was one."""
    for field_name, names in (("step", STEP), ("rank", RANK), ("host", HOST), ("tokens", TOKENS)):
        if plain in names:
            if not getattr(found, field_name):
                setattr(found, field_name, column)
            return True
    if plain in METRICS:
        found.metrics.append((column, METRICS[plain]))
    return plain in METRICS


def _time(found: Meaning, column: str, plain: str) -> None:
    stem, _, unit = plain.rpartition("_")
    per = float(NS_PER.get(unit, 0))
    name = stem if per else plain
    if START.fullmatch(name):
        found.start = found.start if found.start[0] else (column, per)
    elif END.fullmatch(name):
        found.end = found.end if found.end[0] else (column, per)
    elif per and WHOLE.fullmatch(name):
        found.whole = found.whole if found.whole[0] else (column, per)
    elif per:
        phase = next((phase for phase, pattern in PHASES if pattern.fullmatch(name.removesuffix("_time"))), "other")
        found.phases.append((column, phase, per))
