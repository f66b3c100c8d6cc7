"""What several collectors say of one job is never one series twice."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as prometheus

from skewscope.catalogue import load, room
from skewscope.errors import NoData

_spec = importlib.util.spec_from_file_location("ring_node", Path(__file__).parents[1] / "ring_node.py")
ring_node = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(ring_node)
Node, call = ring_node.Node, ring_node.call


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path)
    yield made
    for writer in made.writers:
        writer.close()


def line(job_folder, name: str) -> None:
    job_folder.mkdir(parents=True, exist_ok=True)
    record = {"header": {"id": "0x1", "comm_name": "world", "rank": 0, "n_ranks": 2},
              "coll_perf": {"coll": "AllReduce", "coll_sn": 1, "coll_msg_size_bytes": 1 << 21, "coll_exec_time_us": 9.0,
                            "coll_busbw_gbs": 1.0}}  # fmt: skip
    with (job_folder / name).open("a") as file:
        file.write(json.dumps(record) + "\n")


def dumped(folder, rank: int) -> None:
    folder.mkdir(exist_ok=True)
    entries = [
        {"collective_seq_id": seq, "process_group": (name, about), "profiling_name": "nccl:all_reduce"}
        for seq in range(1, 4)
        for name, about in (("0", "default_pg"), ("1", "default_pg"), ("1" * 40, "dp"), ("1" * 41, "dp"))
    ]
    (folder / f"llm_rank{rank}.json").write_text(json.dumps({"entries": entries}))


class Page:
    """A page of collectors that each look every so many seconds, as the agent makes it."""

    def __init__(self, place, **every: int) -> None:
        self.every = every
        self.collectors = {name: room("agents.collectors", name).kind()(place) for name in every}
        self.renderers = {name: load("agents.exposition").Renderer() for name in every}
        self.blocks = {}
        self.seen = set()

    def look(self, second: int) -> None:
        for name in [name for name, seconds in self.every.items() if second % seconds == 0]:
            try:
                self.blocks[name] = self.renderers[name].block(self.collectors[name].collect())[0]
            except NoData:
                self.blocks.pop(name, None)
            page = load("agents.exposition").page(self.blocks.values()).decode()
            samples = [sample for family in prometheus(page) for sample in family.samples]
            series = [(sample.name, *sorted(sample.labels.items())) for sample in samples]
            assert len(series) == len(set(series)), f"second {second}, after {name}"
            self.seen.update(sample.name.removeprefix("skewscope_") for sample in samples)


def test_no_page_holds_a_series_twice(node):
    """Dumps and logs of a job, then its rings as well, each collector at a pace of its own; then the rings end."""
    place = dataclasses.replace(node.place, now_s=time.time)
    page = Page(place, **{"collectives": 1, "nccl-inspector": 2, "flight-recorder": 5})
    for second in range(20):
        if second == 6:
            writer = node.ring(0)  # no GPU, as in a dump or a log
            for number in range(2):
                call(writer, writer.group(number, [0, 1], 0, ""), 1, node.ns(number + 1))
        if second == 12:
            writer.close()
        node.now_s += 1
        page.look(second)
        line(node.spool / "inspector" / "llm", "a.log")
        dumped(node.spool / "flight", 0)
    assert {"collective_last_sequence", "flight_last_sequence", "collectives_total"} <= page.seen
