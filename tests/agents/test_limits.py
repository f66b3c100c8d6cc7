from __future__ import annotations

import resource
import subprocess
import sys

from skewscope.catalogue import load

limits = load("agents.limits")


def test_the_limit_of_open_files_is_raised_as_far_as_allowed():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (300, 2000))\n"
        "from skewscope.catalogue import load; load('agents.limits').raise_descriptor_limit()\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "(2000, 2000)\n"
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits.raise_descriptor_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= before[0]


def test_memory_is_asked_for_without_harm_and_where_there_is_no_glibc(monkeypatch):
    limits.stay_small()
    monkeypatch.setattr(limits, "_libc", object)
    limits.stay_small()
