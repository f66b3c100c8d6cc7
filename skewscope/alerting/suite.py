"""All rule files with their tests, in the form of each system that takes them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from . import causes, host_label, recording, scenes
from .alert import Alert
from .findings import Watched, watched
from .timeline import EVALUATION_S, timeline

FORMATS = ("prometheus", "crd", "victoriametrics")
RECORDING, CAUSES, FINDINGS = "skewscope-recording", "skewscope-causes", "skewscope-findings"
Document = dict[str, Any]


@dataclass(frozen=True)
class Suite:
    """What is written: alerts of causes with their category, those on findings, and the label that names hosts."""

    causes: tuple[tuple[str, Alert], ...]
    findings: tuple[Watched, ...]
    host: str = host_label.INSTANCE
    recorded: tuple[Document, ...] = field(default_factory=lambda: tuple(recording.rules()))

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """Return all alerts."""
        return (*(alert for _, alert in self.causes), *(one.alert for one in self.findings))

    def rules(self, *, keeps: bool = True) -> dict[str, Document]:
        """Return the rule files by name; `keeps=False` leaves out what old versions of vmalert refuse."""
        files = {RECORDING: list(self.recorded)}
        files |= {name: [alert.rule(keeps=keeps) for alert in alerts] for name, alerts in self._by_file().items()}
        files[FINDINGS] = [one.alert.rule(keeps=keeps) for one in self.findings]
        return {name: {"groups": [{"name": name, "rules": rules}]} for name, rules in files.items() if rules}

    @cached_property
    def tests(self) -> dict[str, Document]:
        """The files of rule tests by the name of the rule file that they test."""
        found = {}
        if self.recorded:
            found[RECORDING] = _tests([RECORDING], recording.tests())
        for name, alerts in self._by_file().items():
            needs = [RECORDING, name] if any(map(recording.needed, alerts)) else [name]
            found[name] = _tests(needs, self._of_causes(alerts))
        if self.findings:
            found[FINDINGS] = _tests([FINDINGS], _of_findings(self.findings))
        return found

    def _by_file(self) -> dict[str, list[Alert]]:
        """Return the alerts of causes by rule file: one for each category, so that their tests stay quick."""
        found: dict[str, list[Alert]] = {}
        for category, alert in self.causes:
            found.setdefault(f"{CAUSES}-{category}", []).append(alert)
        return dict(sorted(found.items()))

    def _of_causes(self, alerts: Iterable[Alert]) -> Iterator[Document]:
        for alert in alerts:
            told = recording.scenes(alert) if recording.needed(alert) else scenes.of_room(alert, self.host)
            for scene in told:
                yield scenes.test(alert, scene, timeline(alert))


def suite(
    only: Collection[str] = (), *, host: str = host_label.INSTANCE, runbook_url: str = "{id}", for_scale: float = 1.0
) -> Suite:
    """Return the rules of all rooms and of the watch, or of the rooms named in `only` alone."""
    told = tuple(causes.alerts(only, host=host, runbook_url=runbook_url, for_scale=for_scale))
    whole = tuple(watched(runbook_url=runbook_url, for_scale=for_scale)) if not only else ()
    needed = not only or any(recording.needed(alert) for _, alert in told)
    return Suite(told, whole, host, tuple(recording.rules()) if needed else ())


def custom_resource(name: str, document: Mapping[str, Any]) -> Document:
    """Return a rule file as a PrometheusRule of the Prometheus operator."""
    labels = {"app.kubernetes.io/name": "skewscope", "role": "alert-rules"}
    return {
        "apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule",
        "metadata": {"name": name, "labels": labels}, "spec": dict(document),
    }  # fmt: skip


def _tests(files: Iterable[str], tests: Iterable[Document]) -> Document:
    return {
        "rule_files": [f"{name}.rules.yml" for name in files], "evaluation_interval": f"{EVALUATION_S}s",
        "tests": list(tests),
    }  # fmt: skip


def _of_findings(found: Iterable[Watched]) -> Iterator[Document]:
    for one in found:
        line = timeline(one.alert)
        for scene in one.scenes():
            test = scenes.test(one.alert, scene, line)
            if scene.whole and one.shown:
                rule = one.alert.rule()
                told = {"exp_labels": {**one.labels, **rule["labels"]},
                        "exp_annotations": {**rule["annotations"], "description": one.shown}}  # fmt: skip
                test["alert_rule_test"] = [
                    {"alertname": one.alert.name, "eval_time": f"{line.seen_s}s", "exp_alerts": [told]}
                ]
            yield test
