"""What people answer to recommendations and proposals: approve, snooze or reject, with a reason, never changed."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flask

from skewscope.errors import UsageError
from skewscope.reports import wording

from . import _act_answers
from ._act_answers import Question
from ._act_records import ACTION
from ._plain import hidden, page, refusal, text
from ._security import Guard
from ._view import View

SCHEMA = "skewscope.decision/1"
ACTIONS = {"approve": "Approve", "snooze": "Snooze", "reject": "Reject"}
KEY = re.compile(r"[A-Za-z0-9_-]{16,64}")
LONGEST_REASON, KEPT, KEPT_KEYS = 500, 200, 10_000
SNOOZES_S = {"1 hour": 3_600, "8 hours": 28_800, "1 day": 86_400, "1 week": 604_800}
log = logging.getLogger("skewscope.dashboard")


class Audit:
    """An append-only file of decisions, one JSON line each; raises UsageError where it cannot be used."""

    def __init__(self, path: Path, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.path, self._clock_ns = path, clock_ns
        self._lock = threading.Lock()
        self._keys: dict[str, None] = {}
        self._latest: deque[Mapping[str, Any]] = deque(maxlen=KEPT)
        self.count = 0
        try:
            with open(path, "a+", encoding="utf-8") as file:
                file.seek(0)
                for line in file:
                    self._note(line)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--audit {path}: cannot be read and appended to: {error}") from None

    def now_ns(self) -> int:
        """Return the time that decisions get."""
        return self._clock_ns()

    def latest(self) -> tuple[Mapping[str, Any], ...]:
        """Return the latest decisions, newest first."""
        with self._lock:
            return tuple(reversed(self._latest))

    def knows(self, key: str) -> bool:
        """Return whether a decision with this key is written down."""
        with self._lock:
            return key in self._keys

    def record(self, key: str, told: Mapping[str, Any]) -> bool:
        """Write a decision down; False where `key` was recorded before, which changes nothing. Raises OSError."""
        with self._lock:
            if key in self._keys:
                return False
            line = json.dumps({"schema": SCHEMA, "time_ns": self._clock_ns(), "key": key, **told}) + "\n"
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(handle, line.encode())
                os.fsync(handle)
            finally:
                os.close(handle)
            self._note(line)
            return True

    def _note(self, line: str) -> None:
        try:
            told = json.loads(line)
        except ValueError:
            told = None
        if not isinstance(told, dict) or told.get("schema") != SCHEMA:
            if isinstance(told, dict) and told.get("schema") == ACTION:  # a line of ours would break its chain
                raise UsageError(f"--audit {self.path} is the record of what an engine did; give answers another file")
            if line.strip():
                log.warning("%s holds a line that is no %s", self.path, SCHEMA)
            return
        self._keys[str(told.get("key"))] = None
        if len(self._keys) > KEPT_KEYS:
            del self._keys[next(iter(self._keys))]
        self._latest.append(told)
        self.count += 1


@dataclass(frozen=True)
class Asked:
    """A decision that is asked for, about a recommendation of the report or a proposal of the engine."""

    action: str
    question: Question

    @property
    def refused(self) -> flask.Response | None:
        """Why it cannot be asked for."""
        return self.question.refused


def install(server: flask.Flask, guard: Guard, audit: Audit | None, view: Callable[[], View]) -> None:
    """Add /act/ACTION: a page that asks once more, and the form that it posts."""

    def confirm(action: str) -> flask.Response:
        asked = _asked(action, flask.request.args, guard, audit, view())
        return asked.refused or _confirmation(asked, guard)

    def act(action: str) -> flask.typing.ResponseReturnValue:
        form = flask.request.form
        if guard.person().operator and audit is not None and audit.knows(form.get("key", "")):
            return flask.redirect("/actions", 303)  # sent twice
        asked = _asked(action, form, guard, audit, view())
        return asked.refused or _decided(asked, guard, audit)

    server.add_url_rule("/act/<action>", "confirm", confirm, methods=["GET"])
    server.add_url_rule("/act/<action>", "act", act, methods=["POST"])


def _asked(action: str, given: Mapping[str, str], guard: Guard, audit: Audit | None, view: View) -> Asked:
    refused = None
    if action not in ACTIONS:
        refused = refusal(404, "There is approve, snooze and reject.")
    elif not guard.person().operator:
        refused = refusal(403, "Only operators may do that; --operators names them.")
    elif audit is None:
        refused = refusal(403, "Decisions are written down nowhere; start with --audit FILE.")
    elif "act" in given:
        person = guard.person().name
        return Asked(action, _act_answers.asked(given, view.acts, audit.latest(), person, audit.now_ns(), action))
    else:
        return Asked(action, _recommended(given, view))
    return Asked(action, Question("", "", {}, {}, refused))


def _recommended(given: Mapping[str, str], view: View) -> Question:
    name = given.get("recommendation", "")
    found = [one for one in view.report["recommendations"] if one.get("id") == name]
    if not found:
        gone = refusal(404, "There is no such recommendation any more; look at the Actions page.")
        return Question("", "", {}, {}, gone)
    one = found[0]
    gain = one.get("predicted") or {}
    words = (
        f"<p>{text(one.get('planner', ''))} recommends {text(one.get('action', ''))}. Predicted: the step takes "
        f"{wording.share(gain.get('step_time_ratio'))} of today's time, {wording.hours(gain.get('gpu_hours_saved'))} "
        f"GPU-hours are saved. Cost: {text(one.get('cost', ''))}. Risk: {text(one.get('risk', ''))}.</p>"
        "<p>The answer is written down; nothing is changed on the cluster by it.</p>"
    )
    told = {"recommendation": one["id"], "findings": one.get("for", []), "action": one.get("action", "")}
    return Question(str(one.get("action", "")), words, {"recommendation": str(one["id"])}, told)


def _confirmation(asked: Asked, guard: Guard) -> flask.Response:
    question, label = asked.question, ACTIONS[asked.action]
    kept = {"csrf": guard.token(), "key": secrets.token_urlsafe(24), **question.kept}
    span, first = "", " autofocus"
    if asked.action == "snooze":
        options = "".join(f'<option value="{name}">{name}</option>' for name in SNOOZES_S)
        span, first = f'<label>For <select name="for" autofocus>{options}</select></label>', ""
    return page(
        f"{label}: {question.title}",
        f'{question.words}<form method="post" action="/act/{asked.action}">{hidden(kept)}{span}<label>Reason <input '
        f'name="reason" required maxlength="{LONGEST_REASON}"{first}></label><button>{label}</button> '
        '<a href="/actions">Cancel</a></form>',
    )


def _decided(asked: Asked, guard: Guard, audit: Audit | None) -> flask.typing.ResponseReturnValue:
    form = flask.request.form
    if not guard.token_fits(form.get("csrf", "")):
        return refusal(403, "The form does not come from this dashboard, or is too old; open it again.")
    key, reason = form.get("key", ""), wording.clean(form.get("reason", "").strip())
    if not KEY.fullmatch(key) or not 0 < len(reason) <= LONGEST_REASON:
        return refusal(400, f"Give a reason of at most {LONGEST_REASON} characters.")
    if asked.action == "snooze" and form.get("for", "") not in SNOOZES_S:
        return refusal(400, f"Snooze for {', '.join(SNOOZES_S)}.")
    told = {"person": guard.person().name, "decision": asked.action, **asked.question.told, "reason": reason}
    if asked.action == "snooze":
        told["seconds"] = SNOOZES_S[form["for"]]
    try:
        assert audit is not None  # noqa: S101 - `_asked` refuses without one
        audit.record(key, told)
    except OSError as error:
        log.error("a decision could not be written to %s: %s", audit and audit.path, error)
        return refusal(503, "The decision could not be written down, so it does not count; the log says why.")
    return flask.redirect("/actions", 303)
