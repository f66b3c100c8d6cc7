"""Runs `skewscope agent` as a process and reads its pages."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

from prometheus_client.parser import text_string_to_metric_families as parse


class Agent:
    def __init__(self, process, where):
        self.process, self.url = process, f"http://{where}"

    def get(self, path="/metrics", **headers) -> str:
        request = urllib.request.Request(self.url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.read().decode()

    def samples(self, name, **labels):
        """Return {labels: value} of one metric."""
        return {
            tuple(sorted(one.labels.items())): one.value
            for family in parse(self.get())
            for one in family.samples
            if one.name == name and labels.items() <= one.labels.items()
        }

    def value(self, name, **labels):
        """Return the value of one series, or None."""
        found = self.samples(name, **labels)
        assert len(found) <= 1, found
        return next(iter(found.values()), None)

    def until(self, true, within_s=20.0):
        """Return what `true()` returns once it is something, and how many seconds it took."""
        start = time.monotonic()
        while not (found := true()):
            assert self.process.poll() is None, "the agent ended"
            assert time.monotonic() - start < within_s, "it did not happen in time"
            time.sleep(0.02)
        return found, time.monotonic() - start


@contextmanager
def running(*flags, environ=None):
    """Give a running agent that ends with status 0."""
    words = [sys.executable, "-m", "skewscope", "agent", "--listen", "127.0.0.1:0", *map(str, flags)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environ or dict(os.environ))
    try:
        line = process.stderr.readline()
        while "serving " not in line:
            assert line or process.poll() is None, "the agent ended"
            line = process.stderr.readline()
        agent = Agent(process, line.split("serving ")[1].split()[0])
        agent.until(lambda: agent.get("/readyz") == "ready\n")
        yield agent
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0
