from __future__ import annotations

import json
import threading
from pathlib import Path
from runpy import run_path

import pytest

pytest.importorskip("dash")
made = run_path(str(Path(__file__).with_name("_served.py")))
served, shown, body, zoom_body, View = (made[name] for name in ("served", "shown", "body", "zoom_body", "View"))


def texts(part) -> list[str]:
    """Return all texts of components."""
    if isinstance(part, str):
        return [part]
    if isinstance(part, list):
        return [text for one in part for text in texts(one)]
    return texts(part["props"].get("children")) if isinstance(part, dict) and "props" in part else []


def test_a_page_has_its_words_and_links_that_keep_the_selection():
    client, _ = served()
    answer = shown(client, "/why", "?rank=7")["response"]
    assert "because of rank 7" in texts(answer["page"]["children"])
    assert [one["props"]["href"] for one in answer["nav"]["children"]] == ["/?rank=7", "/why?rank=7"]
    assert [one["props"].get("aria-current") for one in answer["nav"]["children"]] == [None, "page"]


def test_the_index_is_a_page_for_everybody():
    client, _ = served()
    page = client.get("/").text
    assert '<html lang="en">' in page
    assert "width=device-width" in page


def test_nothing_new_sends_nothing():
    client, _ = served()
    sent = shown(client)["response"]["sent"]["data"]
    assert client.post("/_dash-update-component", json=body(sent=sent)).status_code == 204


def test_new_data_change_the_blocks_that_differ_in_place():
    client, source = served()
    sent = shown(client)["response"]["sent"]["data"]
    source.now = View(id="two", title="made up")
    answer = shown(client, sent=sent)
    assert "page" not in answer["response"]
    changed = {(one["kind"], one["name"]) for one in map(json.loads, answer["sideUpdate"])}
    assert {name for _, name in changed} == {"map", "line"}
    assert ("zoom", "map") in changed
    assert ("plot", "line") in changed


def test_a_zoom_survives_new_data():
    client, source = served()
    sent = shown(client)["response"]["sent"]["data"]
    source.now = View(id="two", title="made up")
    seen = {"map": {"xaxis": [3, 9]}, "line": {"yaxis": [0, 1.5]}}
    updates = {
        tuple(json.loads(key).values()): one for key, one in shown(client, sent=sent, seen=seen)["sideUpdate"].items()
    }
    drawn = updates["zoom", "map"]["figure"]
    assert drawn["layout"]["xaxis"]["range"] == [3, 9]
    assert drawn["data"][0]["z"] == [[3, 9]]  # asked for anew, not the whole map
    axis = updates["plot", "line"]["figure"]["layout"]["yaxis"]
    assert (axis["range"], axis["autorange"]) == ([0, 1.5], False)


def test_zooming_asks_the_page_for_the_range_and_back_for_the_whole():
    client, _ = served()
    ends = {"xaxis.range[0]": 1, "xaxis.range[1]": 2, "yaxis.range[0]": 5, "yaxis.range[1]": 4}
    reply = client.post("/_dash-update-component", json=zoom_body(ends))
    (figure,) = json.loads(reply.data)["response"].values()
    assert figure["figure"]["data"][0]["z"] == [[1, 2]]
    assert figure["figure"]["layout"]["yaxis"]["range"] == [5, 4]  # an axis that is turned round stays so
    back = client.post("/_dash-update-component", json=zoom_body({"xaxis.autorange": True}))
    (figure,) = json.loads(back.data)["response"].values()
    assert figure["figure"]["data"][0]["z"]["dtype"] == "u1"  # packed, never a list of lists
    assert client.post("/_dash-update-component", json=zoom_body({"autosize": True})).status_code == 204


def test_dark_pages_have_dark_figures():
    client, _ = served()
    dark = json.dumps(shown(client, theme="dark")["response"]["page"])
    assert '"paper_bgcolor": "#14171b"' in dark or '"paper_bgcolor":"#14171b"' in dark


def test_a_page_that_fails_says_so_and_spares_the_others(caplog):
    client, _ = served(View(title="broken"))
    said = texts(shown(client)["response"]["page"]["children"])
    assert any("could not be made" in text for text in said)
    assert "no such thing" not in " ".join(said)
    assert "page maps failed" in caplog.text
    assert "because of rank -1" in texts(shown(client, "/why")["response"]["page"]["children"])


def test_foreign_text_stays_text_and_foreign_links_are_none():
    page, load = made["pages"], made["load"]
    row = (page.Link("go", "javascript:alert(1)"), page.Link("out", "//evil"), page.Link("in", "/why"))
    block = page.Block("x", "<b>", "<script>", columns=("a", "b", "c"), rows=(row,))
    selection = load("dashboards._selection").Selection()
    section = load("dashboards._blocks").drawn(block, None, "p", "/", selection, acting=False).section()
    found = json.loads(json.dumps(section.to_plotly_json(), default=lambda one: one.to_plotly_json()))
    assert "javascript" not in json.dumps(found)
    assert "//evil" not in json.dumps(found)
    assert '"href": "/why"' in json.dumps(found)
    assert "<script>" in texts(found)  # as a text that the browser shows, not as a tag


def test_unknown_paths_are_told():
    client, _ = served()
    assert client.get("/nothing").status_code == 404
    assert "No such page" in texts(shown(client, "/nothing")["response"]["page"]["children"])


def test_slow_work_is_done_once_for_many():
    kept, calls, gate = made["load"]("dashboards._kept").Kept(2), [], threading.Event()

    def make() -> int:
        calls.append(1)
        gate.wait(5)
        return 7

    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(kept.get("a", make))) for _ in range(8)]
    for one in threads:
        one.start()
    gate.set()
    for one in threads:
        one.join()
    assert found == [7] * 8
    assert len(calls) == 1
