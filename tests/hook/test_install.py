"""The hook in whole programs: before torch is imported, without a spool, switched off, and when the program fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

PROGRAM = """
import json, sys
{first}
import torch
import torch.distributed as dist
import torch.utils.data
dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=0, world_size=1)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for batch in torch.utils.data.DataLoader(torch.ones(2, 2)):
    model(batch).sum().backward()
    optimizer.step()
dist.all_reduce(torch.ones(3))
spec = torch.distributed.distributed_c10d.__spec__
print(json.dumps([type(spec.loader).__name__, __name__]))
{last}
"""
WANTED = {("collective", "all_reduce"), ("phase", "data"), ("phase", "forward"), ("phase", "backward"),
          ("phase", "optimizer"), ("step", "")}  # fmt: skip


def program(folder: Path, first: str = "", last: str = "") -> list[str]:
    path = folder / "train.py"
    path.write_text(PROGRAM.format(first=first, last=last))
    return [str(path), str(folder / "store")]


def test_a_program_without_a_change_to_it(tmp_path, python, read_ring):
    spool = tmp_path / "spool"
    spool.mkdir()
    said = python(["-m", "skewscope.hook", *program(tmp_path)], SKEWSCOPE_SPOOL=str(spool), SKEWSCOPE_JOB="llm/70b")
    (path,) = spool.glob("llm_70b-r0-*.ring")
    header, records = read_ring(path)
    assert WANTED <= {(one.kind, one.name) for one in records}
    assert header.closed and header.internal_errors == 0 and header.job == "llm/70b"
    assert "skewscope" not in said


def test_installed_before_torch_and_without_a_spool(tmp_path, python, read_ring):
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    first = "import skewscope.hook; handle = skewscope.hook.install(); assert 'torch' not in sys.modules"
    last = "assert handle.path; handle.close(); assert type(sys.meta_path[0]).__name__ != 'Watch'"
    python(program(tmp_path, first, last), SKEWSCOPE_SPOOL=str(tmp_path / "none"), XDG_RUNTIME_DIR=str(runtime))
    assert not (tmp_path / "none").exists()
    folder = runtime / "skewscope"
    assert folder.stat().st_mode & 0o777 == 0o700
    (path,) = folder.glob("job-r0-*.ring")
    assert WANTED <= {(one.kind, one.name) for one in read_ring(path)[1]}


def test_switched_off(tmp_path, python):
    first = "import skewscope.hook as h; assert h.install().path == ''; h.step(); h.mark('x'); h.phase('eval')"
    python(
        ["-c", f"import sys\n{first}\nassert len(sys.meta_path) < 9"], SKEWSCOPE_HOOK="0", SKEWSCOPE_SPOOL=str(tmp_path)
    )
    assert not list(tmp_path.iterdir())


def test_a_program_that_fails_fails_as_before(tmp_path, python, read_ring):
    (tmp_path / "bad.py").write_text("import skewscope.hook as h\nwith h.phase('eval'):\n    raise KeyError('mine')\n")
    said = python(
        ["-m", "skewscope.hook", str(tmp_path / "bad.py")],
        code=1,
        SKEWSCOPE_SPOOL=str(tmp_path),
        RANK="2",
        WORLD_SIZE="4",
    )
    assert said.rstrip().endswith("KeyError: 'mine'")
    (path,) = tmp_path.glob("job-r2-*.ring")
    header, records = read_ring(path)
    assert header.closed and (header.rank, header.world_size) == (2, 4)
    assert [(one.name, one.flags) for one in records] == [("eval", 2)]


def test_a_module_with_arguments(tmp_path, python):
    (tmp_path / "trainer.py").write_text(
        "import sys, json\nprint(json.dumps([__name__, sys.argv[1:]]), file=sys.stderr)\n"
    )
    said = python(
        ["-m", "skewscope.hook", "-m", "trainer", "--lr", "1"], PYTHONPATH=str(tmp_path), SKEWSCOPE_SPOOL=str(tmp_path)
    )
    assert json.loads(said.splitlines()[-1]) == ["__main__", ["--lr", "1"]]


def test_no_program_named(python):
    assert "train.py" in python(["-m", "skewscope.hook"], code=1)


def test_a_full_disk_costs_one_line(tmp_path, python):
    code = (
        "import resource, skewscope.hook as h\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "h.install()\n"
        "for _ in range(5):\n    h.step()\n"
    )
    said = python(["-c", code], RANK="0", SKEWSCOPE_SPOOL=str(tmp_path))
    assert said.startswith("skewscope records nothing: ") and len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", ["import skewscope.hook", "import skewscope.hook as h; h.install()"])
def test_the_hook_alone_is_light(python, code):
    heavy = "('torch', 'numpy', 'pandas', 'psutil', 'prometheus_client')"
    python(["-c", f"{code}\nimport sys\nassert not [name for name in {heavy} if name in sys.modules]"])
