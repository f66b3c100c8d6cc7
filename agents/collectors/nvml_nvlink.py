"""NVLinks of each GPU: how many are up and how fast, what went wrong on them, and links to the CPU if it has any.

States are asked each second. Errors are asked as totals each second; which link they are on is asked when a total has
changed, and at most every five seconds. Bit error ratios are asked every fifteen seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from ._nvml_batch import ALL_LINKS, Batch, Field
from ._nvml_devices import Devices, devices
from ._nvml_inventory import Device

LINKS, C2C = "skewscope_gpu_nvlink_links", "skewscope_gpu_c2c_links"
SPEED = "skewscope_gpu_nvlink_speed_bytes_per_second"
ERRORS, LINK_ERRORS = "skewscope_gpu_nvlink_errors_total", "skewscope_gpu_nvlink_link_errors_total"
RECOVERIES, BIT_ERRORS = "skewscope_gpu_nvlink_recovery_events_total", "skewscope_gpu_nvlink_bit_error_ratio"
COUNT, STATE, MEGABYTES_PER_S = 91, 165, 164
C2C_COUNT, C2C_STATE = 170, 171
ACTIVE, SLEEP = 1, 2
MOST_LINKS = 36
LINKS_EVERY_S, RATIOS_EVERY_S = 5.0, 15.0
# fmt: off
# error -> fields that give its total, the first that answers counts; fields with a scope give single links as well
TOTALS: dict[str, tuple[Field, ...]] = {
    "replay": ((52, 0), (161, ALL_LINKS)), "recovery": ((59, 0), (162, ALL_LINKS)),
    "crc_flit": ((38, 0), (163, ALL_LINKS)), "crc_data": ((45, 0),), "ecc": ((160, 0),),
    "symbol": ((221, ALL_LINKS),), "effective": ((219, ALL_LINKS),), "receive": ((208, ALL_LINKS),),
    "overrun": ((207, ALL_LINKS),), "discard": ((212, ALL_LINKS),), "malformed": ((206, ALL_LINKS),),
    "remote": ((209, ALL_LINKS),), "general": ((210, ALL_LINKS),), "integrity": ((211, ALL_LINKS),),
}
# fmt: on
RESULTS = {"successful": (213, ALL_LINKS), "failed": (214, ALL_LINKS)}
RATIOS = {"effective": 220, "symbol": 222}
COUNTERS = ("replay", "recovery", "crc_flit", "crc_data", "ecc")  # of GetNvLinkErrorCounter, in its order


def bit_error_ratio(packed: int) -> float:
    """Return the ratio that NVML packs as mantissa (bits 8-11) and negative power of ten (bits 0-7).

    >>> bit_error_ratio(0x30C)
    3e-12
    """
    return float(f"{packed >> 8 & 0xF}e-{packed & 0xFF}")


class Links:
    """What is asked of one GPU's links."""

    def __init__(self, asked: Devices, device: Device) -> None:
        counts = Batch(asked, device, ((COUNT, 0), (C2C_COUNT, 0)))
        told = dict(zip(counts.fields, counts.read(), strict=False))
        self.good = counts.good
        self.until = counts
        self.many = min(int(told.get((COUNT, 0)) or 0), MOST_LINKS)
        self.c2c = min(int(told.get((C2C_COUNT, 0)) or 0), MOST_LINKS)
        every = range(self.many)
        now = [*((STATE, link) for link in every), *((MEGABYTES_PER_S, link) for link in every)]
        totals = [field for fields in TOTALS.values() for field in fields] if self.many else []
        results = RESULTS.values() if self.many else ()
        self.now = Batch(asked, device, [*now, *((C2C_STATE, link) for link in range(self.c2c)), *totals, *results])
        place = {field: at for at, field in enumerate(self.now.fields)}
        self.states = [place[STATE, link] for link in every if (STATE, link) in place]
        self.speeds = [place[MEGABYTES_PER_S, link] for link in every if (MEGABYTES_PER_S, link) in place]
        self.c2c_states = [place[C2C_STATE, link] for link in range(self.c2c) if (C2C_STATE, link) in place]
        self.totals = list(_first(device, place))
        self.results = [(place[field], (*device.labels, name)) for name, field in RESULTS.items() if field in place]
        self.labels = {name: (*device.labels, name) for name in ("active", "inactive", "sleep", "expected")}
        self.seen: list[int | float | None] = []
        self.by_link: list[Sample] = []
        self.by_link_s = self.ratios_s = -1e9
        self.ratios: list[Sample] = []
        self.errors: Batch | None = None
        self.ratio_fields: Batch | None = None


def _first(device: Device, place: dict[Field, int]) -> Iterator[tuple[int, tuple[str, ...]]]:
    for error, fields in TOTALS.items():
        for field in fields:
            if field in place:
                yield place[field], (*device.labels, error)
                break


class NvmlNvlink:
    """Asks for the links of each GPU."""

    process: ClassVar[str] = "nvml"
    group: ClassVar[str] = "fast"
    exports: ClassVar[tuple[str, ...]] = (LINKS, SPEED, ERRORS, RECOVERIES, BIT_ERRORS, LINK_ERRORS, C2C)

    def __init__(self, place: Place) -> None:
        self._place = place

    def collect(self) -> Iterable[Sample]:
        """Return the samples of now. Raises NoData where no GPU has links."""
        asked = devices(self._place)
        found: list[Sample] = []
        ready = asked.ready()
        for device in ready:
            links: Links | None = device.kept.get("nvlink")
            if links is None or links.until.stale():
                links = Links(asked, device)
                if not (links.good and links.now.good):
                    continue
                device.kept["nvlink"] = links
            if links.many or links.c2c:
                self._read(asked, device, links, found)
        if not found and ready:
            raise NoData("no GPU here has NVLinks")
        return found

    def _read(self, asked: Devices, device: Device, links: Links, found: list[Sample]) -> None:
        values = links.now.read()
        if not values:
            return
        if links.many:
            self._states(asked, device, links, [values[at] for at in links.states], found)
        if links.speeds:
            speeds = [values[at] for at in links.speeds]
            found.append((SPEED, device.labels, sum(int(speed) for speed in speeds if speed) * 1e6))
        if links.c2c:
            up = [values[at] for at in links.c2c_states]
            found += _counts(C2C, links, up.count(ACTIVE), len(up) - up.count(ACTIVE) - up.count(None), links.c2c)
        for at, labels in links.results:
            value = values[at]
            if value is not None:
                found.append((RECOVERIES, labels, value))
        self._errors(asked, device, links, [values[at] for at, _ in links.totals], found)
        self._ratios(asked, device, links)
        found += links.ratios

    def _states(
        self, asked: Devices, device: Device, links: Links, states: list[int | float | None], found: list[Sample]
    ) -> None:
        if not states:  # a driver without the field
            states = [asked.ask(device, "GetNvLinkState", link) for link in range(links.many)]
        active, asleep = states.count(ACTIVE), states.count(SLEEP)
        found += _counts(LINKS, links, active, len(states) - active - asleep - states.count(None), links.many)
        found.append((LINKS, links.labels["sleep"], asleep))

    def _errors(
        self, asked: Devices, device: Device, links: Links, totals: list[int | float | None], found: list[Sample]
    ) -> None:
        for (_, labels), total in zip(links.totals, totals, strict=True):
            if total is not None:
                found.append((ERRORS, labels, total))
        now_s = asked.now_s()
        if any(totals) and totals != links.seen and now_s - links.by_link_s >= LINKS_EVERY_S:
            links.seen, links.by_link_s = totals, now_s
            links.by_link = self._by_link(asked, device, links)
        found += links.by_link

    def _by_link(self, asked: Devices, device: Device, links: Links) -> list[Sample]:
        """Return the errors of each link that has any."""
        if links.errors is None:
            scoped = [field for fields in TOTALS.values() for field, scope in fields if scope == ALL_LINKS]
            links.errors = Batch(asked, device, [(field, link) for field in scoped for link in range(links.many)])
        names = {field: error for error, fields in TOTALS.items() for field, scope in fields if scope == ALL_LINKS}
        counts: dict[tuple[int, str], int] = {}
        for (field, link), value in zip(links.errors.fields, links.errors.read(), strict=False):
            if value:
                counts[link, names[field]] = int(value)
        single = {names[field] for field, _ in links.errors.fields}
        for number, error in enumerate(COUNTERS):
            for link in range(links.many) if error not in single else ():
                value = asked.ask(device, "GetNvLinkErrorCounter", link, number)
                if value:
                    counts[link, error] = int(value)
        return [(LINK_ERRORS, (*device.labels, str(link), error), n) for (link, error), n in sorted(counts.items())]

    def _ratios(self, asked: Devices, device: Device, links: Links) -> None:
        now_s = asked.now_s()
        if not links.many or now_s - links.ratios_s < RATIOS_EVERY_S:
            return
        links.ratios_s = now_s
        if links.ratio_fields is None:
            fields = RATIOS.values()
            links.ratio_fields = Batch(asked, device, [(field, link) for field in fields for link in range(links.many)])
        worst: dict[int, float] = {}
        for (field, _), value in zip(links.ratio_fields.fields, links.ratio_fields.read(), strict=False):
            if value is not None:
                worst[field] = max(worst.get(field, 0.0), bit_error_ratio(int(value)))
        links.ratios = [
            (BIT_ERRORS, (*device.labels, kind), worst[field]) for kind, field in RATIOS.items() if field in worst
        ]


def _counts(metric: str, links: Links, active: int, inactive: int, expected: int) -> list[Sample]:
    labels = links.labels
    return [
        (metric, labels["active"], active), (metric, labels["inactive"], inactive),
        (metric, labels["expected"], expected),
    ]  # fmt: skip
