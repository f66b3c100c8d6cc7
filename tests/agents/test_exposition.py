from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from skewscope.catalogue import load

exposition = load("agents.exposition")
GPU = ("0", "GPU-a")


def page(samples, openmetrics=False):
    return exposition.page([exposition.Renderer().block(samples)[0]], openmetrics=openmetrics).decode()


def parsed(text):
    samples = (one for family in parse_text(text) for one in family.samples)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for one in samples}


def test_a_page_has_help_type_and_lines_once_a_family():
    blocks = [
        exposition.Renderer().block([("skewscope_gpu_utilization_ratio", (slot, "u"), 0.5)])[0] for slot in ("0", "1")
    ]
    lines = exposition.page(blocks).decode().splitlines()
    assert [line[:40] for line in lines if line.startswith("# TYPE")] == ["# TYPE skewscope_gpu_utilization_ratio g"]
    assert lines[2:] == [
        'skewscope_gpu_utilization_ratio{gpu="0",uuid="u"} 0.5',
        'skewscope_gpu_utilization_ratio{gpu="1",uuid="u"} 0.5',
    ]


def test_unknown_values_are_left_out_and_infinite_ones_are_spelt():
    samples = [
        ("skewscope_gpu_utilization_ratio", GPU, float("nan")),
        ("skewscope_gpu_power_watts", (*GPU, "average"), float("inf")),
        ("skewscope_nvml_hung", (), True),
    ]
    text = page(samples)
    assert "utilization" not in text and "} +Inf\n" in text and "skewscope_nvml_hung 1\n" in text


def test_openmetrics_names_counters_without_total_and_ends():
    text = page([("skewscope_gpu_energy_joules_total", GPU, 12.5)], openmetrics=True)
    assert "# TYPE skewscope_gpu_energy_joules counter\n" in text
    assert text.endswith('skewscope_gpu_energy_joules_total{gpu="0",uuid="GPU-a"} 12.5\n# EOF\n')
    assert [family.name for family in parse_openmetrics(text)] == ["skewscope_gpu_energy_joules"]


def test_exemplars_stand_in_openmetrics_only():
    name = "skewscope_collective_duration_seconds"
    samples = [
        (f"{name}_bucket", ("j", "all_reduce", "dp", "+Inf"), 3, '{rank="2",seq="9"} 0.25 1700000000.0'),
        (f"{name}_sum", ("j", "all_reduce", "dp"), 0.5),
        (f"{name}_count", ("j", "all_reduce", "dp"), 3),
    ]
    assert "#" not in page(samples).split("histogram\n")[1]
    family = next(parse_openmetrics(page(samples, openmetrics=True)))
    bucket = next(one for one in family.samples if one.name.endswith("_bucket"))
    assert bucket.exemplar.labels == {"rank": "2", "seq": "9"} and bucket.exemplar.value == 0.25


def test_more_series_than_allowed_are_dropped_and_counted():
    samples = [("skewscope_gpu_utilization_ratio", (str(slot), "u"), 0.1) for slot in range(10)]
    block, series, dropped = exposition.Renderer(most_series=4).block(samples)
    assert (series, dropped) == (4, 6)
    assert block["skewscope_gpu_utilization_ratio"][0].count(b"\n") == 4


def test_labels_of_old_jobs_are_forgotten():
    renderer = exposition.Renderer()
    for job in range(3000):
        renderer.block([("skewscope_steps_total", (f"job{job}", "0", "0"), 1)])
    assert len(renderer._known) <= 1002


def test_a_block_in_which_nothing_changed_is_the_same_object_and_a_change_makes_one_family_new():
    def rows(ratio, hung):
        return [
            ("skewscope_gpu_utilization_ratio", ("0", "u"), ratio), ("skewscope_nvml_hung", (), hung),
            ("skewscope_gpu_utilization_ratio", ("1", "u"), 0.25),
        ]  # fmt: skip

    renderer = exposition.Renderer()
    first = renderer.block(rows(0.5, 0))[0]
    assert renderer.block(rows(0.5, 0))[0] is first
    second = renderer.block(rows(0.75, 0))[0]
    assert second["skewscope_nvml_hung"] is first["skewscope_nvml_hung"]
    assert second == exposition.Renderer().block(rows(0.75, 0))[0]
    assert "skewscope_nvml_hung" in first and first != second  # what was handed out stays as it was


@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.floats()), max_size=4, unique_by=lambda row: row[0])))
def test_what_is_kept_never_differs_from_what_is_made_anew(turns):
    renderer = exposition.Renderer()
    for turn in turns:
        samples = [("skewscope_gpu_utilization_ratio", (slot, "u"), value) for slot, value in turn]
        assert exposition.page([renderer.block(samples)[0]]) == exposition.page(
            [exposition.Renderer().block(samples)[0]]
        )


def test_an_undeclared_metric_or_a_wrong_number_of_labels_is_an_error():
    with pytest.raises(KeyError, match="skewscope_nonsense"):
        page([("skewscope_nonsense", (), 1)])
    with pytest.raises(ValueError, match="wants the labels gpu, uuid"):
        page([("skewscope_gpu_utilization_ratio", ("0",), 1)])


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5), st.floats(allow_nan=False))
@example([("", "\x1f"), ("", "\x1e"), ("", "a" * 200), ("", "a" * 201)], 0.0)
def test_any_label_survives_the_reference_parser(labels, value):
    samples = [("skewscope_gpu_utilization_ratio", label, value) for label in dict.fromkeys(labels)]
    shown = page(samples)
    assert len(list(parse_text(shown))) == bool(samples)
    assert all(found == value for found in parsed(shown).values())
    assert sum(len(family.samples) for family in parse_openmetrics(page(samples, openmetrics=True))) == len(samples)
