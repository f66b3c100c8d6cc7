import pytest

from skewscope.catalogue import rooms
from skewscope.errors import UsageError
from skewscope.simulate import scenario, shipped
from skewscope.simulate.scenario import load, parse

LEAST_OVERLAPS = 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"fleets": {}}, "unknown key 'fleets'"),
        ({"jobs": [{"rank": 3}]}, r"jobs\[0\].rank: unknown key"),
        ({"jobs": [{"ranks": "many"}]}, r"jobs\[0\].ranks: wants int, not 'many'"),
        ({"jobs": [{"ranks": 30, "tp": 4}]}, "30 is no multiple"),
        ({"jobs": [{"steps": 0}]}, "above 0"),
        ({"jobs": [{"dp_share": 0.9}]}, "no time to compute"),
        ({"jobs": [{"name": "a"}, {"name": "a"}]}, "different names"),
        ({"jobs": [{"kind": "mining"}]}, "none of training, serving, rl"),
        ({"faults": [{"severity": 0.2}]}, "condition is missing"),
        ({"faults": [{"condition": "gpu-slow-silence"}]}, "did you mean gpu-slow-silent"),
        ({"faults": [{"condition": "pfc-storm", "onset": 0.9, "end": 0.2}]}, "onset < end"),
        ({"fleet": {"fabric": "token-ring"}}, "fleet.fabric is one of"),
        ({"start_ns": 17}, "multiple of 30 s"),
    ],
)
def test_what_cannot_be_meant_is_told_by_key(content, said):
    with pytest.raises(UsageError, match=said):
        parse(content, "x", "x.toml")


def test_a_file_that_is_no_toml_is_named(tmp_path):
    place = tmp_path / "broken.toml"
    place.write_text("about = ")
    with pytest.raises(UsageError, match="broken.toml: not TOML"):
        load(place)
    with pytest.raises(UsageError, match="absent.toml"):
        scenario(str(tmp_path / "absent.toml"))


def test_every_condition_has_a_shipped_scenario():
    found = shipped()
    for fault in rooms("simulate.faults"):
        assert [one.condition for one in found[fault.id].faults] == [fault.id]
    assert all(one.about.endswith(".") for one in found.values())
    assert sum(len(one.faults) > 1 for one in found.values()) >= LEAST_OVERLAPS
    healthy = [one for name, one in found.items() if name.startswith("healthy-")]
    assert healthy and not any(one.faults for one in healthy)


def test_a_name_that_is_nearly_right_gets_a_hint():
    with pytest.raises(UsageError, match="did you mean gpu-power-cap"):
        scenario("gpu-power-caps")


def test_another_size_keeps_the_rest():
    sized = scenario("healthy-mixed").sized(ranks=64, steps=10)
    assert (sized.jobs[0].ranks, sized.jobs[0].steps, sized.jobs[1].ranks) == (64, 10, 16)
    with pytest.raises(UsageError, match="no multiple"):
        scenario("healthy-training").sized(ranks=63)
