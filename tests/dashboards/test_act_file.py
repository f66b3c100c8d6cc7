"""An audit file as a source of acts: read as it grows, put beside another view."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from runpy import run_path

import pytest

from skewscope import commands
from skewscope.catalogue import load
from skewscope.commands.dashboard import Dashboard, source
from skewscope.errors import UsageError

world = run_path(str(Path(__file__).with_name("_act_world.py")))
files, sources = load("dashboards._act_file"), load("dashboards._sources")
View = load("dashboards._view").View


def write(path, records, mode="w"):
    with open(path, mode) as file:
        file.writelines(json.dumps(one) + "\n" for one in records)


@pytest.fixture
def audit(tmp_path):
    path = tmp_path / "audit.jsonl"
    write(path, world["told"]())
    return path


def at(now_ns):
    return lambda: now_ns


def test_a_file_says_what_the_service_says(audit):
    acts, wrong, _ = files.ActFile(audit, at(world["NOW_NS"])).acts()
    said = world["acts"]()
    assert (acts.records, acts.waiting, acts.breaker, wrong) == (said.records, said.waiting, "", "")


def test_only_what_is_new_is_read_and_half_a_line_waits(audit):
    file = files.ActFile(audit, at(world["NOW_NS"]))
    first = file.acts()
    assert file.acts() == first
    say = world["Told"]()
    say.records = world["told"]()
    opened = say("breaker", result="open", detail="3 acts in 30 min")
    text = json.dumps(opened) + "\n"
    with open(audit, "a") as end:
        end.write(text[:30])
    assert file.acts() == first
    with open(audit, "a") as end:
        end.write(text[30:])
    acts, _, mark = file.acts()
    assert acts.breaker == "3 acts in 30 min" and mark != first[2] and acts.records[0] == opened
    say("intended", "c0ffee12.drain", world["SLURM"])
    write(audit, say.records[-1:], "a")
    assert [one["act"] for one in file.acts()[0].waiting] == ["c0ffee13.exclude"]


def test_an_old_act_that_stands_is_not_forgotten(audit):
    say = world["Told"]()
    for at in range(300):
        name = f"old{at}.drain"
        say("done", name, world["SLURM"])
        if at:
            say("undone", "", world["SLURM"], of=name)
    write(audit, say.records)
    acts = files.ActFile(audit).acts()[0]
    assert len(acts.records) == 201 and acts.records[-1] == say.records[0]
    told = world["document"](records=say.records[-200:], standing=say.records[:1])
    assert load("dashboards._act_records").acts_of(told, "x").records == acts.records


def test_what_expired_does_not_wait_though_nothing_was_written(audit):
    now_ns = [world["NOW_NS"]]
    file = files.ActFile(audit, lambda: now_ns[0])
    first = file.acts()
    now_ns[0] += 25 * world["MINUTE_NS"]
    acts, _, mark = file.acts()
    assert [one["act"] for one in acts.waiting] == ["c0ffee12.drain"] and mark != first[2]


def test_a_file_in_its_place_is_read_anew_and_one_that_vanished_is_told(audit, tmp_path):
    file = files.ActFile(audit)
    write(tmp_path / "new", world["told"]()[:2])
    (tmp_path / "new").replace(audit)
    assert len(file.acts()[0].records) == 2
    write(audit, world["told"]()[:1])  # the same file, shorter
    assert len(file.acts()[0].records) == 1
    audit.unlink()
    acts, wrong, _ = file.acts()
    assert len(acts.records) == 1 and "No such file" in wrong


def test_lines_of_any_kind_do_no_harm(audit):
    odd = [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"schema": "skewscope.action/1", "seq": "x"}']
    odd.append(json.dumps({**world["told"]()[0], "expires_ns": "soon", "act": "odd"}).encode())
    audit.write_bytes(b"\n".join(odd) + b"\n" + audit.read_bytes())
    acts, wrong, _ = files.ActFile(audit, at(world["NOW_NS"])).acts()
    assert len(acts.waiting) == 2 and not wrong


def test_acts_join_any_view(audit):
    made = files.WithActs(sources.Fixed(View(id="one", title="report x")), files.ActFile(audit))
    view = made.view()
    assert view.title == f"report x, acts of {audit}" and view.id.startswith("one~") and made.live
    assert files.WithActs(sources.Fixed(View()), files.ActFile(audit)).view().title == f"acts of {audit}"


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UsageError, match="--acts .*No such file"):
        files.ActFile(tmp_path / "none")
    assert commands.main(["dashboard", "--acts", str(tmp_path / "none"), "--listen", "127.0.0.1:0"]) == 2


def test_a_file_of_answers_is_no_audit_nor_the_other_way_round(audit, tmp_path):
    answers = load("dashboards._acts").Audit
    with pytest.raises(UsageError, match="give answers another file"):
        answers(audit)
    made = answers(tmp_path / "decisions.jsonl")
    made.record("k" * 20, {"act": "a"})
    with pytest.raises(UsageError, match="no line of it is a skewscope.action/1"):
        files.ActFile(made.path)
    (tmp_path / "new").touch()
    same = ["--acts", str(tmp_path / "new"), "--operators", "local", "--audit", str(tmp_path / "x" / ".." / "new")]
    assert commands.main(["dashboard", "--listen", "127.0.0.1:0", *same]) == 2
    assert files.ActFile(tmp_path / "new").acts()[0].records == ()


def test_the_command_puts_acts_beside_its_source(audit):
    parser = argparse.ArgumentParser()
    Dashboard().arguments(parser)
    assert source(parser.parse_args(["--acts", str(audit)])).view().acts.records
    assert source(parser.parse_args([])).view().acts is None
