import pytest

from skewscope.acting.rooms import actuator, actuators
from skewscope.errors import UsageError
from skewscope.policy.settings import Policy


def test_an_actuator_is_made_with_its_settings(tmp_path):
    policy = Policy.parse({"schedulers": {"file": {"mode": "act", "folder": str(tmp_path), "nodes": ["n[1-3]"]}}})
    made = actuators(policy, ["file"])["file"]
    assert made.folder == str(tmp_path) and made.nodes == ("n[1-3]",) and made.name == "file"
    assert sorted(made.look().nodes) == ["n1", "n2", "n3"]


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [("file", {"foldr": "x"}, "did you mean folder"), ("file", {"zzz": 1}, "there are"),
     ("fil", {}, "did you mean file"),
     ("slurm", {"timeout_s": -1.0}, "timeout_s"), ("slurm", {"timeout_s": "soon"}, "slurm")],
)  # fmt: skip
def test_a_wrong_name_or_setting_is_told(name, settings, said):
    with pytest.raises(UsageError, match=said):
        actuator(name, settings)
