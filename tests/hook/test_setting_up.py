"""Before the hook records: watching imports, patching, finding out who and where this process is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from skewscope.hook import _imports, _patches, _place


@pytest.fixture
def fake_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package that is called torch, with a part that is imported before it is whole and one that comes later."""
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("from . import early\nwhole = True\n")
    (package / "early.py").write_text("value = 1\n")
    (package / "later.py").write_text("value = 2\n")
    (package / "broken.py").write_text("raise RuntimeError('mine')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    real = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "torch"}
    for name in real:
        del sys.modules[name]
    yield package
    for name in [name for name in sys.modules if name.split(".")[0] == "torch"]:
        del sys.modules[name]
    sys.modules.update(real)


def watch(seen, *names, faults=None):
    def served(module: ModuleType) -> None:
        seen.append((module.__name__, hasattr(sys.modules["torch"], "whole")))
        if module.__name__ == "torch.later":
            raise ValueError("ours")

    return _imports.Watch({name: served for name in names}, (faults if faults is not None else seen).append)


def test_modules_are_served_once_all_of_torch_is_there(fake_torch):
    seen, faults = [], []
    watching = watch(seen, "torch", "torch.early", "torch.later", faults=faults)
    watching.start()
    try:
        import torch

        assert sorted(seen) == [("torch", True), ("torch.early", True)]
        assert type(torch.early.__spec__.loader).__name__ == "SourceFileLoader"  # ours is gone again
        assert torch.early.__loader__ is torch.early.__spec__.loader
        import torch.later

        assert torch.later.value == 2 and [str(error) for error in faults] == ["ours"]
        assert len(seen) == 3
    finally:
        watching.stop()
    assert watching not in sys.meta_path


def test_modules_imported_before_are_served_at_once(fake_torch):
    import torch.later  # noqa: F401

    seen = []
    watching = watch(seen, "torch.early")
    watching.start()
    watching.stop()
    assert seen == [("torch.early", True)]


def test_a_module_that_fails_to_import_fails_as_before(fake_torch):
    seen = []
    watching = watch(seen, "torch.broken")
    watching.start()
    try:
        with pytest.raises(RuntimeError, match="mine"):
            import torch.broken  # noqa: F401
        with pytest.raises(ModuleNotFoundError):
            import torch.absent  # noqa: F401
    finally:
        watching.stop()
    assert not seen


def test_patches_go_back_to_the_raw_value_and_leave_what_others_wrapped():
    class Owner:
        @staticmethod
        def still() -> str:
            return "still"

        def moved(self) -> str:
            return "moved"

    raw = dict(vars(Owner))
    patches = _patches.Patches()
    patches.put(Owner, "still", staticmethod(lambda: "ours"))
    patches.put(Owner, "moved", lambda self: "ours")
    patches.put(Owner, "new", 1)
    patches.later(lambda: 1 / 0)
    theirs = Owner.moved
    Owner.moved = lambda self: "theirs, around " + theirs(self)
    patches.undo()
    assert vars(Owner)["still"] is raw["still"] and not hasattr(Owner, "new")
    assert Owner().moved() == "theirs, around ours"


def test_the_private_folder_must_be_ours(tmp_path):
    runtime, temporary = tmp_path / "run", tmp_path / "tmp"
    temporary.mkdir()
    folder = _place.private(runtime, temporary)
    assert folder == temporary / f"skewscope-{os.getuid()}" and folder.stat().st_mode & 0o777 == 0o700
    assert _place.private(runtime, temporary) == folder
    folder.chmod(0o770)
    with pytest.raises(PermissionError):
        _place.private(runtime, temporary)
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(PermissionError):
        _place.private(runtime, temporary)


def test_job_and_rank_from_the_environment(monkeypatch):
    for name in ("SKEWSCOPE_JOB", "SLURM_JOB_ID", "TORCHELASTIC_RUN_ID", "LOCAL_RANK", "SLURM_LOCALID", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "torch.distributed", None)
    assert (_place.job_name(), _place.rank_and_world(), _place.local_rank()) == ("job", None, -1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run7")
    monkeypatch.setenv("RANK", "nonsense")
    assert (_place.job_name(), _place.rank_and_world()) == ("run7", None)
    monkeypatch.setenv("SLURM_JOB_ID", "99")
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("SLURM_LOCALID", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert (_place.job_name(), _place.rank_and_world(), _place.local_rank()) == ("99", (3, -1), 1)


@pytest.mark.parametrize(("visible", "index"), [("", 1), ("4,6", 6), ("GPU-a,GPU-b", -1), ("4", -1)])
def test_the_device_is_counted_as_nvml_does(monkeypatch, visible, index):
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        current_device=lambda: 1,
        get_device_properties=lambda one: SimpleNamespace(uuid=f"u{one}"),
    )
    monkeypatch.setitem(sys.modules, "torch.cuda", cuda)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert _place.device() == (index, "GPU-u1")
    cuda.is_initialized = lambda: False
    assert _place.device() == (-1, "")
