"""What is released: everything is in it, nothing else, and the same sources give the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import runpy
import shutil
import subprocess
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from skewscope import catalogue

ROOT = Path(__file__).parents[2]
DIST = runpy.run_path(str(ROOT / "docs/make_dist.py"))
TIME_S = 1_750_000_020
PURL = re.compile(r"pkg:pypi/[a-z0-9]+(-[a-z0-9]+)*(@[0-9][A-Za-z0-9.+!_-]*)?")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the sources, which nobody changes meanwhile."""
    place = tmp_path_factory.mktemp("sources") / "tree"
    shutil.copytree(ROOT, place, ignore=DIST["LEFT_OUT"])
    return place


@pytest.fixture(scope="module")
def released(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    DIST["made"](tree, folder, TIME_S)
    return folder


@pytest.fixture(scope="module")
def wheel(released: Path) -> Path:
    (found,) = released.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def bill(released: Path) -> dict:
    (found,) = released.glob("*.cdx.json")
    return json.loads(found.read_text())


def test_the_wheel_carries_everything(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {"skewscope/py.typed", "skewscope/agents/__init__.py", "skewscope/dashboards/__init__.py"}
    for rooms in ("detectors", "agents.collectors"):
        wanted |= {f"{room.module.replace('.', '/')}.py" for room in catalogue.rooms(rooms)}
    wanted |= {
        f"skewscope/{path.relative_to(ROOT)}"
        for folder in ("sample_data", "dashboards/assets")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert not wanted - names
    assert not [name for name in names if "__pycache__" in name]
    assert {name.split("/")[0].split("-")[0] for name in names} == {"skewscope"}, "the wheel installs other names"
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith(".data/data/share/man/man1/skewscope.1") for name in names)


def test_the_source_archive_leaves_out_what_was_made(released: Path):
    (archive,) = released.glob("*.tar.gz")
    members = tarfile.open(archive).getmembers()
    assert not [one.name for one in members if re.search(r"\.venv|__pycache__|/\.git/", one.name)]
    assert {(one.mtime, one.uid, one.gid, one.uname, one.gname) for one in members} == {(TIME_S, 0, 0, "", "")}


def test_another_folder_at_another_time_gives_the_same_bytes(tree: Path, released: Path, tmp_path: Path, monkeypatch):
    shutil.copytree(tree, tmp_path / "other")
    for number, path in enumerate(sorted((tmp_path / "other").rglob("*"))):
        os.utime(path, (number, 1_000_000_000 + number))
        path.chmod(0o770 if path.stat().st_mode & 0o100 else 0o660)
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    mask = os.umask(0o077)
    try:
        again = DIST["made"](tmp_path / "other", tmp_path / "dist", TIME_S)
    finally:
        os.umask(mask)
    assert [one.name for one in again if one.read_bytes() != (released / one.name).read_bytes()] == []


def test_the_sums_are_those_of_the_files(released: Path):
    sums = dict(reversed(line.split("  ")) for line in (released / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {one.name for one in released.iterdir()} - {"SHA256SUMS"} and len(sums) == 3
    assert all(hashlib.sha256((released / name).read_bytes()).hexdigest() == told for name, told in sums.items())


def test_the_time_is_that_of_the_sources(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1750000020")
    assert DIST["epoch_s"](ROOT) == TIME_S
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert DIST["epoch_s"](tmp_path) == DIST["OLDEST_S"]
    words = ["git", "-C", ROOT, "log", "-1", "--format=%ct"]
    told = subprocess.run(words, capture_output=True, text=True)
    if told.returncode == 0:
        assert DIST["epoch_s"](ROOT) == int(told.stdout)


def test_the_bill_has_the_shape_of_cyclonedx(bill: dict):
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.5", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"])
    assert bill["metadata"]["timestamp"] == "2025-06-15T15:07:00Z"
    whole = bill["metadata"]["component"]
    every = [whole, *bill["components"]]
    allowed = {"type", "bom-ref", "name", "version", "purl", "scope", "description", "licenses", "hashes"}
    for one in every:
        assert one["type"] == "library" and one["name"] and PURL.fullmatch(one["purl"]) and set(one) <= allowed
        assert one.get("scope") in ("required", "optional", None)
        assert all(set(said) in ({"expression"}, {"license"}) for said in one.get("licenses", []))
        assert all(said["alg"] == "SHA-256" and len(said["content"]) == 64 for said in one.get("hashes", []))
    refs = [one["bom-ref"] for one in every]
    assert len(set(refs)) == len(refs)
    edges = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
    assert set(edges) <= set(refs) and {ref for part in edges.values() for ref in part} <= set(refs)
    reached, rest = set(), {whole["bom-ref"]}
    while rest:
        reached |= rest
        rest = {ref for one in rest for ref in edges.get(one, [])} - reached
    assert reached == set(refs), "something is listed that nothing needs"


def test_the_bill_tells_what_is_declared_and_installed(bill: dict, wheel: Path):
    whole, parts = bill["metadata"]["component"], {one["name"].lower(): one for one in bill["components"]}
    assert whole["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}]
    assert whole["licenses"] == [{"expression": "Apache-2.0"}]
    for name, scope in (
        ("psutil", "required"),
        ("bcrypt", "required"),
        ("pandas", "optional"),
        ("narwhals", "optional"),
    ):
        assert (parts[name]["version"], parts[name]["scope"]) == (metadata.version(name), scope)
        assert parts[name]["licenses"]
    assert not {"pytest", "mypy", "torch", "skewscope"} & set(parts), "what only development needs is left out"
