import io
from dataclasses import replace

import pytest

from skewscope.contracts import Reading
from skewscope.reports.document import document
from skewscope.reports.rank_table import rank_table
from skewscope.reports.terminal import _common_folder, page

rich_console = pytest.importorskip("rich.console")


def printed(world, width=100):
    stream = io.StringIO()
    console = rich_console.Console(file=stream, width=width, highlight=False, emoji=False)
    console.print(page(document(world), rank_table(world.tables)))
    return stream.getvalue()


def test_verdict_comes_first_then_what_to_do(make_world):
    said = printed(make_world())
    assert said.strip().splitlines()[0].startswith("Rank 5 on n1 computes slowly")
    assert said.index("Findings") < said.index("What to do next") < said.index("what cannot be decided")
    assert "skewscope conditions gpu-slow-silent" in " ".join(said.split())
    assert "the file ends early" in said


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_line_is_wider_than_the_page(make_world, width):
    assert max(map(len, printed(make_world(), width).splitlines())) <= width


def test_nobody_slow_is_said_plainly(make_world):
    said = printed(make_world(quiet=True))
    assert "Nobody is slow" in said and "Findings" not in said and "What to do" not in said


def test_names_cannot_steer_the_terminal_or_the_markup(make_world):
    world = make_world(host="\x1b[2J[bold]{}")
    world = replace(world, warnings=("[red]\x1b]0;title\x07",))
    said = printed(world)
    assert "\x1b" not in said and "[bold]1" in said and "[red]?]0;title?" in said


def test_worst_rank_first(make_world):
    ranks = rank_table(make_world().tables)
    assert ranks["rank"][0] == 5
    assert ranks["versus_ratio"][0] == pytest.approx(1.5, abs=0.02)
    assert ranks["last_ratio"][0] > 0.7
    assert len(ranks) == 8


def test_a_rank_table_without_rows_is_empty(make_world):
    assert len(rank_table({})) == 0
    tables = make_world().tables
    assert len(rank_table({"arrivals": tables["arrivals"]})) == 8


@pytest.mark.parametrize("width", [80, 100, 140])
def test_who_and_what_are_never_squeezed_out(make_world, width):
    said = printed(make_world(host="a-rather-long-host-name-{}"), width).split("Findings")[1].split("Ranks with")[0]
    letters = "".join(said.split())
    assert "Who" in said and "rank5" in letters and "culprit" in said and "375 ms" in said


@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_bad_file_of_a_deep_folder_is_told_with_its_name_in_one_piece(make_world, width):
    deep = "/scratch/" + "an-experiment-with-a-long-name/" * 4
    names = ("fr_rank0.json.gz", "sub/node17_4711.1712345678901.pt.trace.json.gz")
    bad = tuple(Reading(deep + name, "", status="unreadable", error="empty file") for name in names)
    gone = Reading("(missing) rank 1", "", 1, status="unreadable", error="no recording of rank 1")
    world = make_world()
    said = printed(replace(world, recording=replace(world.recording, inputs=(*bad, gone))), width)
    listed = said[said.index("Inputs with problems in") :]
    assert listed.replace("\n", "").count(deep) == listed.count("/scratch/") == 1
    assert all(name in listed for name in (*names, "(missing) rank 1"))


@pytest.mark.parametrize(
    ("paths", "folder"),
    [
        (["/runs/7/a.json", "/runs/7/b/c.json"], "/runs/7/"),
        (["/runs/7/alone.json"], "/runs/7/"),
        (["/runs/71/a", "/runs/72/a"], "/runs/"),
        (["s3://bucket/run/a", "(missing) rank 1"], "s3://bucket/run/"),
        (["/a", "/b"], "/"),
        (["here.json", "(missing) rank 1"], ""),
        (["traces/a", "/other/a"], ""),
    ],
)
def test_common_folder_is_whole(paths, folder):
    assert _common_folder(paths) == folder
