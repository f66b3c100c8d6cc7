"""Saved pages of Prometheus metrics: of skewscope's agent, dcgm-exporter, node_exporter and inference engines.

One page, or many one after another, in the text format or as OpenMetrics, gzip or not. The time of a value is the one
in its line, else that of its page (a line before it as `date +%s` prints it, `node_time_seconds`, the agent's newest
collector run), else that in the file's name (as `vllm-1700000000.prom`), else the file's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..contracts import Reading
from ..errors import Unreadable
from ..metrics import engine_names
from . import _bytes, _expert_rows, _exposition_names, _moe_series, _telemetry_file
from ._exposition_lines import Lines
from ._node_exporter_names import slot
from ._telemetry_series import Samples, Series, columns

BLOCK_BYTES = 1 << 22
LONGEST_LINE_BYTES = 1 << 20
OURS = re.compile(
    rb"^(?:# (?:HELP|TYPE) (?:skewscope|DCGM|node)_\w+ |(?:skewscope|DCGM|node)_[\w:]+(?:\{|[ \t]+[-+\dNI]))", re.M
)
ENGINES = re.compile(
    rb"^(?:# (?:HELP|TYPE) )?(?:vllm:|sglang:|trtllm[_:]|eplb:expert_|inference_extension_flow_|dynamo_frontend_)", re.M
)
NAMED = re.compile(r"(?<!\d)(?:1[5-9]|2[0-4])\d{8}(?:\d{3})?(?!\d)")  # epoch s or ms in a file's name, 2017 to 2049
ANY = re.compile(rb"^# TYPE [a-zA-Z_:][\w:]* (?:gauge|counter|histogram|summary|untyped|unknown|info)\s*$", re.M)
CLOCKS = ("node_time_seconds", "skewscope_collector_last_success_timestamp_seconds")
WATCHED = ("0x02", "0x03", "0x0604", "0x12")  # PCI classes: network, display, bridges to them, accelerators
BRIDGE = "0x0604"
EXAMPLES = 3


class ExpositionPage:
    """Reads what `curl host:port/metrics` prints, and files of many such pages."""

    format: ClassVar[str] = "exposition-page"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins an exposition with series that have a meaning here."""
        if OURS.search(head) or ENGINES.search(head) and ANY.search(head):
            return 0.95
        return 0.3 if ANY.search(head) else 0.0

    def read(self, path: Path) -> Reading:
        """Return `samples`, `events` for XIDs, and what engines tell of experts.

        Raises Unreadable where no series has a meaning here.
        """
        page = _Pages()
        damage = page.read(path)
        t_ns, dropped = page.times(taken_ns(path))
        samples = page.samples(t_ns, _telemetry_file.node_of(path))
        experts = page.experts(t_ns)
        if not samples.rows and not samples.xids and not experts:
            raise Unreadable(
                page.nothing(),
                "give it pages of skewscope's agent, dcgm-exporter, node_exporter, vLLM, SGLang or TensorRT-LLM",
            )
        reading = _telemetry_file.reading(
            path, self.format, [("samples", samples.columns), ("events", samples.events)], page.devices(path)
        )
        reading.batches += experts
        reading.events += sum(_expert_rows.length(columns) for _, columns in experts)
        reading.warnings = page.warnings(samples, dropped)
        if damage or page.cut:
            reading.status, reading.error = "partial", damage or "the last line is cut"
        return reading


def taken_ns(path: Path) -> int:
    """Return when a page was saved, ns since the Unix epoch: as the file's name tells, else when it was last written.

    >>> taken_ns(Path("vllm-0_1700000000.prom.gz"))
    1700000000000000000
    """
    told = NAMED.search(path.name)
    return _telemetry_file.moment_ns(told[0]) if told else _telemetry_file.changed_ns(path)


class _Pages:
    """The series and values of one file."""

    def __init__(self) -> None:
        self.lines = Lines(self._learn)
        self.cut = False
        self._told: list[tuple[Series, ...]] = []
        self._clocks: list[int] = []
        self._skipped: Counter[str] = Counter()
        self._named: set[tuple[str, str, str]] = set()
        self._watched: set[str] = set()
        self._seen_slots = False
        self._host = self._endpoint = ""
        self._engines: dict[tuple[str, str], str] = {}  # (engine, our metric) -> its name of it that counts
        self._moe: dict[int, _moe_series.Moe] = {}

    def read(self, path: Path) -> str:
        """Read all lines and return the damage of the file, "" for none; a line without an end is left out."""
        rest, self._endpoint = b"", _exposition_names.endpoint(path)
        with _bytes.Stream(path) as stream:
            while block := stream.read(BLOCK_BYTES):
                whole, line_end, rest = (rest + block).rpartition(b"\n")
                if line_end:
                    self.lines.take(whole.decode("utf-8", "replace").replace("\r", "").split("\n"))
                if len(rest) > LONGEST_LINE_BYTES:
                    raise Unreadable("a line of more than a MiB: this is no exposition")
            damage = stream.damage
        self.cut = bool(rest.strip())
        return damage

    def _learn(self, name: str, labels: Mapping[str, str]) -> bool:
        experts = _moe_series.meaning(name, labels)
        engine = self._engine(name, labels)
        if experts is not None:
            self._moe[len(self._told)] = experts
        if experts is not None or engine:
            self._told.append(engine)
            return True
        series = _exposition_names.series(name, labels)
        if name == "node_uname_info":
            self._host = labels.get("nodename", "")
        elif name == "node_pcidevice_info":
            self._watch(labels)
        if name in CLOCKS:
            self._clocks.append(len(self._told))
        elif not series:
            if series is None:
                self._skipped[name] += 1
            return False
        if device := _exposition_names.devices(name, labels):
            self._named.add((_exposition_names.host(labels), _telemetry_file.pci_address(device[0]), device[1]))
        self._told.append(series or ())
        return True

    def _engine(self, name: str, labels: Mapping[str, str]) -> tuple[Series, ...]:
        """Return what a series of an engine means; of an old and a new name of the same the first counts."""
        told = _exposition_names.engine(name, labels, self._endpoint)
        if told is None:
            return ()
        theirs, meant = told
        return (meant,) if self._engines.setdefault(engine_names.TOLD[theirs], theirs) == theirs else ()

    def _watch(self, labels: Mapping[str, str]) -> None:
        """Note the devices whose links matter, and the bridges right above them."""
        self._seen_slots = True
        kind = labels.get("class_id", "")
        if kind.startswith(WATCHED) and not kind.startswith(BRIDGE):
            self._watched |= {slot(labels), slot(labels, "parent_")}

    def times(self, changed_ns: int) -> tuple[Any, int]:
        """Return the time of each value, -1 for those that cannot be placed, and how many these are."""
        t_ns = np.array(self.lines.t_ns, dtype=np.int64)
        pages = np.where(t_ns < 0, -t_ns - 2, 0)
        page_ns = np.array(self.lines.page_ns, dtype=np.int64)
        clock = np.isin(np.array(self.lines.numbers, dtype=np.int64), self._clocks) & (t_ns < 0)
        told_s = np.full(len(page_ns), -1.0)
        values = np.array(self.lines.values)
        fit = clock & (values > 0) & (values < 1e10)
        np.maximum.at(told_s, pages[fit], values[fit])
        whole_s = np.floor(told_s)
        told_ns = whole_s.astype(np.int64) * 10**9 + np.rint((told_s - whole_s) * 1e9).astype(np.int64)
        page_ns = np.where((page_ns < 0) & (told_s > 0), told_ns, page_ns)
        t_ns = np.where(t_ns < 0, page_ns[pages], t_ns)
        untimed = np.flatnonzero(t_ns < 0)
        # Without a time only the last value of a series can be placed: then the file was written.
        numbers = np.array(self.lines.numbers, dtype=np.int64)[untimed]
        last = untimed[len(numbers) - 1 - np.unique(numbers[::-1], return_index=True)[1]]
        t_ns[last] = changed_ns
        return t_ns, len(untimed) - len(last)

    def samples(self, t_ns: Any, host: str) -> Samples:  # noqa: ANN401 - an array
        """Return the rows; series that name no host are of `host`, or of the one that the page names."""
        host = self._host or host
        told = [tuple(self._placed(one, host) for one in some if self._matters(one)) for some in self._told]
        known = t_ns >= 0
        numbers, values = np.array(self.lines.numbers, dtype=np.int64), np.array(self.lines.values)
        return columns(told, numbers[known], values[known], t_ns[known])

    def experts(self, t_ns: Any) -> list[_expert_rows.Batch]:  # noqa: ANN401 - an array
        """Return what engines tell of experts and their balance."""
        numbers, values = np.array(self.lines.numbers, dtype=np.int64), np.array(self.lines.values)
        return _moe_series.batches(self._moe, numbers, values, t_ns) if self._moe else []

    @staticmethod
    def _placed(one: Series, host: str) -> Series:
        return one if one.node else replace(one, node=host)

    def _matters(self, one: Series) -> bool:
        """Return whether a link is one of a GPU or an adapter, where the page tells what stands in each slot."""
        if not self._seen_slots or not one.meaning.metric.startswith("skewscope_pcie_link_"):
            return True
        return one.device in self._watched

    def devices(self, path: Path) -> set[tuple[str, str, str]]:
        """Return (node, PCI address, name) of all devices that the page names."""
        host = self._host or _telemetry_file.node_of(path)
        return {(node or host, address, name) for node, address, name in self._named}

    def nothing(self) -> str:
        """Return why there is no row."""
        if self._skipped:
            return f"none of its series has a meaning here: {self._examples()}"
        return f"no readable sample in {self.lines.line} lines"

    def _examples(self) -> str:
        return ", ".join(name for name, _ in self._skipped.most_common(EXAMPLES))

    def warnings(self, samples: Samples, dropped: int) -> list[str]:
        """Return what was left out."""
        told = []
        lines = self.lines
        if lines.bad_count:
            more = " ..." if lines.bad_count > len(lines.bad) else ""
            told.append(f"{lines.bad_count} malformed lines (line {', '.join(map(str, lines.bad))}{more})")
        if self._skipped:
            count = sum(self._skipped.values())
            told.append(f"{count} series of {len(self._skipped)} names without a meaning here ({self._examples()})")
        if samples.repeated:
            told.append(f"{samples.repeated} values repeat a series at the same time: the first counts")
        if dropped:
            told.append(f"{dropped} values of earlier pages without a time are left out: write `date +%s` before each")
        return told
