"""Which alarms burn elsewhere: what the Alertmanagers have that fires, so that nothing is done in the midst of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

from ..web.access import Access
from ..web.opened import opened
from ..web.shown import hidden

PATH = "/api/v2/alerts?active=true&silenced=false&inhibited=false"
TIMEOUT_S, MOST_BYTES = 10.0, 16 << 20
Labels = Mapping[str, str]


@dataclass(frozen=True)
class Alarms:
    """Asks Alertmanagers; none are asked where there is none."""

    urls: Sequence[str]
    access: Access = field(default_factory=Access)

    def burning(self) -> tuple[tuple[Labels, ...], str]:
        """Return the labels of all alerts that fire, and why they are not known ("" they are)."""
        found: list[Labels] = []
        for url in self.urls:
            try:
                found += _labels(self._asked(url.rstrip("/") + PATH))
            except (OSError, HTTPException, ValueError) as error:
                reason = getattr(error, "reason", error)
                return (), f"it is not known which alarms burn: {hidden(url)}: {reason}"
        return tuple(found), ""

    def _asked(self, url: str) -> object:
        with opened(url, self.access, timeout_s=TIMEOUT_S, headers={"Accept": "application/json"}) as answer:
            return json.loads(answer.read(MOST_BYTES))


def _labels(told: Any) -> list[Labels]:  # noqa: ANN401 - any JSON value
    if not isinstance(told, list):
        raise ValueError("the answer is no list of alerts")
    return [{str(name): str(text) for name, text in one["labels"].items()} for one in told]
