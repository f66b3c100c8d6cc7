"""Scenarios: a fleet, its jobs and its faults, as a TOML file says them."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

from ..catalogue import room, rooms
from ..errors import UsageError

KINDS = ("training", "serving", "rl")
FABRICS = ("roce", "infiniband")
WINDOW_NS = 30_000_000_000
SHAPES = ("", "steady", "ramp", "bursts")
Plan = TypeVar("Plan")


@dataclass(frozen=True)
class FleetPlan:
    """Machines: `spares` stand idle beside those that jobs fill; `hardware` is h100 or a100."""

    hardware: str = "h100"
    fabric: str = "roce"
    gpus_per_node: int = 8
    nodes_per_rack: int = 4
    spares: int = 1
    history_days: float = 0.0  # of accounting before the run


@dataclass(frozen=True)
class JobPlan:
    """One job. `step_s` is a usual step; the shares are those of exposed transfers; serving reads `requests_per_s`."""

    name: str = "job"
    kind: str = "training"
    ranks: int = 64
    steps: int = 600
    step_s: float = 2.0
    tp: int = 4
    pp: int = 1
    cp: int = 1
    ep: int = 1
    microbatches: int = 16
    start_s: float = 60.0
    first_slot: int = 0  # GPUs of its first host that others hold, so that its ranks begin in the middle of one
    tp_share: float = 0.06
    dp_share: float = 0.12
    ep_share: float = 0.08
    pp_share: float = 0.01
    jitter_ratio: float = 0.012
    checkpoint_steps: int = 200
    checkpoint_s: float = 8.0
    eval_steps: int = 0
    eval_s: float = 12.0
    warmup_steps: int = 10
    ramp_steps: int = 0
    tokens: int = 8192
    requests_per_s: float = 2.0  # serving: per replica at the mean of the day
    transfer_s: float = 0.0  # serving: a request's KV cache from where its prompt is read; 0 where that is the same GPU
    attention_ranks: int = 1  # serving: of a replica, where its GPUs split attention by requests
    rollout_share: float = 0.5  # rl: part of the step that is generation
    rollout_tail_ratio: float = 0.30  # rl: spread (of the logarithm) of generation times
    generator_share: float = 0.0  # rl: of the replicas, those that only generate while others train; 0: all do both

    @property
    def dp(self) -> int:
        """Data-parallel replicas."""
        return self.ranks // (self.tp * self.pp * self.cp)


@dataclass(frozen=True)
class FaultPlan:
    """One fault. `onset` and `end` are shares of the nominal run; an empty `target` is drawn by the seed."""

    condition: str
    target: str = ""
    severity: float = 0.0  # 0 takes the condition's own default
    onset: float = 0.35
    end: float = 1.0
    shape: str = ""  # "" lets the seed choose among what is physical


@dataclass(frozen=True)
class NoisePlan:
    """What happens besides faults; `confounders` are harmless events that look like some."""

    confounders: bool = True
    missed_scrapes_ratio: float = 0.003
    maintenance: bool = False


@dataclass(frozen=True)
class Scenario:
    """The whole of it; `about` is the line that lists show."""

    name: str
    about: str = ""
    fleet: FleetPlan = field(default_factory=FleetPlan)
    jobs: tuple[JobPlan, ...] = (JobPlan(),)
    faults: tuple[FaultPlan, ...] = ()
    noise: NoisePlan = field(default_factory=NoisePlan)
    start_ns: int = 1_750_000_020_000_000_000

    def sized(self, ranks: int = 0, steps: int = 0) -> Scenario:
        """Return the same with the first job of so many ranks and steps (0: as it is); raises UsageError."""
        first = self.jobs[0]
        job = dataclasses.replace(first, ranks=ranks or first.ranks, steps=steps or first.steps)
        return checked(dataclasses.replace(self, jobs=(job, *self.jobs[1:])), self.name)


def shipped() -> dict[str, Scenario]:
    """Return the shipped scenarios by name, sorted."""
    found = files(__package__) / "scenarios"
    named = {place.name.removesuffix(".toml"): place for place in found.iterdir() if place.name.endswith(".toml")}
    return {name: load(named[name]) for name in sorted(named)}


def scenario(name_or_path: str) -> Scenario:
    """Return a shipped scenario by name, or one of a TOML file; raises UsageError with near names."""
    if name_or_path.endswith(".toml") or Path(name_or_path).is_file():
        return load(Path(name_or_path))
    place = files(__package__) / "scenarios" / f"{name_or_path}.toml"
    if place.is_file():
        return load(place)
    from difflib import get_close_matches

    near = get_close_matches(name_or_path, list(shipped()), n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "`skewscope simulate --list` lists them"
    raise UsageError(f"no scenario is called {name_or_path!r}; {hint}")


def load(place: Path | Traversable) -> Scenario:
    """Return the scenario of one TOML file; raises UsageError naming file and key."""
    try:
        text = place.read_text("utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{place}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # also of numbers with thousands of digits
        raise UsageError(f"{place}: not TOML: {error}") from None
    return parse(content, place.name.removesuffix(".toml"), str(place))


def parse(content: dict[str, Any], name: str, where: str = "scenario") -> Scenario:
    """Return the scenario that decoded TOML says; raises UsageError naming file and key.

    >>> parse({"about": "x", "jobs": [{"ranks": 16}]}, "small").jobs[0].dp
    4
    """
    top = {"about", "fleet", "jobs", "faults", "noise", "start_ns"}
    for key in content:
        if key not in top:
            raise UsageError(f"{where}: unknown key {key!r}; there are {', '.join(sorted(top))}")
    parts: dict[str, Any] = {key: content[key] for key in ("about", "start_ns") if key in content}
    if not isinstance(parts.get("about", ""), str) or not isinstance(parts.get("start_ns", 0), int):
        raise UsageError(f"{where}: about must be text and start_ns a whole number")
    if "fleet" in content:
        parts["fleet"] = _plan(FleetPlan, content["fleet"], f"{where}: fleet")
    if "noise" in content:
        parts["noise"] = _plan(NoisePlan, content["noise"], f"{where}: noise")
    for key, kind in (("jobs", JobPlan), ("faults", FaultPlan)):
        if key in content:
            listed = content[key] if isinstance(content[key], list) else [content[key]]
            parts[key] = tuple(_plan(kind, one, f"{where}: {key}[{at}]") for at, one in enumerate(listed))
    return checked(Scenario(name, **parts), where)


def _plan(kind: type[Plan], given: object, where: str) -> Plan:
    if not isinstance(given, dict):
        raise UsageError(f"{where}: must be a table")
    declared = {one.name: one for one in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key, value in given.items():
        if key not in declared:
            raise UsageError(f"{where}.{key}: unknown key; there are {', '.join(declared)}")
        wanted = str(declared[key].type)
        fits = {"str": str, "int": int, "float": (int, float), "bool": bool}[wanted]
        if not isinstance(value, fits) or (isinstance(value, bool) and wanted != "bool"):  # type: ignore[arg-type]
            raise UsageError(f"{where}.{key}: wants {wanted}, not {value!r}")
    try:
        return kind(**given)
    except TypeError:
        raise UsageError(f"{where}: condition is missing") from None


def checked(given: Scenario, where: str) -> Scenario:
    """Return the scenario as it is; raises UsageError for what cannot be meant."""
    if given.fleet.fabric not in FABRICS or given.fleet.hardware not in ("h100", "a100"):
        raise UsageError(f"{where}: fleet.fabric is one of {', '.join(FABRICS)}, fleet.hardware is h100 or a100")
    if given.fleet.gpus_per_node < 1 or given.fleet.nodes_per_rack < 1 or not given.jobs:
        raise UsageError(f"{where}: fleet.gpus_per_node and nodes_per_rack are at least 1, and there is a job")
    if not 0 <= given.fleet.history_days <= 90:
        raise UsageError(f"{where}: fleet.history_days is 0 to 90")
    if given.start_ns < 0 or given.start_ns % WINDOW_NS:
        raise UsageError(f"{where}: start_ns must be a multiple of 30 s ({WINDOW_NS})")
    names = [job.name for job in given.jobs]
    if len(set(names)) < len(names):
        raise UsageError(f"{where}: jobs need different names")
    for at, job in enumerate(given.jobs):
        _check_job(job, f"{where}: jobs[{at}]")
    known = [one.id for one in rooms("simulate.faults")]
    for at, fault in enumerate(given.faults):
        if fault.condition not in known:
            room("simulate.faults", fault.condition)  # raises with near names
        if not 0 <= fault.onset < fault.end or fault.severity < 0 or fault.shape not in SHAPES:
            raise UsageError(f"{where}: faults[{at}]: 0 <= onset < end, severity >= 0, shape one of {SHAPES[1:]}")
    return given


def _check_job(job: JobPlan, where: str) -> None:
    if job.kind not in KINDS:
        raise UsageError(f"{where}.kind: {job.kind!r} is none of {', '.join(KINDS)}")
    small = min(job.ranks, job.steps, job.tp, job.pp, job.cp, job.ep, job.microbatches, job.tokens, job.attention_ranks)
    if small < 1 or not job.step_s > 0 or job.start_s < 0:
        raise UsageError(f"{where}: ranks, steps, sizes and step_s must be above 0")
    if job.first_slot < 0 or (job.first_slot and job.kind == "serving"):
        raise UsageError(f"{where}.first_slot: at least 0, and 0 where replicas serve")
    if job.ranks % (job.tp * job.pp * job.cp) or job.dp % job.ep:
        raise UsageError(f"{where}.ranks: {job.ranks} is no multiple of tp*pp*cp, or dp {job.dp} none of ep")
    if not 0 <= job.generator_share < 1:
        raise UsageError(f"{where}.generator_share: a share of the replicas, 0 or more and below 1")
    if job.tp_share + job.dp_share + job.ep_share + job.pp_share > 0.8:
        raise UsageError(f"{where}: the shares of transfers leave no time to compute")
