"""The terminal's section on experts: the ladder, each definition beside the others, drift, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .wording import UNKNOWN, clean, seconds, share

Entry = Mapping[str, Any]
LADDER = {
    "now": "now", "held_out": "plan, on later windows", "plan": "plan, on its own window",
    "group_bound": "bound, groups kept on nodes", "bound": "bound, replicas of today", "ceiling": "noise ceiling",
}  # fmt: skip
SAID_BY = {
    "skewscope": "ours (mean of mean/max)", "vllm": "vLLM", "sglang": "SGLang", "trtllm_imbalance": "TensorRT-LLM "
    "(max-mean)/mean", "ascend_mean": "vLLM-Ascend mean max/mean", "ascend_max": "vLLM-Ascend worst", "slots": "slots",
}  # fmt: skip


def title(entry: Entry) -> str:
    """Return the title of an entry of the report's `moe`."""
    phase = f", {clean(entry['phase'])}" if entry["phase"] else ""
    name = f" of {clean(entry['job'])}" if entry["job"] not in ("", "job") else ""
    return f"Experts{name}{phase} ({entry['layers']} layers, {entry['experts']} experts, {entry['steps']} steps)"


def body(entry: Entry) -> RenderableType:
    """Return the section of one job and phase."""
    parts: list[RenderableType] = []
    if entry.get("ladder"):
        parts += [_ladder(entry), Text("")]
    grid = Table.grid(padding=(0, 2))
    for name, said in _lines(entry):
        grid.add_row(Text(name, style="bold"), Text(clean(said)))
    parts.append(grid)
    parts += [Text.assemble(("-> ", "bold"), clean(one["text"])) for one in entry.get("advice", ())]
    parts += [Text(f"- {clean(one)}", style="dim") for one in entry["warnings"][:3]]
    return Group(*parts)


def number(value: float | None) -> str:
    """Return a balance with three digits.

    >>> number(0.43456), number(None)
    ('0.435', '-')
    """
    return UNKNOWN if value is None else f"{value:.3f}"


def _ladder(entry: Entry) -> Table:
    rungs = entry["ladder"]
    worst = rungs["worst"][:3]
    grid = Table(box=None, pad_edge=False, padding=(0, 2))
    grid.add_column("Balance of GPUs")
    for name in ("all layers", *(f"layer {one['layer']}" for one in worst)):
        grid.add_column(name, justify="right")
    for name, said in LADDER.items():
        if rungs["mean"][name] is not None:
            grid.add_row(said, number(rungs["mean"][name]), *(number(one[name]) for one in worst))
    grid.add_row("what binds", rungs["limit"], *(one["binding"] for one in worst), style="bold")
    return grid


def _lines(entry: Entry) -> Iterator[tuple[str, str]]:
    if "basis" not in entry:
        return
    yield "GPUs", f"{entry['gpus'] or 'unknown'}: {entry['basis']}"
    if entry["definitions"]:
        yield "By each", ", ".join(f"{SAID_BY[name]} {number(one)}" for name, one in entry["definitions"].items())
    if entry["reported"]:
        yield "Engine said", ", ".join(f"{name} {number(one)}" for name, one in entry["reported"].items())
    yield "Experts", _experts(entry)
    if entry["drift"]:
        yield "Drift", _drift(entry["drift"])
    if entry["dead"]["share"]:
        yield "Dead", f"{share(entry['dead']['share'])} of experts got no token"
    alike, even = entry["design_effect"], entry["even_router"]
    picks = f"{entry['picks_per_step']:,.0f} picks a step, {alike:.1f} alike count as one"
    yield "Noise", f"{picks}; an even router would show {even:.2f} for the busiest expert"
    cost = entry["cost_s"]
    yield "Cost", "unknown in seconds" if cost is None else f"at least {seconds(cost)} of each step"


def _experts(entry: Entry) -> str:
    told = entry["expert_level"]
    hottest = ", ".join(f"layer {one['layer']} expert {one['expert']} {one['max_over_mean']:.1f}x"
                        for one in entry["hottest"][:3])  # fmt: skip
    return (
        f"busiest over mean {told['max_over_mean']['p50']:.2f} (median layer), Gini {told['gini']['mean']:.2f}, "
        f"entropy {told['entropy']['mean']:.3f}; hottest: {hottest}"
    )


def _drift(drift: Entry) -> str:
    most = max(drift["bits"], default=0.0)
    said = [f"at most {most:.4f} bits between windows beyond chance, {share(min(drift['hottest_kept'], default=1.0))} "
            "of the hottest stay"]  # fmt: skip
    said += [f"another workload from step {one['step']} on ({one['bits']:.3f} bits)" for one in drift["changes"]]
    if drift["bursts"]:
        said.append("bursts at steps " + ", ".join(f"{first}-{last}" for first, last in drift["bursts"][:4]))
    return "; ".join(said)
