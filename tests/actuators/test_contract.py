"""What every actuator has in common: its place, its words, its page, and that making one does nothing."""

from __future__ import annotations

import dataclasses

import pytest

from skewscope import catalogue
from skewscope.acts import VERBS

ROOMS = catalogue.rooms("actuators")
CALLS = ("look", "command", "apply", "undo", "holds")


def test_the_schedulers_that_are_promised_are_there():
    promised = {"slurm", "kubernetes", "ray", "webhook", "exec", "file", "nvrx", "engine"}
    assert {room.id for room in ROOMS} == promised


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.id)
def test_an_actuator_is_named_as_its_file_and_says_what_it_can_do(room: catalogue.Room):
    kind = room.kind()
    assert kind.name == room.id
    assert kind.verbs and set(kind.verbs) <= set(VERBS)
    assert [name for name in CALLS if not callable(getattr(kind, name, None))] == []


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.id)
def test_its_settings_are_fields_with_defaults_and_making_one_does_nothing(room: catalogue.Room):
    kind = room.kind()
    assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen
    assert room.load() == room.load()
    for one in dataclasses.fields(kind):
        assert not isinstance(getattr(room.load(), one.name), list | dict), f"{one.name}: a setting cannot be changed"


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.id)
def test_its_page_says_which_rights_it_needs_and_how_to_undo_by_hand(room: catalogue.Room):
    page = f"{room.page()} {room.kind().__doc__}".lower()
    assert "rights" in page and "by hand" in page
