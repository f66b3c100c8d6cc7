import json
from pathlib import Path
from runpy import run_path

import pytest

from skewscope.errors import Unreadable
from skewscope.retest import document

MADE = run_path(str(Path(__file__).with_name("_results.py")))
healthy = MADE["healthy"]


def test_a_line_gives_the_same_result_back():
    told = healthy(devices=3, failures=("a link is down",), verdict="fail", why=("slow",))
    assert document.found(document.line(told)) == [told]
    assert "\n" not in document.line(told)


def test_lines_of_others_are_passed_over():
    first, second = healthy("n1"), healthy("n2")
    text = (
        f"srun: step 1\n{{not json\n[1, 2]\n{document.line(first)}\n{{}}\n  {document.line(second)}  \nslurmstepd: bye"
    )
    assert [one.node for one in document.found(text)] == ["n1", "n2"]


@pytest.mark.parametrize("text", ["", "Segmentation fault", "{" * 9000, '{"schema": "skewscope.report/1"}'])
def test_no_result_is_no_test(text):
    with pytest.raises(Unreadable, match="no skewscope.retest/1 in what was written"):
        document.found(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": "skewscope.retest/2"}, "is not skewscope.retest/1"),
        ({"measures": [{"name": "gemm"}]}, "KeyError"),
        ({"verdict": "splendid"}, "no verdict is called"),
        ({"measures": 7}, "TypeError"),
    ],
)
def test_a_damaged_document_is_refused(change, said):
    with pytest.raises(Unreadable, match=said):
        document.parsed(healthy().document() | change)


@pytest.mark.parametrize("values", [[], [0.0], [-1.0], [float("inf")], [float("nan")]])
def test_what_is_no_speed_is_refused(values):
    told = json.loads(document.line(healthy()))
    told["measures"][0]["values"] = values
    with pytest.raises(Unreadable, match="holds no speeds"):
        document.parsed(told)
