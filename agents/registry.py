"""The same samples for those who already serve a prometheus-client registry.

>>> from prometheus_client import CollectorRegistry  # doctest: +SKIP
>>> NodeCollector(Settings(collectors=("rdma",)).place(), ["rdma"]).register(CollectorRegistry())  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from skewscope.contracts import Collector, Place, Sample
from skewscope.errors import NoData
from skewscope.metrics import Metric as Declared

from .crew import collectors
from .exposition import family_of

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric


class NodeCollector:
    """A prometheus-client collector: samples when it is scraped. Collectors that fail or hang are the caller's."""

    def __init__(self, place: Place, wanted: Sequence[str] = ()) -> None:
        self._collectors: list[Collector] = [room.kind()(place) for room in collectors(wanted).values()]

    def collect(self) -> Iterator[Metric]:
        """Yield the families of all collectors that have something."""
        yield from families(self._samples())

    def register(self, registry: CollectorRegistry) -> None:
        """Join a registry."""
        registry.register(self)

    def _samples(self) -> Iterator[Sample]:
        for collector in self._collectors:
            try:
                yield from collector.collect()
            except NoData:
                continue


def families(samples: Iterable[Sample]) -> Iterator[Metric]:
    """Yield prometheus-client's families of samples."""
    from prometheus_client.core import Metric

    found: dict[str, Metric] = {}
    for name, values, value, *_ in samples:
        declared = family_of(name)
        family = found.get(declared.name)
        if family is None:
            bare = declared.name.removesuffix("_total") if declared.kind == "counter" else declared.name
            family = found[declared.name] = Metric(bare, declared.help, declared.kind)
        family.add_sample(name, dict(zip(_labels(declared, name), values, strict=True)), float(value))
    yield from found.values()


def _labels(declared: Declared, name: str) -> tuple[str, ...]:
    bucket = declared.kind == "histogram" and name.endswith("_bucket")
    return (*declared.labels, "le") if bucket else declared.labels
