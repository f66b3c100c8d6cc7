"""The metrics of acting: who acts, what was done, what of the budgets is spent, what has been fenced for how long."""

from __future__ import annotations

from .acting import Acting
from .exposition import Row


def rows(acting: Acting) -> dict[str, list[Row]]:
    """Return the rows by family, as `skewscope.metrics` declares them."""
    told = acting.account
    turned: list[Row] = [((), told.turned_ns / 1e9)] if told.mine and told.turned_ns >= 0 else []
    return {
        "skewscope_act_leader": _alone(told.mine),
        "skewscope_act_last_turn_timestamp_seconds": turned,
        "skewscope_act_turn_seconds": _alone(acting.took_s),
        "skewscope_act_working": _alone(not acting.trouble),
        "skewscope_act_records_total": [(key, float(count)) for key, count in sorted(told.counts.items())],
        "skewscope_act_proposals_waiting": _alone(told.waiting),
        "skewscope_act_breaker_open": _alone(bool(told.breaker)),
        "skewscope_act_scheduler_up": [((name,), float(not text)) for name, text in told.troubles.items()],
        "skewscope_act_nodes_out": [
            ((name, by), float(budget[by])) for name, budget in told.budgets.items() for by in ("ours", "foreign")
        ],
        "skewscope_act_budget_used_ratio": [
            ((name, kind), used / limit if limit else 1.0)
            for name, budget in told.budgets.items()
            for kind, used, limit in (
                ("at_once", budget["out"], budget["at_once"]), ("per_day", budget["day"], budget["per_day"]),
            )
        ],
        "skewscope_act_fenced_seconds": [(key, age_s) for key, age_s in sorted(told.fenced_s.items())],
        "skewscope_act_trust_ratio": [((name,), share) for name, share in sorted(told.trust.items())],
    }  # fmt: skip


def _alone(value: float) -> list[Row]:
    return [((), float(value))]
