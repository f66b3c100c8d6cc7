from skewscope.policy.explained import rows
from skewscope.policy.sections import MODES
from skewscope.policy.settings import SECTIONS, Policy
from skewscope.policy.template import template


def test_all_27_guards_are_told():
    assert {row.number for row in rows(Policy())} == {0, *range(1, 28)}


def test_every_key_is_told_with_what_it_does():
    keys = {row.key: row for row in rows(Policy())}
    for name, kind in SECTIONS.items():
        for one in kind.__dataclass_fields__:
            assert keys[f"{name}.{one}"].does
    assert all(not row.default for row in keys.values())


def test_a_changed_value_stands_beside_its_default():
    groups = {"canary": {"mode": "act", "nodes": ["n1*"]}}
    told = Policy.parse({"budget": {"nodes_at_once": 4}, "schedulers": {"slurm": {"dry_run": False, "groups": groups}}})
    table = {row.key: row for row in rows(told)}
    assert (table["budget.nodes_at_once"].value, table["budget.nodes_at_once"].default) == ("4", "1")
    assert table["schedulers.slurm.groups.canary.mode"].does == "nodes of canary and n1*"
    assert table["schedulers.slurm.dry_run"].value == "false" and table["schedulers.slurm.mode"].value == '"observe"'


def test_the_template_is_the_default(tmp_path):
    import tomllib

    told = tomllib.loads(template())
    assert Policy.parse(told).version == Policy().version
    assert set(told) == {"schema", "mode", *SECTIONS}
    for name, kind in SECTIONS.items():
        assert set(told[name]) == set(kind.__dataclass_fields__)
    assert all(len(line) <= 240 for line in template().splitlines()) and ", ".join(MODES) in template()


def test_what_the_template_only_shows_can_be_used():
    import tomllib

    shown = [line.removeprefix("# ") for line in template().splitlines() if line.startswith("# ") and " = " in line]
    text = "[schedulers.slurm]\n{}\n{}\n[schedulers.slurm.groups.canary]\n{}\n{}\n".format(*shown[:4])
    assert Policy.parse(tomllib.loads(text)).mode("slurm", "n12") == "act"
