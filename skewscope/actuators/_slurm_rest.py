"""Talks to Slurm through slurmrestd: version v0.0.39 of its interface (Slurm 23.02) or newer."""

from __future__ import annotations

import json
import time
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import quote

from ..acts import Step, plain_text
from ..errors import UsageError
from ..web.access import Access
from ..web.opened import opened
from ..web.post import check
from ..web.shown import hidden
from ._slurm_hostlist import expand, listed
from ._slurm_programs import Unsent
from ._slurm_state import Reservation, Told

HTTP = "http"
OLDEST = 39
LISTS = ("features", "active_features")
NAMES = {"active_features": "features_act"}
MOST_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Rest:
    """slurmrestd at `url`; the token stands in a file and is read again for each request."""

    url: str
    version: str
    user: str
    token_file: str = ""
    ca_file: str = ""
    timeout_s: float = 20.0

    def told(self) -> Told:
        """Return what Slurm says now; raises Unsent."""
        nodes, jobs = self._get("nodes")["nodes"], self._get("jobs")["jobs"]
        reserved = tuple(
            Reservation(str(one["name"]), listed(one.get("node_list")), tuple(one.get("flags") or ()))
            for one in self._get("reservations")["reservations"]
        )
        return Told(nodes, jobs, reserved, {}, time.time_ns())

    def node(self, name: str, changes: Mapping[str, Any]) -> Step:
        """Return what changes fields of a node."""
        return self._post(
            f"node/{quote(name, safe='')}", {NAMES.get(key, key): _value(key, to) for key, to in changes.items()}
        )

    def exclude(self, job: str, nodes: str) -> Step:
        """Return what changes the nodes that a pending job must not get."""
        return self._post(f"job/{quote(job, safe='')}", {"excluded_nodes": list(expand(nodes))})

    def requeue(self, job: str) -> None:
        """There is no such call."""

    def start_soon(self, job: str) -> None:
        """There is no such call without a requeue."""

    def reserve(self, one: Reservation, users: str, minutes: int) -> None:
        """There is no such call in all versions."""

    def unreserve(self, name: str) -> None:
        """There is no such call in all versions."""

    def send(self, step: Step) -> str:
        """Carry out one step; raises Unsent. Return "", as nothing is to be remarked."""
        method, path = step.words
        self._ask(method, path, json.dumps(step.body).encode())
        return ""

    def _post(self, path: str, body: Mapping[str, Any]) -> Step:
        return Step(HTTP, ("POST", f"/slurm/{self.version}/{path}"), dict(body))

    def _get(self, what: str) -> dict[str, Any]:
        return self._ask("GET", f"/slurm/{self.version}/{what}", None)

    def _ask(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        where = f"{hidden(self.url)} {method} {path}"
        try:
            with self._opened(method, path, body) as reply:
                told = json.loads(reply.read(MOST_BYTES) or b"{}")
        except urllib.error.HTTPError as error:
            raise self._refused(where, error) from None
        except (OSError, HTTPException, ValueError) as error:
            raise Unsent(f"{where}: {plain_text(str(getattr(error, 'reason', None) or error))}", again=True) from None
        if not isinstance(told, dict):
            raise Unsent(f"{where}: no JSON object came")
        if complaints := told.get("errors"):
            raise Unsent(f"{where}: {_complaint(complaints)}")
        return told

    def _opened(self, method: str, path: str, body: bytes | None) -> HTTPResponse:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "X-SLURM-USER-NAME": self.user}
        if self.token_file:
            bearer = Access(bearer_token_file=self.token_file).lines()["Authorization"]
            headers["X-SLURM-USER-TOKEN"] = bearer.removeprefix("Bearer ")
        return opened(
            self.url.rstrip("/") + path, Access(ca_file=self.ca_file), timeout_s=self.timeout_s, method=method,
            body=body, headers=headers, follow=False, proxies={},
        )  # fmt: skip

    def _refused(self, where: str, error: urllib.error.HTTPError) -> Unsent:
        with error:
            told = error.read(2000).decode("utf-8", "replace")
        if error.code == 404 and "openapi" in told:
            return Unsent(f"{where}: this slurmrestd does not serve {self.version}; {MEND}")
        return Unsent(
            f"{where}: status {error.code}: {plain_text(_reason(told))}", again=error.code in (429, 502, 503, 504)
        )


MEND = f"node updates came with v0.0.{OLDEST} (Slurm 23.02): set rest_version to one it serves, or leave rest_url out"


def checked(url: str, version: str) -> None:
    """Raise UsageError for an address or version that cannot be used."""
    check(url)
    number = version.removeprefix("v0.0.")
    if number == version or not number.isdecimal():
        raise UsageError(f"rest_version {plain_text(version, 20)!r}: wants one as v0.0.{OLDEST}")
    if int(number) < OLDEST:
        raise UsageError(f"rest_version {version}: it can read nodes but not update them; {MEND}")


def _value(key: str, value: Any) -> Any:  # noqa: ANN401 - JSON values of several kinds
    if key in LISTS:
        return [one for one in value.split(",") if one]
    if key == "state":
        return [value]
    return {"set": True, "infinite": False, "number": value} if key == "weight" else value


def _reason(told: str) -> str:
    try:
        return _complaint(json.loads(told)["errors"])
    except (ValueError, LookupError, TypeError):
        return told


def _complaint(complaints: list[Mapping[str, Any]]) -> str:
    one = complaints[0]
    return plain_text(str(one.get("description") or one.get("error") or one))
