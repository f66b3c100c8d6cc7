"""An Alertmanager configuration to start from: who is paged, who gets tickets, and what hides what."""

from __future__ import annotations

from typing import Any

HEAD = """# An example: put in the addresses of your receivers. Check it with `amtool check-config alertmanager.yml`.
# What hides what: a job that stands still hides the rest of that job; a switch or rack hides its hosts' findings;
# a node hides that its ranks are late. Alerts on hardware and hosts stay: they say why.
"""
# What a job that stands still shows besides; alerts on hardware and hosts may be its reason and are never hidden.
SLOW = (
    "StragglerNode|StragglerRotates|Coll.*|MissingRank|SlowGroup|Step.*|TpStraggler|Pp.*|DataLoaderStall"
    "|ExposedCommunication"
)


def configuration() -> dict[str, Any]:
    """Return the routes by severity, the rules of inhibition and receivers on loopback."""
    return {
        "route": {
            "receiver": "tickets", "group_by": ["alertname", "job_id"],
            "group_wait": "30s", "group_interval": "5m", "repeat_interval": "12h",
            "routes": [
                {"receiver": "pager", "matchers": ['severity="critical"'], "group_wait": "10s",
                 "repeat_interval": "1h"},
                {"receiver": "tickets", "matchers": ['severity="warning"'],
                 "group_by": ["condition", "node", "job_id"]},
                {"receiver": "context", "matchers": ['severity="info"'], "repeat_interval": "24h"},
            ],
        },
        "inhibit_rules": [
            {"source_matchers": ['alertname="SkewscopeJobStopped"'], "equal": ["job_id"],
             "target_matchers": [f'alertname=~"Skewscope({SLOW})"', 'job_id!=""']},
            {"source_matchers": ['alertname="SkewscopeJobStopped"'], "equal": ["job_id"],
             "target_matchers": ['alertname="SkewscopeJobGpuHoursLost"']},
            {"source_matchers": ['alertname="SkewscopeSwitchSuspect"', 'job_id!=""'], "equal": ["job_id"],
             "target_matchers": ['alertname=~"Skewscope(StragglerNode|Coll.*|SlowGroup)"']},
            {"source_matchers": ['alertname="SkewscopeStragglerNode"', 'node!=""'], "equal": ["node", "job_id"],
             "target_matchers": ['condition=~"coll-late-rank|tp-straggler|coll-slow-group"']},
            {"source_matchers": ['alertname="SkewscopeTelemetryStale"'], "equal": [],
             "target_matchers": ['alertname="SkewscopeNodeSilent"']},
            {"source_matchers": ['alertname=~"SkewscopeWatch(Down|Stalled)"'], "equal": [],
             "target_matchers": ['alertname="SkewscopeWatchSlow"']},
        ],
        "receivers": [
            {"name": name, "webhook_configs": [{"url": f"http://127.0.0.1:9099/{name}", "send_resolved": True}]}
            for name in ("pager", "tickets", "context")
        ],
    }  # fmt: skip
