import json

from skewscope.acting.approvals import AnswerFile


def line(**told):
    return json.dumps({"schema": "skewscope.decision/1", "decision": "approve", **told}) + "\n"


def keys(answers):
    return [one["key"] for one in answers]


def test_answers_are_read_once_as_they_come(tmp_path):
    path = tmp_path / "decisions.jsonl"
    answers = AnswerFile(path)
    assert answers.new() == []
    path.write_text(line(key="a") + line(key="b")[:20])
    assert keys(answers.new()) == ["a"]
    path.write_text(line(key="a") + line(key="b"))
    assert keys(answers.new()) == ["b"] and answers.new() == []


def test_other_lines_are_passed_over(tmp_path, caplog):
    path = tmp_path / "decisions.jsonl"
    path.write_text('{"schema": "other"}\nno json\n\n' + line(key="a"))
    assert keys(AnswerFile(path).new()) == ["a"]
    assert "no skewscope.decision/1" in caplog.text


def test_a_file_that_was_begun_anew_is_read_from_its_start(tmp_path):
    path = tmp_path / "decisions.jsonl"
    path.write_text(line(key="a") + line(key="b"))
    answers = AnswerFile(path)
    answers.new()
    path.write_text(line(key="c"))
    assert keys(answers.new()) == ["c"]


def test_a_file_that_cannot_be_read_is_told(tmp_path, caplog):
    assert AnswerFile(tmp_path).new() == [] and "cannot be read" in caplog.text
