import json
import os
import re
import subprocess
import sys

import pytest

from skewscope import __version__
from skewscope.catalogue import rooms
from skewscope.commands import _parser, _settings, main
from skewscope.errors import UsageError
from skewscope.web.server import Server


def test_version_and_help_go_to_standard_output(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"skewscope {__version__}"
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(room.id in said for room in rooms("commands"))


@pytest.mark.parametrize("room", rooms("commands"), ids=lambda room: room.id)
def test_every_command_is_documented_with_examples(room, capsys):
    assert "Examples:" in room.page() and f"skewscope {room.id}" in room.page()
    assert main([room.id, "--help"]) == 0
    assert room.page().strip().splitlines()[0] in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [[], ["nonsense"], ["analyze"], ["analyze", "x", "--fail-on", "S9"], ["analyze", "/not/there"], ["schema", "nope"],
     ["conditions", "nope"], ["analyze", "x", "--window", "9:3"], ["convert", "x"], ["analyze", "x", "--workers", "0"]],
)  # fmt: skip
def test_wrong_usage_is_2_and_says_so_on_standard_error(words, capsys):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and "skewscope" in err and "Traceback" not in err


def test_listing_is_light():
    code = (
        "import sys; from skewscope.commands import main\n"
        "codes = [main(['--help']), main(['conditions']), main(['schema', 'report'])]\n"
        "heavy = {'pandas', 'numpy', 'plotly', 'rich', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(f'{codes} {heavy}' if heavy or any(codes) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_schema_prints_json(capsys):
    assert main(["schema", "collectives"]) == 0
    assert json.loads(capsys.readouterr().out)["items"]["properties"]["ready_ns"]["x-arrow-type"] == "int64"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_commands(shell, capsys):
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    said = capsys.readouterr().out
    assert "analyze" in said and "fail-on" in said
    assert "max-moves" in said, "what a command holds is completed too"


class Broken:
    def __init__(self, error):
        self.error = error

    def __call__(self, args):
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(KeyboardInterrupt(), 130, "interrupted"), (BrokenPipeError(), 0, ""), (ValueError("odd"), 1, "please report it"),
     (MemoryError(), 1, "out of memory")],
)  # fmt: skip
def test_faults_become_one_line(error, code, said, capsys, monkeypatch):
    from skewscope.commands import _parser
    from skewscope.commands.schema import Schema

    monkeypatch.setattr(Schema, "run", lambda self, args: Broken(error)(args))
    monkeypatch.setattr("skewscope.commands._drop_output", lambda: None)
    assert _parser.build() is not None
    assert main(["schema", "ops"]) == code
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err and err.count("\n") <= 1
    main(["schema", "ops", "-v"])
    assert ("Traceback" in capsys.readouterr().err) == (code == 1)


def test_json_messages(capsys, monkeypatch):
    from skewscope.commands.schema import Schema

    monkeypatch.setattr(Schema, "run", lambda self, args: Broken(ValueError("odd"))(args))
    assert main(["schema", "ops", "--log-format", "json"]) == 1
    said = json.loads(capsys.readouterr().err)
    assert said["level"] == "error" and "odd" in said["message"]


def test_a_reader_that_goes_away_is_no_fault():
    reader, writer = os.pipe()
    os.close(reader)
    code = "import sys; from skewscope.commands import main; sys.exit(main(['schema', 'ops']))"
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_refuses_an_address_names_only_flags_of_every_command_that_listens(tmp_path):
    flags = [_settings.flags(parser, {}, ()) for parser in _parser.commands(_parser.build()).values()]
    listening = [known for known in flags if "--listen" in known]
    assert len(listening) == 5
    taken = Server("127.0.0.1:0", lambda *_: None)
    taken.start()
    try:
        place = f"127.0.0.1:{taken.address[1]}"
        for listen, web in ((":0", None), (place, None), ("x", None), (":0", tmp_path / "none.yml")):
            with pytest.raises(UsageError) as told:
                Server(listen, lambda *_: None, web_config=web).start()
            named = set(re.findall(r"--[\w.-]+", str(told.value)))
            assert not [known for known in listening if named - set(known)], told.value
    finally:
        taken.stop()
