"""Installs the hook in every Python process under `skewscope run`; on PYTHONPATH only there. Never breaks a program.

Python imports a module of this name at its start. Another one of the same name, further down the path, is run as well.
"""

from __future__ import annotations

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def install_hook() -> None:
    """Install the hook; a program whose interpreter has no skewscope borrows this copy, which is standard library."""
    try:
        try:
            from skewscope import hook
        except ImportError:
            sys.path.append(os.path.dirname(os.path.dirname(HERE)))
            try:
                from skewscope import hook
            finally:
                sys.path.pop()
        hook.install()
    except (Exception, SystemExit) as error:  # whatever is wrong here is none of the program's business
        try:
            sys.stderr.write(f"skewscope: no timings of process {os.getpid()}: {type(error).__name__}: {error}\n")
        except Exception:  # noqa: S110 - nobody is left to tell
            pass


def run_next() -> None:
    """Run the sitecustomize that this one stands before, as if it were alone."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    others = [place for place in sys.path if os.path.abspath(place or os.curdir) != HERE]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


if os.environ.get("SKEWSCOPE_RUN") and __name__ == "sitecustomize":
    install_hook()
    run_next()
