"""`skewscope run`: the environment it makes, and real processes under it. The hook itself is tested elsewhere."""

import json
import os
import signal
import subprocess
import sys

import pytest

from skewscope.commands import main
from skewscope.commands.run import SITE, environment

SHOW = "import json, os, sys; print(json.dumps([dict(os.environ), sys.argv[1:]]))"
ASK = "import sys; hook = sys.modules.get('skewscope.hook'); print(bool(hook and hook._handle), *sys.argv[1:])"
NAMES = ("SKEWSCOPE_SPOOL", "SKEWSCOPE_JOB", "SKEWSCOPE_RUN", "SKEWSCOPE_HOOK", "PYTHONPATH", "TORCH_FR_BUFFER_SIZE")


def run(*words, python=sys.executable, inside=SHOW, env=None, flags=()):
    """Run `skewscope run FLAGS -- PYTHON -c INSIDE WORDS...` in a process of its own."""
    code = "from skewscope.commands import main; raise SystemExit(main())"
    given = {name: value for name, value in os.environ.items() if name not in NAMES}
    command = [sys.executable, "-c", code, "run", *flags, "--", python, "-c", inside, *words]
    return subprocess.run(command, env={**given, **(env or {})}, capture_output=True, text=True, timeout=60)


def test_the_command_gets_its_environment_and_its_words(tmp_path):
    done = run("--lr", "1e-4", "--", "--config", "x", flags=("--spool", str(tmp_path / "rings"), "--job", "night"))
    seen, words = json.loads(done.stdout)
    assert done.returncode == 0 and words == ["--lr", "1e-4", "--", "--config", "x"]
    assert seen["SKEWSCOPE_SPOOL"] == str(tmp_path / "rings") and (tmp_path / "rings").is_dir()
    assert seen["SKEWSCOPE_JOB"] == "night" and seen["TORCH_FR_BUFFER_SIZE"] == "2000"
    assert seen["PYTHONPATH"] == str(SITE)


def test_what_the_user_set_stays():
    given = {"PYTHONPATH": os.pathsep.join(["/a", str(SITE), "/b"]), "TORCH_FR_BUFFER_SIZE": "7", "SKEWSCOPE_JOB": "x"}
    made = environment(given)
    assert made["PYTHONPATH"] == os.pathsep.join([str(SITE), "/a", "/b"])
    assert (made["TORCH_FR_BUFFER_SIZE"], made["SKEWSCOPE_JOB"]) == ("7", "x")
    assert not [name for name in made if name.startswith("NCCL")] and "SKEWSCOPE_SPOOL" not in made


def test_the_plug_in_is_loaded_only_by_name():
    made = environment({"NCCL_INSPECTOR_ENABLE": "0"}, spool="/spool", plugin="/opt/plugin.so")
    found = {name: value for name, value in made.items() if name.startswith("NCCL")}
    assert found == {
        "NCCL_PROFILER_PLUGIN": "/opt/plugin.so", "NCCL_INSPECTOR_ENABLE": "0",
        "NCCL_INSPECTOR_DUMP_DIR": "/spool/inspector", "NCCL_INSPECTOR_DUMP_THREAD_INTERVAL_MICROSECONDS": "500",
    }  # fmt: skip


def test_every_python_process_has_the_hook_and_no_other_has():
    assert run(inside=ASK).stdout.split() == ["True"]
    child = f"import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', {ASK!r}], text=True))"
    assert run(inside=child).stdout.split() == ["True"]
    env = {"PYTHONPATH": str(SITE)}
    done = subprocess.run([sys.executable, "-c", ASK], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False"]


def test_an_interpreter_without_skewscope_borrows_it(tmp_path):
    inside = f"import sitecustomize\n{ASK}\nprint({str(SITE.parents[1])!r} in sys.path)"
    words = [sys.executable, "-S", "-c", inside]  # -S: no site-packages, and nothing of ours in the folder
    done = subprocess.run(words, env=environment({}), cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["True", "False"] and done.stderr == ""


def test_the_next_sitecustomize_runs_too(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.flavour = __name__ + __file__\n")
    inside = "import sys, sitecustomize; print(sys.flavour, sitecustomize.__file__)"
    done = run(inside=inside, env={"PYTHONPATH": str(tmp_path)})
    place = str(tmp_path / "sitecustomize.py")
    assert done.stdout.split() == [f"sitecustomize{place}", place] and done.stderr == ""


def test_a_hook_that_fails_costs_one_line(tmp_path):
    package = tmp_path / "skewscope" / "hook"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").write_text("def install():\n    raise SystemExit('no luck')\n")
    env = {**os.environ, **environment({"PYTHONPATH": str(tmp_path)})}
    words = [sys.executable, "-c", "print('trained')"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert len(done.stderr.splitlines()) == 1 and "no timings of process" in done.stderr and "no luck" in done.stderr


def test_exit_code_and_signals_are_the_commands_own():
    assert run(inside="raise SystemExit(7)").returncode == 7
    assert run(inside="import os; os.kill(os.getpid(), 15)").returncode == -15
    handled = run(python="/bin/sh", inside="trap '' PIPE; echo fine")
    assert handled.stdout == "fine\n"


def test_a_broken_pipe_ends_the_command_as_without_us():
    status = run(python="/bin/sh", inside="grep SigIgn /proc/self/status").stdout.split()[1]
    assert not int(status, 16) & 1 << 12, "SIGPIPE is ignored in the command"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "no command to run"),
        (["--"], "no command to run"),
        (["--", "no-such-program-here"], "cannot run no-such-program-here: No such file"),
        (["train.py"], "did you mean `skewscope run -- python train.py`?"),
        (["--spool", "/dev/null/x", "--", "true"], "--spool"),
        (["--nccl-plugin", "/none/plugin.so", "--", "true"], "no such file"),
        (["--no-such-flag", "--", "true"], "unrecognized"),
    ],
)
def test_wrong_usage_is_one_line(words, reason, capsys):
    before = signal.getsignal(signal.SIGPIPE)
    assert main(["run", *words]) == 2
    assert reason in capsys.readouterr().err
    assert signal.getsignal(signal.SIGPIPE) == before


def test_without_the_two_dashes_it_runs_as_well(tmp_path):
    code = "from skewscope.commands import main; raise SystemExit(main())"
    words = [sys.executable, "-c", code, "run", "--job", "x", "echo", "--job", "y"]
    assert subprocess.run(words, capture_output=True, text=True, timeout=60).stdout == "--job y\n"
