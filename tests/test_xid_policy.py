import ast
import sys
from pathlib import Path

import pytest

from skewscope import xid_policy
from skewscope.catalogue import rooms
from skewscope.errors import UsageError
from skewscope.metrics import metric
from skewscope.xid_policy import ACTIONS, DRAINS, POLICY, RECOVERY, Xid

CODES = sorted(POLICY.table)
CONTESTED = (63, 68, 92, 94, 109)


def test_the_table_is_whole():
    wanted = {8, 11, 13, 25, *range(31, 33), *range(37, 42), *range(43, 47), 48, 54, *range(56, 60), *range(61, 82),
              85, *range(92, 96), 109, 110, *range(119, 122), *range(126, 138), 140, 141, *range(143, 152),
              *range(154, 159), *range(160, 166), 167, 168, 171, 172}  # fmt: skip
    assert set(CODES) == wanted
    assert all(xid.code == code and xid.meaning for code, xid in POLICY.table.items())
    assert POLICY.version == xid_policy.VERSION and xid_policy.VERSION.startswith("20")


def test_every_code_that_needs_somebody_is_judged_by_a_known_condition():
    known = {room.id for room in rooms("detectors")}
    assert {xid.condition for xid in POLICY.table.values()} <= known | {""}
    unjudged = {code for code in CODES if not POLICY.of(code).condition}
    assert not [code for code in unjudged if POLICY.of(code).action in (*DRAINS, "restart_app", "reset_when_idle")]
    assert POLICY.codes("gpu-gsp-timeout") == (46, 61, 62, 109, 110, 119, 120, 143, 151, 158)
    assert POLICY.codes("no-such-condition") == ()


@pytest.mark.parametrize("code", CODES)
def test_no_code_drains_where_the_driver_asks_for_nothing(code):
    for bursts in (1, 2, 9):
        verdict = POLICY.verdict(code, bursts=bursts, recovery="none")
        assert not verdict.drain and verdict.action not in DRAINS
        assert f"XID {code}" in verdict.why and "no recovery" in verdict.why


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(("asked", "action"), [pair for pair in RECOVERY.items() if pair[0] != "none"])
def test_what_the_driver_asks_for_outranks_the_code(code, asked, action):
    verdict = POLICY.verdict(code, recovery=asked)
    assert (verdict.action, verdict.drain) == (action, action in DRAINS)


def test_every_recovery_action_of_the_metric_is_understood():
    assert set(metric("skewscope_gpu_recovery_action").values["action"]) == set(RECOVERY)
    assert set(RECOVERY.values()) <= set(ACTIONS)


@pytest.mark.parametrize("recovery", [None, "", "something new"])
def test_without_a_word_of_the_driver_the_code_decides(recovery):
    assert POLICY.verdict(79, recovery=recovery).action == "drain_reboot"
    assert POLICY.verdict(13, recovery=recovery).action == "notify_owner"


@pytest.mark.parametrize(
    ("code", "once", "twice"),
    [(13, "notify_owner", "validate"), (31, "notify_owner", "validate"), (109, "restart_app", "drain_reset"),
     (74, "annotate", "drain_reset"), (94, "restart_app", "reset_when_idle"), (43, "none", "none"),
     (45, "none", "none"), (92, "annotate", "annotate"), (79, "drain_reboot", "drain_reboot")],
)  # fmt: skip
def test_repeats_count_within_their_window(code, once, twice):
    assert POLICY.verdict(code).action == once
    assert POLICY.verdict(code, bursts=2).action == twice
    assert ("2 times within 24 h" in POLICY.verdict(code, bursts=2).why) == (once != twice)


def test_bursts_of_the_application_faults_are_as_long_as_documented():
    assert POLICY.of(13).burst_s == 15.0 and POLICY.of(31).burst_s == 180.0


def test_the_lists_that_disagree_are_named():
    assert all(POLICY.of(code).disagree for code in CONTESTED)
    assert POLICY.of(79).disagree == ()  # nobody doubts a GPU that is off the bus
    assert POLICY.of(13).disagree == ()
    assert set(POLICY.of(92).disagree) == {"healthagent", "azurehpc", "k8s-device-plugin"}
    assert POLICY.of(109).disagree == ("healthagent",)


def test_an_unknown_code_is_worth_a_note():
    xid = POLICY.of(4711)
    assert POLICY.verdict(64, recovery="none").action == "replace_when_idle"
    assert (xid.kind, xid.action, xid.condition) == ("unknown", "annotate", "")
    assert not POLICY.verdict(4711, bursts=99).drain


def test_a_fleet_can_have_its_own_view():
    own = POLICY.changed({92: {"action": "drain_reset"}, "4711": {"meaning": "house rule", "action": "none"}}, "site-3")
    assert own.version == "site-3" and own.verdict(92).drain and own.of(4711).meaning == "house rule"
    assert not POLICY.verdict(92).drain and 4711 not in POLICY.table
    assert own.verdict(92, recovery="none").drain is False
    assert POLICY.changed({}).version == f"{xid_policy.VERSION}+changed"
    once = POLICY.changed({13: {"repeats_count": 3, "window_s": 3600.0}})
    assert once.verdict(13, bursts=2).action == "notify_owner" and once.verdict(13, bursts=3).action == "validate"


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"x": {}}, "'x' is no XID"), ({-1: {}}, "no XID"), ({79: {"actoin": "none"}}, "XID 79 has no 'actoin'"),
     ({79: {"action": "explode"}}, "action is 'explode'"), ({79: {"code": 5}}, "no 'code'"),
     ({79: {"kind": "odd"}}, "kind is 'odd'"), ({79: {"window_s": 0}}, "window_s"),
     ({79: {"repeats_count": 2}}, "go together"), ({79: {"asks": 5}}, "XID 79"), ({79: {"window_s": "a"}}, "XID 79")],
)  # fmt: skip
def test_a_view_that_cannot_be_meant_says_what_is_wrong(changes, said):
    with pytest.raises(UsageError, match=said):
        POLICY.changed(changes)


def test_entries_are_checked_when_they_are_made():
    with pytest.raises(UsageError, match="repeated is 'often'"):
        Xid(1, "x", "info", "none", repeats_count=1, repeated="often")


def test_it_needs_nothing_but_the_standard_library():
    tree = ast.parse(Path(xid_policy.__file__).read_text("utf-8"))
    named = {
        node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level
    }
    assert named <= set(sys.stdlib_module_names)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
