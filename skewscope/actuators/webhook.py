"""Posts each act to an address of the site's own, signed: for in-house schedulers, bots and ticket systems."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..acts import VERBS, Command, Fleet, Outcome, Request, Step, Values
from ..errors import SkewscopeError, UsageError
from ..web.access import Access
from ..web.post import Undelivered, check, post
from ..web.shown import hidden
from . import _fleet_document
from ._asked import asked
from ._memory import kept, looked
from ._node_list import node_names
from ._records import LASTING, freed, marks, refused, request_of, stands, told_of, unfit


@dataclass(frozen=True)
class Webhook:
    """Posts `skewscope.act/1` to `url`, with "event": "act", or "undo" with the same act to take it back.

    Every 2xx means that it was taken; 429, 5xx and silence are tried again; what else comes is a refusal. The header
    `Idempotency-Key` is the same for each try. With `secret_file`, `X-Skewscope-Signature` is "sha256=" and the
    HMAC-SHA256 (hex) of `X-Skewscope-Timestamp`, "." and the body. `fleet_url` gives a `skewscope.fleet/1`: what nodes
    there are, who fenced them, what runs there. Without it, `nodes` (or `nodes_file`) lists them, and `memory` is a
    folder where skewscope writes down what it has sent; what lasts is only sent where what stands is known.

    Rights: those of the receiver. By hand: post the same document with "event": "undo".
    """

    name: ClassVar[str] = "webhook"
    url: str = ""
    fleet_url: str = ""
    memory: str = ""
    secret_file: str = ""
    bearer_token_file: str = ""
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    nodes: tuple[str, ...] = ()
    nodes_file: str = ""
    verbs: tuple[str, ...] = VERBS
    timeout_s: float = 10.0
    again_s: float = 30.0

    def look(self) -> Fleet:
        """Return what `fleet_url` tells, else what we remember; raises SkewscopeError where that fails."""
        if not self.fleet_url:
            return looked(self.name, self.memory, node_names(self.nodes, self.nodes_file))
        told = asked(self.fleet_url, self._access({}), timeout_s=self.timeout_s)
        return _fleet_document.fleet(self.name, told)

    def command(self, request: Request, fleet: Fleet) -> Command:
        """Return the document as it would be posted; refused for nodes that are not listed, or not ours."""
        why = unfit(request, self.verbs, fleet)
        if not why and request.verb in LASTING and not (self.fleet_url or self.memory):
            why = "set fleet_url, or memory: what stands is not known"
        return refused(request, self.name, why) if why else self._made(request, fleet, "act")

    def undo(self, record: Values, fleet: Fleet) -> Command:
        """Return the document that takes an act back; nothing where its fence is gone already."""
        request = request_of(record)
        why = unfit(request, (request.verb,), fleet)
        if why:
            return refused(request, self.name, why)
        if freed(record, fleet):
            return Command(request, self.name, nothing=True)
        return self._made(request, fleet, "undo")

    def _made(self, request: Request, fleet: Fleet, event: str) -> Command:
        try:
            step = Step("http", ("POST", hidden(check(self.url))), told_of(request, event))
        except UsageError as error:
            return refused(request, self.name, f"url: {error}")
        undo = {"act": request.act, "node": request.target} if event == "act" else {}
        return Command(request, self.name, (step,), *marks(request, fleet, event), undo)

    def apply(self, command: Command, *, dry_run: bool = True) -> Outcome:
        """Post it. A dry run posts nothing, for a receiver might not heed that it is one; it reads the secrets."""
        if command.refused:
            return Outcome("refused", command.refused)
        if command.nothing:
            return Outcome("nothing", "it is so already")
        (step,) = command.steps
        body = json.dumps(step.body, sort_keys=True).encode()
        key = step.body["act"] + ("/undo" if step.body["event"] == "undo" else "")
        try:
            access = self._access(self._signed(body, int(time.time())))
            access.lines()
            if not dry_run:
                post(check(self.url), body, access, key=key, timeout_s=self.timeout_s)
        except Undelivered as error:
            if error.final:
                return Outcome("refused", str(error))
            return Outcome("waiting", str(error), error.after_s or self.again_s)
        except SkewscopeError as error:
            return Outcome("failed", str(error))
        if dry_run:
            return Outcome("done", "could be posted")
        return kept(self.memory, command.request, step.body["event"], f"posted to {hidden(self.url)}")

    def _signed(self, body: bytes, time_s: int) -> dict[str, str]:
        if not self.secret_file:
            return {}
        return {"X-Skewscope-Timestamp": str(time_s), "X-Skewscope-Signature": signature(self._secret(), body, time_s)}

    def _secret(self) -> bytes:
        try:
            secret = Path(self.secret_file).read_bytes().strip()
        except OSError as error:
            raise UsageError(f"secret_file {self.secret_file}: cannot be read: {error.strerror}") from None
        if not secret:
            raise UsageError(f"secret_file {self.secret_file}: is empty")
        return secret

    def _access(self, headers: dict[str, str]) -> Access:
        return Access(
            bearer_token_file=self.bearer_token_file, ca_file=self.ca_file, certificate_file=self.certificate_file,
            key_file=self.key_file, headers=headers,
        )  # fmt: skip

    def holds(self, record: Values, fleet: Fleet) -> bool | None:
        """Return whether the act stands, as the fleet or our memory tells; None where neither does."""
        return stands(record, fleet) if self.fleet_url or self.memory else None


def signature(secret: bytes, body: bytes, time_s: int) -> str:
    """Return what a receiver works out, and compares with the header by `hmac.compare_digest`.

    >>> signature(b"key", b"{}", 0)[:17]
    'sha256=7314351dd9'
    """
    return "sha256=" + hmac.new(secret, f"{time_s}.".encode() + body, hashlib.sha256).hexdigest()
