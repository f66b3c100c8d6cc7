"""What every detector owes: a page, thresholds with units, known tables, an alert with its numbers, worlds."""

import dataclasses
import re

import pytest

from skewscope import tables
from skewscope.catalogue import room, rooms
from skewscope.contracts import Finding, World
from skewscope.frames import all_tables, empty

ROOMS = [found.id for found in rooms("detectors")]
SECTIONS = ("Why it hurts", "How it is seen", "What to do")
UNITS = (
    "_ns", "_s", "_bytes", "_bytes_per_s", "_ratio", "_count", "_tokens", "_ppm", "_percent", "_celsius", "_watt",
    "_hz", "_per_s", "_z",
)  # fmt: skip


def findings(detector, world):
    return list(detector.detect(world.tables))


def copies(world):
    return {name: table.copy(deep=True) for name, table in world.tables.items() if len(table)}


@pytest.fixture(scope="module", params=ROOMS)
def looked(request):
    """Return a room's name, its detector and, for each of its worlds, the world, a copy of its tables and findings."""
    detector = room("detectors", request.param).load()
    worlds = [(world, copies(world), findings(detector, world)) for world in detector.cases()]
    return request.param, detector, worlds


@pytest.mark.parametrize("name", ROOMS)
def test_the_page_has_a_first_line_and_its_sections(name):
    first, _, rest = room("detectors", name).page().partition("\n")
    assert first.endswith("."), f"{name}: the page's first line is a sentence"
    assert len(first) <= 120
    places = [rest.find(f"\n{section}\n") for section in SECTIONS]
    assert -1 not in places, f"{name}: sections {SECTIONS} in the docstring"
    assert places == sorted(places)


@pytest.mark.parametrize("name", ROOMS)
def test_thresholds_are_frozen_fields_with_defaults_and_units(name):
    detector = room("detectors", name).load()
    assert dataclasses.is_dataclass(detector)
    assert type(detector).__name__ == room("detectors", name).class_name
    assert detector.category
    fields = dataclasses.fields(detector)
    for field in fields:
        assert field.default is not dataclasses.MISSING, f"{name}.{field.name} has no default"
        assert field.name.endswith(UNITS), f"{name}.{field.name} hides its unit"
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(detector, field.name, field.default)


@pytest.mark.parametrize("name", ROOMS)
def test_needs_are_known_tables(name):
    needs = room("detectors", name).load().needs
    assert needs
    assert set(needs) <= set(tables.names())


@pytest.mark.parametrize("name", ROOMS)
def test_the_alert_is_written_from_the_thresholds(name):
    detector = room("detectors", name).load()
    rule = detector.alert()
    if rule is None:
        return
    assert rule.alert.startswith("Skewscope")
    assert rule.for_s >= 0
    assert rule.severity
    assert rule.summary
    assert rule.description
    if rule.expr == f'skewscope_finding_active{{condition="{name}",role="culprit"}} == 1':
        return  # `watch` decides, with the thresholds of the room itself
    numbers = {f"{getattr(detector, field.name):g}" for field in dataclasses.fields(detector)}
    numbers |= {f"{1 + getattr(detector, field.name):g}" for field in dataclasses.fields(detector)}
    assert numbers & set(re.findall(r"[\d.]+", rule.expr)), f"{name}: no threshold stands in {rule.expr}"
    changed = dataclasses.replace(
        detector, **{field.name: getattr(detector, field.name) * 3 for field in dataclasses.fields(detector)}
    )
    assert changed.alert().expr != rule.expr, f"{name}: the alert does not follow the thresholds"


def test_worlds_give_exactly_the_expected_subjects(looked):
    name, _, judged = looked
    worlds = [world for world, _, _ in judged]
    assert len(worlds) >= 3
    assert any(not world.expect for world in worlds), f"{name}: no quiet world"
    assert sum(not world.expect for world in worlds) >= 2, f"{name}: no near miss beside the quiet world"
    assert any(world.expect for world in worlds), f"{name}: no world shows the condition"
    assert len({world.name for world in worlds}) == len(worlds)
    for world, _, found in judged:
        assert isinstance(world, World)
        assert {one.subject.id for one in found} == set(world.expect), f"{name} in world {world.name}"
        for one in found:
            assert isinstance(one, Finding)
            assert one.condition == name
            assert 0 <= one.confidence <= 1
            assert one.lost_s >= 0
            assert 0 <= one.lost_share <= 1
            assert one.evidence
            assert re.search(r"\d", one.summary), f"{name}: the summary has no number"


def test_detecting_is_pure(looked):
    _, detector, worlds = looked
    for world, before, found in worlds:
        assert repr(findings(detector, world)) == repr(found)
        for table, frame in before.items():
            assert frame.equals(world.tables[table]), table


@pytest.mark.parametrize("name", ROOMS)
def test_empty_tables_are_silent(name):
    detector = room("detectors", name).load()
    assert list(detector.detect(all_tables({}))) == []
    assert list(detector.detect({table: empty(table) for table in tables.names()})) == []


def test_only_the_needed_tables_are_read(looked):
    _, detector, worlds = looked
    for world, _, _ in worlds:
        needed = {table: world.tables[table] for table in detector.needs}
        assert {one.subject.id for one in detector.detect(needed)} == set(world.expect)
