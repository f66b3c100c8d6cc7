"""Runs a program with its collectives, steps and phases recorded.

python -m skewscope.hook train.py ARGUMENTS...
python -m skewscope.hook -m package.train ARGUMENTS...
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from . import install


def main() -> None:
    """Run the program that the command line names, as `python` would."""
    words = sys.argv[1:]
    is_module = words[:1] == ["-m"]
    if is_module:
        words = words[1:]
    if not words or words[0] in ("-h", "--help"):
        sys.exit((__doc__ or "").strip())
    install()
    sys.argv = words
    if is_module:
        sys.path.insert(0, "")
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(words[0]).resolve().parent)
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main()
