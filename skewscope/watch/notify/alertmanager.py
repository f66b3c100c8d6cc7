"""Keeps Alertmanager's alerts as incidents are: live ones are sent again each window, ended ones with their end.

Alertmanager knows an alert by its labels, so sending it again makes no second one, nor does a restart of either side.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...web.access import Access
from ...web.post import Undelivered, check, post
from ..files import read_json, write_json
from .messages import Incident, alert, labels

RESOLVES_NS = 150 * 10**9  # an alert that is not sent again ends after five windows
TELL_END_NS = 900 * 10**9  # ends are repeated so long, for an Alertmanager that was away
PATH = "/api/v2/alerts"
SENT = "skewscope.sent/1"  # the file of this version does not say so: it has incidents only
log = logging.getLogger("skewscope.watch")


class Alertmanager:
    """One Alertmanager. `folder` remembers with which labels each incident was sent; `name` is its number."""

    def __init__(self, url: str, access: Access | None = None, folder: Path | None = None, name: str = "0") -> None:
        self.name = f"alertmanager-{name}"
        self._url = check(url).rstrip("/") + PATH
        self._access = access
        self._file = folder / f"{self.name}.json" if folder else None
        self._sent: dict[str, list[dict[str, Any]]] = {}
        self.counts: Counter[str] = Counter()
        self.waiting = 0
        if self._file:
            try:
                self._sent = _checked(read_json(self._file, SENT) or {})
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.error("%s is damaged (%s); alerts with former labels end by themselves", self._file, error)

    def tell(self, incidents: Iterable[Incident], now_ns: int, link: str) -> bool:
        """Send all alerts as they are at `now_ns`; False where they were not taken, for the next window to try."""
        alerts: list[Mapping[str, Any]] = []
        known = {one["id"]: one for one in incidents}
        before, self._sent = self._sent, {}
        for name, incident in known.items():
            alerts += self._alerts(name, incident, before.get(name, []), now_ns, link)
        self._save(before)
        return self._post(alerts) if alerts else True

    def _alerts(
        self, name: str, incident: Incident, sent: list[dict[str, Any]], now_ns: int, link: str
    ) -> list[Mapping[str, Any]]:
        """Return the alerts of one incident: with its labels of now, and ends of those with former ones."""
        closed, own = incident["state"] == "closed", labels(incident)
        former = [one for one in sent if one["labels"] != own or closed]
        ended = [{**one, "end_ns": one.get("end_ns") or incident["closed_ns"] or now_ns} for one in former]
        ended = [one for one in ended if now_ns - one["end_ns"] < TELL_END_NS]
        self._sent[name] = ended if closed else [{"labels": own}, *ended]
        if not self._sent[name]:
            del self._sent[name]
        told: list[Mapping[str, Any]] = [alert(one["labels"], incident, one["end_ns"], link) for one in ended]
        return told if closed else [alert(own, incident, now_ns + RESOLVES_NS, link), *told]

    def _post(self, alerts: list[Mapping[str, Any]]) -> bool:
        try:
            post(self._url, json.dumps(alerts).encode(), self._access)
        except Undelivered as error:
            self.counts["failed" if error.final else "retried"] += 1
            self.waiting = len(alerts)
            log.warning("%s does not take alerts: %s; the next window tries again", self.name, error)
            return False
        self.counts["sent"] += len(alerts)
        self.waiting = 0
        return True

    def _save(self, before: Mapping[str, Any]) -> None:
        if self._file and self._sent != before:
            try:
                write_json(self._file, self._sent)
            except OSError as error:
                log.error("cannot write %s: %s", self._file, error)


def _checked(kept: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return what a file held; raises KeyError, TypeError or ValueError for what `tell` did not write."""
    return {
        str(name): [
            {"labels": {str(label): str(value) for label, value in one["labels"].items()}}
            | ({"end_ns": int(one["end_ns"])} if "end_ns" in one else {})
            for one in some
        ]
        for name, some in kept.items()
    }
