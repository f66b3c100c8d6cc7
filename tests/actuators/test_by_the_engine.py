"""The actuators without a scheduler of their own, driven by the real policy and engine: act, stand, come back."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from runpy import run_path

from skewscope.acting.engine import Engine, Extras
from skewscope.acting.rooms import actuators
from skewscope.actuators.nvrx import Health
from skewscope.hook.advice import Advice
from skewscope.policy.settings import Policy

W = run_path(str(Path(__file__).parents[1] / "acting" / "_world.py"))
SPARE = {"capacity": {"spare_nodes": 0}, "retest": {"required": False}, "budget": {"share_at_once": 0.5}}
NASTY = 'rank 7 of "job\'; rm -rf $HOME"\nis\tslow `now` ünï'


class Timed:
    """An actuator whose looks are as of the test's clock."""

    def __init__(self, acting, clock):
        self._acting, self._clock = acting, clock

    def __getattr__(self, name: str):
        return getattr(self._acting, name)

    def look(self):
        return replace(self._acting.look(), read_ns=self._clock())


class Site:
    """One scheduler with its policy, as a TOML file would give it, and an audit in memory."""

    def __init__(self, name: str, settings: dict, **sections):
        told = {"mode": "act", "schedulers": {name: {"dry_run": False, **settings}}, **SPARE, **sections}
        self.policy = Policy.parse(told)
        self.clock = W["Clock"](time.time_ns())
        self.acting = Timed(actuators(self.policy, [name])[name], self.clock)
        self.audit = W["audit"](self.clock)
        self.engine = Engine(
            self.policy, {name: self.acting}, self.audit, W["MemoryLease"](W["Desk"]()),
            Extras(dry_run=False, pace=W["free_pace"]()),
        )  # fmt: skip

    def turn(self, *cases, after_s: float = 30.0) -> list[str]:
        now_ns = self.clock.on(after_s)
        fresh = [replace(one, seen_ns=now_ns) for one in cases]
        return [one["phase"] for one in self.engine.turn(fresh, W["around"](now_ns))]


def case(**changed):
    return W["case"]("n3", time.time_ns(), summary=NASTY, **changed)


def fence(name: str, settings: dict, verb: str) -> Site:
    """Let the engine fence n3 and free it once all is well; return the site where the fence stands."""
    site = Site(name, settings, ladder={"start": verb, "verbs": [verb]})
    assert site.turn(case()) == ["intended", "done"]
    assert not site.acting.look().nodes["n3"].schedulable
    assert site.turn(case()) == []
    intended, done = site.audit.records()
    assert (intended["verb"], done["result"], done["target"]) == (verb, "done", "n3")
    assert "rm -rf _HOME" in done["reason"] and not set("\"'$`\n") & set(done["reason"])
    return site


def free(site: Site) -> None:
    assert "undone" in site.turn(case(healthy=True), after_s=86_400)
    assert site.acting.look().nodes["n3"].schedulable


def test_verdict_files(tmp_path: Path):
    site = fence("file", {"folder": str(tmp_path), "nodes": ["n[0-7]"]}, "drain")
    assert json.loads((tmp_path / "n3.json").read_text())["keep_out"]
    free(site)
    assert list(tmp_path.glob("*.json")) == []


def test_a_file_that_a_person_removes_is_given_up(tmp_path: Path):
    site = fence("file", {"folder": str(tmp_path), "nodes": ["n[0-7]"]}, "drain")
    (tmp_path / "n3.json").unlink()
    assert "undone" in site.turn(case(), after_s=300)
    (given_up,) = (one for one in site.audit.records() if one["phase"] == "undone")
    assert given_up["actor"] == "somebody else"
    assert list(tmp_path.glob("*.json")) == []


def test_nvrx_keeps_the_node_out_of_the_next_restart(tmp_path: Path):
    site = fence("nvrx", {"folder": str(tmp_path), "nodes": ["n[0-7]"]}, "exclude")
    assert not Health(str(tmp_path), "n3")().healthy
    free(site)
    assert Health(str(tmp_path), "n3")().healthy


def test_a_program_of_the_site(tmp_path: Path):
    (tmp_path / "memory").mkdir()
    code = f"import sys; open({str(tmp_path / 'calls')!r}, 'a').write(' '.join(sys.argv[1:3]) + '\\n')"
    start = [sys.executable, "-c", code]
    settings = {"words": [*start, "{verb}", "{node}"], "undo_words": [*start, "free", "{node}"],
                "nodes": ["n[0-7]"], "memory": str(tmp_path / "memory")}  # fmt: skip
    free(fence("exec", settings, "drain"))
    assert (tmp_path / "calls").read_text() == "drain n3\nfree n3\n"


def test_a_program_that_is_not_ready_is_tried_again(tmp_path: Path):
    (tmp_path / "memory").mkdir()
    code = f"import os, sys; sys.exit(0 if os.path.exists({str(tmp_path / 'ready')!r}) else 75)"
    settings = {"words": [sys.executable, "-c", code], "undo_words": ["true"], "nodes": ["n[0-7]"],
                "memory": str(tmp_path / "memory")}  # fmt: skip
    site = Site("exec", settings, ladder={"start": "drain", "verbs": ["drain"]})
    assert site.turn(case()) == ["intended", "waiting"]
    assert site.turn(case()) == [] and site.acting.look().nodes["n3"].schedulable
    (tmp_path / "ready").touch()
    assert "done" in site.turn(case(), after_s=120)
    assert not site.acting.look().nodes["n3"].schedulable


def test_a_hint_reaches_the_training_and_is_taken_back(tmp_path: Path):
    site = Site("engine", {"folder": str(tmp_path)})
    hinted = replace(case(job="llm; 'x'"), node="", hint={"weights": [1.0, 1.0, 0.5]})
    assert site.turn(hinted) == ["intended", "done"]
    advice = Advice(str(tmp_path), "llm; 'x'")
    assert advice.refresh().version and advice.split(10, ranks=3) == [4, 4, 2]
    assert site.turn(hinted) == []
    assert "undone" in site.turn(replace(hinted, healthy=True), after_s=3000)
    assert advice.refresh().version == 0


def test_a_hint_that_ends_by_itself_is_set_anew_and_one_that_a_person_removed_is_not(tmp_path: Path):
    site = Site("engine", {"folder": str(tmp_path), "valid_s": 3600.0})
    hinted = replace(case(job="llm"), node="", hint={"weights": [1.0, 0.5]})
    assert site.turn(hinted) == ["intended", "done"]
    (file,) = tmp_path.glob("*.json")
    assert site.turn(hinted, after_s=900) == []
    for after_s in (1200, 7200):  # half of its time is over; it has ended
        assert site.turn(hinted, after_s=after_s) == ["reapplied", "reapplied"]
        old = json.loads(file.read_text())
        file.write_text(json.dumps({**old, "expires_ns": site.clock() + 3_600_000_000_000}))  # as of the test's clock
    assert site.turn(hinted, after_s=900) == []
    file.unlink()
    assert "undone" in site.turn(hinted, after_s=300)
    assert not list(tmp_path.glob("*.json"))
    assert site.turn(hinted, after_s=1800) == [] and not list(tmp_path.glob("*.json"))
    assert site.turn(hinted, after_s=1800) == ["intended", "done"]
