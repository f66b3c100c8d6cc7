import json
import os

import pytest

from agents.collectors.rl_phases import MOST_RANKS, QUIET_S, RlPhases
from skewscope.contracts import Place
from skewscope.errors import NoData

STEP = {"job": "grpo", "rank": 3, "gpu": 1, "generation_busy_s": 2.0, "generation_idle_s": 0.5, "training_busy_s": 3.0,
        "answer_median_s": 1.0, "answer_max_s": 2.0}  # fmt: skip
WHO = ("grpo", "3", "1")


class Trainer:
    def __init__(self, tmp_path):
        self.now_s = 0.0
        self.folder = tmp_path / "rl"
        self.folder.mkdir()
        self.collector = RlPhases(Place(spool=tmp_path, clock_s=lambda: self.now_s))

    def write(self, *lines, name="rank3.jsonl"):
        with (self.folder / name).open("a") as file:
            file.writelines(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)

    def values(self):
        return {(name, labels): value for name, labels, value in self.collector.collect()}


@pytest.fixture
def trainer(tmp_path):
    made = Trainer(tmp_path)
    with pytest.raises(NoData, match="rl"):
        made.values()
    return made


def test_steps_add_up_and_answers_are_the_newest(trainer):
    trainer.write(STEP, STEP | {"answer_max_s": 4.0})
    assert trainer.values() == {
        ("skewscope_rl_seconds_total", (*WHO, "generation", "busy")): 4.0,
        ("skewscope_rl_seconds_total", (*WHO, "generation", "idle")): 1.0,
        ("skewscope_rl_seconds_total", (*WHO, "training", "busy")): 6.0,
        ("skewscope_rl_answer_seconds", (*WHO, "median")): 1.0,
        ("skewscope_rl_answer_seconds", (*WHO, "max")): 4.0,
    }
    trainer.write(STEP)
    assert trainer.values()["skewscope_rl_seconds_total", (*WHO, "training", "busy")] == 9.0


def test_what_stood_there_before_the_agent_is_left(tmp_path):
    trainer = Trainer(tmp_path)
    trainer.write(STEP)
    with pytest.raises(NoData):
        trainer.values()
    trainer.write(STEP)
    assert trainer.values()["skewscope_rl_seconds_total", (*WHO, "training", "busy")] == 3.0


@pytest.mark.parametrize("line", [
    "{", "[1]", "null", "[" * 100_000, {"rank": 1}, {"job": "", "rank": 1}, {"job": "a", "rank": True},
    {"job": "a", "rank": -1}, {"job": "a\nb", "rank": 1}, {"job": "a" * 65, "rank": 1},
])  # fmt: skip
def test_lines_that_are_none_are_left(trainer, line):
    trainer.write(line, STEP)
    assert {labels[:3] for _, labels in trainer.values()} == {WHO}


def test_numbers_that_are_none_are_left(trainer):
    wrong = {"generation_busy_s": -1.0, "generation_idle_s": "2", "training_busy_s": None, "answer_max_s": True}
    trainer.write(STEP | wrong)
    trainer.write('{"job": "grpo", "rank": 3, "gpu": 1, "training_busy_s": NaN, "answer_median_s": 1.0}')
    assert trainer.values() == {("skewscope_rl_answer_seconds", (*WHO, "median")): 1.0}


def test_a_new_file_of_the_same_name_is_read_from_its_beginning(trainer):
    trainer.write(STEP)
    trainer.values()
    trainer.write(STEP, name="new")
    os.replace(trainer.folder / "new", trainer.folder / "rank3.jsonl")
    assert trainer.values()["skewscope_rl_seconds_total", (*WHO, "training", "busy")] == 6.0


def test_links_are_not_followed(trainer, tmp_path):
    (tmp_path / "elsewhere").write_text(json.dumps(STEP) + "\n")
    (trainer.folder / "link.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NoData):
        trainer.values()


def test_a_rank_that_ended_is_forgotten_and_there_is_room_for_so_many(trainer):
    trainer.write(*(STEP | {"rank": rank} for rank in range(MOST_RANKS + 9)))
    assert len({labels[1] for _, labels in trainer.values()}) == MOST_RANKS
    trainer.now_s = QUIET_S + 1.0
    with pytest.raises(NoData):
        trainer.values()
