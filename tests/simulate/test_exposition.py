import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from skewscope.metrics import METRICS
from skewscope.simulate import simulate
from skewscope.simulate.exposition import page, pages
from skewscope.simulate.scenario import parse

DECLARED = {metric.name: metric for metric in METRICS}
LEAST_FAMILIES = 90
FAULTS = (
    "gpu-off-bus",
    "pfc-storm",
    "gpu-gsp-timeout",
    "nvlink-error-rate",
    "pcie-error-replay",
    "host-numa-misbinding",
)


def made(condition, fabric="roce"):
    jobs = [{"ranks": 16, "steps": 120}, {"name": "chat", "kind": "serving", "ranks": 8, "steps": 120}]
    content = {"fleet": {"fabric": fabric}, "jobs": jobs, "faults": [{"condition": condition}]}
    return simulate(parse(content, "pages"), 2)


@pytest.mark.parametrize("condition", FAULTS)
def test_families_are_as_declared(condition):
    found = pages(made(condition))
    names = set()
    for text in found.values():
        for family in text_string_to_metric_families(text):
            name = family.name + ("_total" if family.type == "counter" else "")
            names.add(name)
            declared = DECLARED[name]
            assert family.type == declared.kind and family.documentation == declared.help
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == set(declared.labels), sample
                for label, values in declared.values.items():
                    assert sample.labels[label] in values, (name, label)
    assert len(names) > LEAST_FAMILIES


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool")
@pytest.mark.parametrize("condition", FAULTS)
def test_promtool_is_content(condition):
    for text in pages(made(condition)).values():
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=text, text=True, capture_output=True, timeout=60
        )
        assert checked.returncode == 0 and not checked.stdout + checked.stderr


def test_buckets_grow_up_to_infinity():
    lines = [line for line in page(made("pfc-storm"), "n000", 6).splitlines() if "step_duration_seconds_bucket" in line]
    counts = [float(line.rpartition(" ")[2]) for line in lines]
    assert counts == sorted(counts) and 'le="+Inf"' in lines[-1] and counts[-1] > 0


def test_a_page_of_an_earlier_time_has_smaller_counters():
    simulation = made("pfc-storm")

    def joules(window):
        text = page(simulation, "n001", window)
        return sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith("skewscope_gpu_energy_joules_total{")
        )

    assert 0 < joules(3) < joules(9)


def test_the_lost_gpu_is_missing_from_the_page_but_its_loss_is_told():
    simulation = made("gpu-off-bus")
    fault = simulation.truth["faults"][0]
    slot = fault["subject"].removeprefix(fault["node"] + "/gpu")
    text = page(simulation, fault["node"])
    assert f'skewscope_gpu_power_watts{{gpu="{slot}"' not in text
    assert f'skewscope_gpu_access_state{{gpu="{slot}"' in text and ',state="lost"} 1' in text
