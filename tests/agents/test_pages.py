from __future__ import annotations

import gzip

import pytest

from skewscope.catalogue import load

pages, exposition = load("agents.pages"), load("agents.exposition")


def block(name, value):
    return exposition.Renderer().block([(name, (), value)])[0]


BLOCKS = {"fast": [block("skewscope_nvml_hung", 0)], "slow": [block("skewscope_host_clock_synchronized", 1)]}


@pytest.fixture
def served():
    made = pages.Pages(lambda: (), lambda: True)
    made.update(BLOCKS)
    return made


def test_the_two_parts_are_disjoint_and_make_up_the_whole(served):
    bodies = {path: served.reply(path, {}).body.decode() for path in pages.PARTS}
    assert "nvml_hung" in bodies["/metrics/fast"] and "clock" not in bodies["/metrics/fast"]
    assert "clock" in bodies["/metrics/slow"] and "nvml_hung" not in bodies["/metrics/slow"]
    assert len(bodies["/metrics"]) == len(bodies["/metrics/fast"]) + len(bodies["/metrics/slow"])


def test_form_and_compression_follow_what_the_client_takes(served):
    plain = served.reply("/metrics?x=1", {})
    assert plain.content_type == exposition.TEXT and not plain.encoding
    both = served.reply(
        "/metrics", {"accept": "application/openmetrics-text;q=0.9,text/plain;q=0.5", "accept-encoding": "gzip, br"}
    )
    assert both.content_type == exposition.OPENMETRICS and both.encoding == "gzip"
    assert gzip.decompress(both.body).endswith(b"# EOF\n")


def test_pages_that_somebody_asks_for_are_made_in_the_tick(served, monkeypatch: pytest.MonkeyPatch):
    first = served.reply("/metrics", {"accept-encoding": "gzip"})
    served.update({**BLOCKS, "fast": [block("skewscope_nvml_hung", 1)]})
    monkeypatch.setattr(pages, "page", lambda *_, **__: pytest.fail("made in the scrape"))
    second = served.reply("/metrics", {"accept-encoding": "gzip"})
    assert gzip.decompress(second.body) != gzip.decompress(first.body)
    assert b"skewscope_nvml_hung 1" in gzip.decompress(second.body)


def test_forms_nobody_asked_for_lately_are_no_longer_made(served, monkeypatch: pytest.MonkeyPatch):
    served.reply("/metrics", {"accept-encoding": "gzip"})
    monkeypatch.setattr(pages, "KEEP_FORM_S", -1.0)
    served.update(BLOCKS)
    assert not served._made


@pytest.mark.parametrize(
    ("path", "status"), [("/healthz", 200), ("/readyz", 200), ("/", 200), ("/metrics/", 404), ("/../etc/passwd", 404)]
)
def test_other_paths(served, path: str, status: int):
    assert served.reply(path, {}).status == status


def test_health_and_readiness_are_two_things():
    made = pages.Pages(lambda: ["nvml-device: no driver"], lambda: True)
    assert made.reply("/healthz", {}).status == 200
    assert made.reply("/readyz", {}).status == 503 and b"no driver" in made.reply("/readyz", {}).body
    assert pages.Pages(lambda: (), lambda: False).reply("/healthz", {}).status == 503


def test_a_page_that_nobody_has_filled_is_no_empty_page(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pages, "FIRST_WITHIN_S", 0.01)
    assert pages.Pages(lambda: (), lambda: True).reply("/metrics", {}).status == 503
