"""Runs a program by its argument list, never through a shell: bounded in time and in what it may say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from ..acts import plain_text
from ..errors import SkewscopeError

PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "SLURM_CONF", "KUBECONFIG")
MOST_BYTES = 64 << 20
TOLD_BYTES = 4096
KILLED_S = 5.0


@dataclass(frozen=True)
class Ran:
    """How a program ended: exit code, what it wrote to standard output, and the end of its complaints as plain text."""

    code: int
    output: bytes
    complaint: str


def run(words: Sequence[str], told: object = None, *, timeout_s: float, passed_on: Sequence[str] = PASSED_ON) -> Ran:
    """Run a program with a document (JSON) on its standard input; raises SkewscopeError where it cannot be run.

    Of our environment it gets only the variables named. It and its children are killed after `timeout_s`.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaints:
        given.write(b"" if told is None else json.dumps(told).encode())
        given.seek(0)
        code = _ended(_started(words, (given, output, complaints), passed_on), words[0], timeout_s)
        output.seek(0)
        complaints.seek(max(0, complaints.seek(0, os.SEEK_END) - TOLD_BYTES))
        return Ran(code, output.read(MOST_BYTES), plain_text(complaints.read().decode("utf-8", "replace")))


def _started(words: Sequence[str], files: tuple[IO[bytes], ...], passed_on: Sequence[str]) -> subprocess.Popen[bytes]:
    environment = {name: os.environ[name] for name in passed_on if name in os.environ}
    given, output, complaints = files
    try:
        return subprocess.Popen(
            list(words), stdin=given, stdout=output, stderr=complaints, env=environment, start_new_session=True,
        )  # fmt: skip
    except (OSError, ValueError) as error:  # ValueError: a NUL in a word
        raise SkewscopeError(f"{plain_text(words[0])}: cannot be run: {error}") from None


def _ended(process: subprocess.Popen[bytes], name: str, timeout_s: float) -> int:
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        raise SkewscopeError(f"{plain_text(name)}: took more than {timeout_s:g} s and was ended") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):  # it hangs in the kernel: it ends when that lets it
                process.wait(KILLED_S)


def document(ran: Ran, name: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the JSON that a program wrote; raises SkewscopeError where it failed, or wrote something else."""
    if ran.code:
        raise SkewscopeError(f"{plain_text(name)}: ended with {ran.code}: {ran.complaint or 'it said nothing'}")
    try:
        return json.loads(ran.output)
    except (ValueError, RecursionError) as error:
        raise SkewscopeError(f"{plain_text(name)}: wrote no JSON: {error}") from None
