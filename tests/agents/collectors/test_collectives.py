from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from skewscope import spool
from skewscope.catalogue import load
from skewscope.errors import NoData

_spec = importlib.util.spec_from_file_location("ring_node", Path(__file__).parents[1] / "ring_node.py")
ring_node = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(ring_node)
Node, call, COLLECTIVE, ALL_REDUCE, MS = (
    getattr(ring_node, name) for name in ("Node", "call", "COLLECTIVE", "ALL_REDUCE", "MS")
)
PHASE, STEP, WORK = (spool.KINDS.index(kind) for kind in ("phase", "step", "work"))
SEND = spool.OPS.index("send")


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path)
    yield made
    for writer in made.writers:
        writer.close()


def test_a_node_without_rings_has_no_data(node, tmp_path):
    with pytest.raises(NoData, match="no ring"):
        node.look()
    node.spool.rmdir()
    with pytest.raises(NoData, match="no ring"):
        node.look()
    assert node.place.board["ranks"] == []


def test_calls_steps_phases_and_work_are_counted(node):
    writer = node.ring(rank=3, device=1)
    group = writer.group(9, [0, 1, 2, 3], 3, "dp")
    start_ns = node.ns(1)
    for seq, ms in enumerate((2, 4, 3), 1):
        call(writer, group, seq, start_ns + seq * 10 * MS, ms)
    writer.write(PHASE, spool.PHASES.index("forward"), start_ns=start_ns, end_ns=start_ns + 7 * MS)
    writer.write(STEP, step=0, start_ns=start_ns, end_ns=start_ns + 40 * MS)
    writer.write(WORK, spool.UNITS.index("tokens"), size=4096, start_ns=start_ns, end_ns=start_ns)
    writer.write(WORK, spool.UNITS.index("dropped_tokens"), size=5, start_ns=start_ns, end_ns=start_ns)
    found = node.look()
    rank, calls = ("llm", "3", "1"), ("llm", "3", "1", "all_reduce", "dp")
    assert found["collectives_total"] == {calls: 3}
    assert found["collective_seconds_total"][calls] == pytest.approx(0.009)
    assert found["collective_min_seconds"][calls] == pytest.approx(0.002)
    assert found["collective_bytes_total"][calls] == 3 << 20
    assert found["collective_duration_seconds_count"] == {("llm", "all_reduce", "dp"): 3}
    assert found["collective_duration_seconds_bucket"]["llm", "all_reduce", "dp", "0.003"] == 2
    # 1 MiB to all of four members crosses a link 1.5 times; the median call took 3 ms.
    rate = found["collective_bus_bandwidth_bytes_per_second"]["llm", "all_reduce", "dp"]
    assert rate == pytest.approx((1 << 20) * 1.5 / 0.003)
    assert found["phase_seconds_total"] == {(*rank, "forward"): pytest.approx(0.007)}
    assert found["steps_total"] == {rank: 1}
    assert found["step_seconds_total"][rank] == pytest.approx(0.040)
    assert found["step_last_timestamp_seconds"][rank] == pytest.approx(1_700_000_000 + (start_ns + 40 * MS) / 1e9)
    assert found["step_duration_seconds_bucket"]["llm", "0.1"] == 1
    assert found["work_units_total"] == {(*rank, "tokens"): 4096}
    assert found["moe_dropped_tokens_total"] == {rank: 5}
    assert found["spool_events_total"] == {("collective",): 3, ("phase",): 1, ("step",): 1, ("work",): 2}
    assert set(found["spool_lost_events_total"].values()) == {0}
    assert node.place.board["ranks"][0]["rank"] == 3
    assert {name for name in found if not name.endswith(("_bucket", "_sum", "_count"))} <= {
        name.removeprefix("skewscope_") for name in node.collector.exports
    }


def test_the_time_on_the_gpu_counts_where_it_is_known(node):
    writer = node.ring()
    group = writer.group(9, [0, 1], 0, "tp")
    call(writer, group, 1, node.ns(1), 5, device_ns=2 * MS)
    call(writer, group, 2, node.ns(9), 5)
    found = node.look()
    assert found["collective_seconds_total"]["llm", "0", "", "all_reduce", "tp"] == pytest.approx(0.007)


def test_the_minimum_and_the_bandwidth_are_of_the_last_15_seconds(node):
    writer = node.ring()
    group = writer.group(9, [0, 1], 0, "tp")
    call(writer, group, 1, node.ns(1), 5)
    assert node.look()["collective_min_seconds"]
    found = node.look(wait_s=16)
    assert not found["collective_min_seconds"] and not found["collective_bus_bandwidth_bytes_per_second"]
    assert found["collectives_total"]


def test_experts_are_told_by_the_newest_whole_step(node):
    writer = node.ring()
    writer.experts(1, 0, [10, 10, 10, 10, 10, 10, 10, 10, 10, 30])
    writer.experts(1, 1, [5, 5])
    assert not node.look()["moe_expert_max_mean_ratio"]
    writer.experts(2, 0, [1, 1])
    found = node.look()
    assert found["moe_expert_max_mean_ratio"]["llm", "0", ""] == pytest.approx(30 / 12)
    assert found["moe_tokens_total"]["llm", "0", ""] == 132


def test_lateness_is_told_for_ranks_of_this_node(node):
    early, late = node.ring(0), node.ring(1)
    groups = [writer.group(9, [0, 1], rank, "world") for rank, writer in enumerate((early, late))]
    for seq in range(1, 11):
        start_ns = node.ns(seq * 10)
        call(early, groups[0], seq, start_ns, 8)
        call(late, groups[1], seq, start_ns + 3 * MS, 5)
    found = node.look()
    lateness = found["collective_local_lateness_seconds_total"]
    assert lateness["llm", "0", "", "world"] == 0
    assert lateness["llm", "1", "", "world"] == pytest.approx(0.030)
    assert found["collective_local_last_arrivals_total"]["llm", "1", "", "world"] == 10
    assert found["collective_local_last_arrivals_total"]["llm", "0", "", "world"] == 0


def test_a_call_is_in_flight_until_its_record_is_there(node):
    writer = node.ring()
    group = writer.group(9, [0, 1], 0, "dp")
    call(writer, group, 4, node.ns(1))
    start_ns = node.ns(500)
    writer.begin(group, ALL_REDUCE, 0, 5, start_ns)
    named = ("llm", "0", "", "dp")
    found = node.look()
    assert found["collective_in_flight"][named] == 1
    assert found["collective_in_flight_age_seconds"][named] == pytest.approx(0.5, abs=1e-3)
    assert found["collective_last_sequence"][named] == 5
    assert node.place.board["in-flight"][0]["seq"] == 5
    call(writer, group, 5, start_ns, 100)
    found = node.look()
    assert found["collective_in_flight"][named] == 0
    assert found["collective_in_flight_age_seconds"][named] == 0
    assert node.place.board["in-flight"] == []


def test_messages_between_two_ranks_are_open_by_their_start_and_have_no_sequence(node):
    writer = node.ring()
    group = writer.group(9, [0, 1], 0, "pp")
    start_ns = node.ns(1)
    call(writer, group, 7, start_ns, op=SEND)
    writer.begin(group, SEND, 0, 1, start_ns + 100 * MS)  # the first to another peer
    found = node.look()
    assert found["collective_in_flight"]["llm", "0", "", "pp"] == 1
    assert not found["collective_last_sequence"] and not found["collective_local_lateness_seconds_total"]
    call(writer, group, 1, start_ns + 100 * MS, op=SEND)
    assert node.look()["collective_in_flight"]["llm", "0", "", "pp"] == 0


def test_groups_are_called_by_their_role_and_never_twice_the_same(node):
    writer = node.ring(world_size=4)
    for number, (size, role) in enumerate(((4, ""), (2, "dp"), (2, "dp"), (2, ""), (1, "tp")), 1):
        call(writer, writer.group(number, list(range(size)), 0, role), 1, node.ns(number))
    writer.write(COLLECTIVE, ALL_REDUCE, 31, seq=1, start_ns=node.ns(9), end_ns=node.ns(10))
    found = node.look()
    assert {labels[-1] for labels in found["collectives_total"]} == {"world", "dp", "dp2", "group3", "tp", "unknown"}


def test_the_gpu_is_named_by_its_slot_where_that_is_known(node):
    node.ring(device=0, gpu_uuid="GPU-5")
    assert list(node.look()["rank_heartbeat_age_seconds"]) == [("llm", "0", "0")]
    node.place.board["gpus"] = [{"slot": 5, "uuid": "GPU-5"}]
    assert list(node.look()["rank_heartbeat_age_seconds"]) == [("llm", "0", "5")]
    assert node.place.board["ranks"][0]["gpu"] == "5"


def test_unknown_kinds_and_operations_are_not_fatal(node):
    writer = node.ring()
    writer.write(200, 200, 200, seq=1, start_ns=node.ns(1), end_ns=node.ns(2))
    call(writer, writer.group(9, [0, 1], 0, "dp"), 1, node.ns(2), op=250, size=(1 << 64) - 1)
    writer.write(COLLECTIVE, ALL_REDUCE, 0, seq=2, start_ns=node.ns(9), end_ns=node.ns(3))
    found = node.look()
    assert found["collectives_total"]["llm", "0", "", "other", "dp"] == 1
    assert found["collective_seconds_total"]["llm", "0", "", "all_reduce", "dp"] == 0
    assert found["spool_events_total"][("other",)] == 1


def test_the_page_parses_and_examples_name_rank_and_sequence(node):
    writer = node.ring(rank=7)
    group = writer.group(9, [0, 7], 1, "dp")
    call(writer, group, 1, node.ns(1), 2)
    call(writer, group, 2, node.ns(9), 200)
    exposition = load("agents.exposition")
    node.now_s += 1
    block, series, dropped = exposition.Renderer().block(node.collector.collect())
    assert series > 30 and not dropped
    assert list(prometheus(exposition.page([block]).decode()))
    families = {family.name: family for family in openmetrics(exposition.page([block], openmetrics=True).decode())}
    buckets = families["skewscope_collective_duration_seconds"].samples
    examples = {sample.labels["le"]: sample.exemplar for sample in buckets if sample.exemplar}
    assert examples["0.3"].labels == {"rank": "7", "seq": "2"} and examples["0.3"].value == pytest.approx(0.2)
    node.now_s += 61
    assert not [sample for sample in node.collector.collect() if len(sample) == 4], "old examples go"


def test_no_table_of_groups_makes_one_series_twice(node):
    writer = node.ring(world_size=2)
    for number, role in enumerate(("", "", "world", "dp", "dp", "dp2", "group0", "dp"), 1):
        group = writer.group(number, [0, 1], 0, role)
        writer.begin(group, ALL_REDUCE, 0, number, node.ns(number))
    labels = [labels[-1] for labels in node.look()["collective_last_sequence"]]
    assert labels == ["world", "world2", "world3", "dp", "dp2", "world4", "world5", "dp3"]


def test_a_table_of_groups_that_changes_makes_no_series_twice(node):
    writer = node.ring(world_size=4)
    writer.begin(writer.group(1, [0, 1], 0, "dp"), ALL_REDUCE, 0, 1, node.ns(1))
    node.look()
    packed = spool.layout.GROUP.pack(1, 2, 0, 0, 1, b"tp", b"")
    writer._map[spool.layout.GROUP_AT : spool.layout.GROUP_AT + len(packed)] = packed
    writer.begin(writer.group(2, [0, 2], 0, "dp"), ALL_REDUCE, 0, 2, node.ns(2))
    assert {labels[-1] for labels in node.look()["collective_last_sequence"]} == {"dp", "dp2"}


def test_counters_never_fall_whatever_is_written(node):
    writer = node.ring()
    group = writer.group(9, [0, 1], 0, "dp")
    call(writer, group, 1, node.ns(1))
    node.look()
    writer.write(WORK, spool.UNITS.index("tokens"), size=4096)
    writer.write(WORK, spool.UNITS.index("tokens"), size=(1 << 64) - 4000)
    writer.write(PHASE, 1, start_ns=node.ns(9), end_ns=-(1 << 62))
    call(writer, group, 1, -5)
    found = node.look()
    assert found["work_units_total"]["llm", "0", "", "tokens"] == 4096
    assert all(value >= 0 for values in found.values() for value in values.values())


def test_a_start_that_is_none_makes_nobody_late(node):
    early, late = node.ring(0), node.ring(1)
    groups = [writer.group(9, [0, 1], rank, "world") for rank, writer in enumerate((early, late))]
    for seq in (1, 2):
        call(early, groups[0], seq, node.ns(seq), 2)
        call(late, groups[1], seq, node.ns(seq) if seq == 1 else 0, 2)
        found = node.look()
    assert set(found["collective_local_lateness_seconds_total"].values()) == {0}
