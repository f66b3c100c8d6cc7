from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from runpy import run_path

import pytest

from skewscope.catalogue import rooms
from skewscope.watch.notify.messages import (
    EVENTS,
    MARKS,
    SEVERITY,
    alert,
    alert_name,
    chat,
    event,
    labels,
    moment,
    notification,
    remembered,
)  # fmt: skip

incident = run_path(str(Path(__file__).parents[1] / "_incidents.py"))["incident"]
OPEN, CLOSED = incident(), incident(state="closed", changed_ns=2_000)
ELSEWHERE = incident(subject={**OPEN["subject"], "id": "llm/rank8"})


@pytest.mark.parametrize(
    ("before", "now", "what"),
    [
        (None, OPEN, "opened"), (None, incident(state="mitigated"), "opened"), (None, CLOSED, ""), (OPEN, OPEN, ""),
        (OPEN, incident(state="growing"), ""), (OPEN, incident(state="mitigated"), ""), (OPEN, CLOSED, "closed"),
        (CLOSED, CLOSED, ""), (CLOSED, OPEN, "reopened"), (OPEN, incident(severity="S1"), "changed"),
        (OPEN, incident(severity="S3"), ""), (OPEN, ELSEWHERE, "changed"),
        (OPEN, incident(condition="gpu-hw-slowdown"), "changed"),
    ],
)  # fmt: skip
def test_what_is_worth_telling(before, now, what):
    told = None if before is None else json.loads(json.dumps(remembered(before)))
    assert event(told, now) == what


def test_a_notification_holds_the_incident():
    made = notification("opened", OPEN, "http://w/x")
    assert made == {"schema": "skewscope.notification/1", "event": "opened", "time_ns": 1_000, "link": "http://w/x",
                    "incident": OPEN}  # fmt: skip
    json.dumps(made)


def test_a_chat_message_tells_what_where_how_much_and_what_next():
    text = chat("opened", OPEN, "http://w/x")["text"]
    assert text.splitlines() == [
        ":red_circle: *coll-late-rank* opened: llm/rank7", "Rank 7 is late.",
        "severity S2, confidence 90%, costs 20% of the step, 12.8 GPUs' worth, 3.20 GPU-hours so far",
        "Next: Look at n3.", "<http://w/x|details>",
    ]  # fmt: skip
    assert "Next" not in chat("closed", CLOSED, "")["text"]
    assert "details" not in chat("closed", CLOSED, "")["text"]
    assert set(MARKS) == set(EVENTS)


def test_names_from_jobs_are_no_markup():
    text = chat("opened", incident(summary="<!channel> & <http://x|y>", subject={**OPEN["subject"], "id": "<@U1>"}), "")
    assert not re.search(r"<[!@h]", text["text"])
    assert "&lt;!channel&gt; &amp;" in text["text"]


def test_labels_identify_and_route():
    assert labels(OPEN) == {
        "alertname": "SkewscopeCollLateRank", "incident": "a7", "condition": "coll-late-rank", "severity": "critical",
        "job_id": "llm", "node": "n3", "subject": "llm/rank7",
    }  # fmt: skip
    bare = labels(incident(job=None, subject={**OPEN["subject"], "node": None}))
    assert set(labels(OPEN)) - set(bare) == {"job_id", "node"}
    assert set(SEVERITY) == {"S1", "S2", "S3", "S4"}


def test_every_condition_has_an_alert_name_of_its_own():
    names = [alert_name(room.id) for room in rooms("detectors")]
    assert len(set(names)) == len(names) > 40
    assert all(re.fullmatch(r"Skewscope[A-Za-z0-9]+", name) for name in names)


def test_an_alert_says_when_it_began_and_ends():
    made = alert(labels(OPEN), OPEN, 90 * 10**9, "http://w/x")
    assert datetime.fromisoformat(made["startsAt"]) < datetime.fromisoformat(made["endsAt"])
    assert made["endsAt"] == moment(90 * 10**9) == "1970-01-01T00:01:30.000000+00:00"
    assert made["annotations"]["description"].startswith("Rank 7 is late. (20% of each step, 3.20 GPU-hours so far")
    assert made["generatorURL"] == "http://w/x"
    assert all(isinstance(value, str) for value in made["annotations"].values())
