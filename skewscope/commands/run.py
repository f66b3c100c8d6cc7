"""Run a training command with timings of its collectives, steps and phases, without a change to its code.

Every Python process of the command records into a ring file of its own: about 2 microseconds a call, 4 MiB a rank,
and nothing of it can stop the program. The command takes the place of this one: signals and exit code are its own.
While it runs, `skewscope agent` on the same node exports the timings; afterwards `skewscope analyze DIR` reads them.

Examples:
  skewscope run -- torchrun --nproc-per-node 8 train.py
  skewscope run --spool rings/ --job night-run -- python train.py --lr 1e-4
  srun skewscope run --nccl-plugin /opt/libnccl-profiler-inspector.so -- python train.py
  skewscope analyze rings/                         who was slow, and why
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from ..errors import UsageError
from . import _files

SITE = Path(__file__).resolve().parents[1] / "hook_site"
USUAL_SPOOL = "/run/skewscope/spool"
FLIGHT_RECORDER_ENTRIES = "2000"
INSPECTOR_INTERVAL_US = "500"


class Run:
    """`skewscope run`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("--spool", metavar="DIR", help=f"folder for the rings (default: {USUAL_SPOOL}, else one of your own)")
        add("--job", metavar="NAME", help="name of the job (default: its number in Slurm or torchrun)")
        add("--nccl-plugin", metavar="FILE", help="profiler plug-in that NCCL is to load, as NCCL Inspector")
        add("program", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the command and its arguments")

    def run(self, args: argparse.Namespace) -> int:
        """Prepare the environment and become the command."""
        words = args.program[1:] if args.program[:1] == ["--"] else args.program
        if not words:
            raise UsageError("no command to run: skewscope run -- torchrun --nproc-per-node 8 train.py")
        if args.spool:
            args.spool = str(_files.make_folder(Path(args.spool), "--spool").resolve())
        if args.nccl_plugin and "/" in args.nccl_plugin and not Path(args.nccl_plugin).is_file():
            raise UsageError(f"--nccl-plugin {args.nccl_plugin}: no such file")
        settings = environment(os.environ, args.spool, args.job, args.nccl_plugin)
        return _become(words, settings)


def environment(
    given: Mapping[str, str], spool: str | None = None, job: str | None = None, plugin: str | None = None
) -> dict[str, str]:
    """Return the environment of the command: what it would be anyway, and what the hook and recorders want.

    >>> made = environment({"PYTHONPATH": "/lib", "TORCH_FR_BUFFER_SIZE": "9"}, job="night-run")
    >>> made["SKEWSCOPE_JOB"], made["TORCH_FR_BUFFER_SIZE"], made["PYTHONPATH"].split(os.pathsep)[1:]
    ('night-run', '9', ['/lib'])
    """
    made = {"TORCH_FR_BUFFER_SIZE": FLIGHT_RECORDER_ENTRIES, **given, "SKEWSCOPE_RUN": "1"}
    path = [place for place in given.get("PYTHONPATH", "").split(os.pathsep) if place and place != str(SITE)]
    made["PYTHONPATH"] = os.pathsep.join([str(SITE), *path])
    if spool:
        made["SKEWSCOPE_SPOOL"] = spool
    if job:
        made["SKEWSCOPE_JOB"] = job
    if plugin:
        folder = str(Path(made.get("SKEWSCOPE_SPOOL", USUAL_SPOOL)) / "inspector")
        usual = {"NCCL_INSPECTOR_ENABLE": "1", "NCCL_INSPECTOR_DUMP_DIR": folder,
                 "NCCL_INSPECTOR_DUMP_THREAD_INTERVAL_MICROSECONDS": INSPECTOR_INTERVAL_US}  # fmt: skip
        made = {**usual, **made, "NCCL_PROFILER_PLUGIN": plugin}
    return made


def _become(words: list[str], settings: dict[str, str]) -> int:
    """Replace this process by the command; raises UsageError where that is impossible."""
    sys.stdout.flush()
    sys.stderr.flush()
    ours = {}
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and what is ignored is inherited
        ours[number] = signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(words[0], words, settings)
    except OSError as error:
        for number, handler in ours.items():  # a broken pipe must not end who goes on
            signal.signal(number, handler)
        hint = f"; did you mean `skewscope run -- python {words[0]}`?" if words[0].endswith(".py") else ""
        raise UsageError(f"cannot run {words[0]}: {error.strerror or error}{hint}") from None
