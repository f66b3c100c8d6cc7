"""The stand-ins that several test files of the agent use, loaded by their paths."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TESTS = Path(__file__).parents[1]


def load_file(path: Path) -> ModuleType:
    name = f"agent_tests_{path.parent.name}_{path.stem.strip('_')}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def nvml_stub() -> ModuleType:
    """Return the builder of the driver's stand-in; skips where there is no C compiler."""
    stub = load_file(TESTS / "nvml_stub" / "__init__.py")
    if stub.compiler() is None:
        pytest.skip("no C compiler to build the driver's stand-in with")
    return stub


@pytest.fixture(scope="session")
def nvml_library(nvml_stub, tmp_path_factory) -> Path:
    return nvml_stub.build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def fake_root() -> ModuleType:
    return load_file(TESTS / "agents" / "fake_root.py")
