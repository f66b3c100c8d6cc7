import pytest

from skewscope.metrics import metric
from skewscope.signals.identity import identify
from skewscope.sources import _dcgm_names, _node_exporter_names
from skewscope.sources._telemetry_series import XID


def all_meanings():
    found = [meaning for field in _dcgm_names.FIELDS for meaning in field.meanings]
    for group in ("OF_HOST", "OF_PORT", "OF_INTERFACE", "OF_DRIVER", "OF_DISK", "OF_SLOT"):
        found += getattr(_node_exporter_names, group).values()
    names = ("rx_prio0_pause", "tx_global_pause_duration", "rx_prio1_marked", "outbound_pci_stalled_wr_events")
    found += [_node_exporter_names.driver_meaning(name) for name in names]
    return [meaning for meaning in found if meaning.metric != XID]


@pytest.mark.parametrize("meaning", all_meanings(), ids=lambda meaning: f"{meaning.metric}[{meaning.labels}]")
def test_every_meaning_is_a_metric_with_its_labels(meaning):
    told = dict(part.split("=") for part in meaning.labels.split(",") if part)
    declared = metric(meaning.metric)
    identity = {name: "1" for name in declared.labels if name not in told}
    assert set(identity) <= {"gpu", "uuid", "device", "port"} or meaning.metric.startswith("skewscope_pcie_link")
    if "role" not in identity:
        assert identify(meaning.metric, {**identity, **told})[3] == meaning.labels
    assert all(value in declared.values.get(name, (value,)) for name, value in told.items())
