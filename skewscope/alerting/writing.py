"""Writes rules, tests, pages and examples into a folder, and lets promtool and amtool check what was written."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from . import alertmanager, apart, grafana, pages, promtool
from .suite import Suite, custom_resource
from .text import dumped

RULES, TESTS, ROUTES = ".rules.yml", ".test.yml", "alertmanager.yml"
HEAD = "# Written by `skewscope rules`; change the thresholds there, not here.\n"
NO_KEEPING = HEAD + "# Without keep_firing_for, which vmalert takes from 1.92 on.\n"
SCRAPE = """# Scraping for these rules: `instance` tells hosts apart. Where it does not (pods), give targets a label
# `node` and write the rules with --node-label node.
rule_files: [skewscope-*.rules.yml]
alerting: {alertmanagers: [{static_configs: [{targets: ["127.0.0.1:9093"]}]}]}
scrape_configs:
  - job_name: skewscope-fast
    metrics_path: /metrics/fast
    scrape_interval: 15s
    static_configs: [{targets: ["node001:9709", "node002:9709"]}]
  - job_name: skewscope-slow
    metrics_path: /metrics/slow
    scrape_interval: 30s
    static_configs: [{targets: ["node001:9709", "node002:9709"]}]
  - job_name: skewscope-watch
    scrape_interval: 15s
    static_configs: [{targets: ["127.0.0.1:9710"]}]
"""


def files(suite: Suite, formats: Collection[str]) -> dict[str, str]:
    """Return the text of every file by its path below the folder; `formats` as in `suite.FORMATS`."""
    whole = bool(suite.findings)
    found: dict[str, str] = {}
    if "prometheus" in formats:
        found |= {f"{name}{RULES}": dumped(document, HEAD) for name, document in suite.rules().items()}
        found |= {f"{name}{TESTS}": dumped(document, HEAD) for name, document in suite.tests.items()}
        found |= (
            {ROUTES: dumped(alertmanager.configuration(), alertmanager.HEAD), "prometheus.yml": SCRAPE} if whole else {}
        )
    if "crd" in formats:
        found |= {f"kubernetes/{name}.yml": dumped(custom_resource(name, document), HEAD)
                  for name, document in suite.rules().items()}  # fmt: skip
    if "victoriametrics" in formats:
        found |= {f"victoriametrics/{name}{RULES}": dumped(document, NO_KEEPING)
                  for name, document in suite.rules(keeps=False).items()}  # fmt: skip
    found |= {f"runbooks/{name}.md": text for name, text in pages.pages(suite.alerts).items()}
    if whole:
        found["grafana/skewscope.json"] = json.dumps(grafana.dashboard(), indent=2) + "\n"
    return found


def check(folder: Path, written: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield (file, complaint) of every file that promtool or amtool knows, "" for no complaint.

    Raises UsageError where promtool is not installed.
    """
    for name in sorted(name for name in written if name.endswith(RULES)):
        yield name, promtool.check_rules([folder / name])
    for name in sorted(name for name in written if name.endswith(TESTS)):
        yield name, apart.test_rules(folder / name)
    if ROUTES in written:
        yield ROUTES, promtool.check_routes(folder / ROUTES)


def counts(suite: Suite) -> Mapping[str, int]:
    """Return how many alerts page, make tickets and give context, and how many tests there are."""
    severities = [alert.severity for alert in suite.alerts]
    tests = sum(len(document["tests"]) for document in suite.tests.values())
    told = {"alerts": len(severities), "recorded": len(suite.recorded), "tests": tests}
    return told | {name: severities.count(name) for name in ("critical", "warning", "info")}
