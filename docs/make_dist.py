"""Writes what is released to a folder: source archive, wheel, bill of materials and their checksums.

The same sources, Python and setuptools give the same bytes, wherever and whenever they are built: all times are
SOURCE_DATE_EPOCH (by default that of the last commit), and the wheel is made of the source archive alone.

    python docs/make_dist.py [FOLDER, by default dist]
"""

from __future__ import annotations

import gzip
import hashlib
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST_S = 315_532_800  # 1980: no archive of zip knows an earlier time
LEFT_OUT = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "tests", "htmlcov", "*-report")
UMASK = 0o022


def main(words: list[str]) -> int:
    """Make everything anew; the exit code is 0."""
    out = Path(words[0]) if words else ROOT / "dist"
    for path in made(ROOT, out, epoch_s(ROOT)):
        print(path)
    return 0


def epoch_s(root: Path) -> int:
    """Return the time of the sources: SOURCE_DATE_EPOCH, else that of the last commit, else 1980."""
    if told := os.environ.get("SOURCE_DATE_EPOCH"):
        return max(int(told), OLDEST_S)
    words = ["git", "-C", str(root), "log", "-1", "--format=%ct"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:
        return OLDEST_S
    return max(int(done.stdout or 0), OLDEST_S)


def made(root: Path, out: Path, time_s: int) -> list[Path]:
    """Write the files of a release to `out` and return their paths; raises SystemExit where a build fails."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copytree(root, folder / "tree", ignore=LEFT_OUT)
        rough = _built("--sdist", folder / "tree", folder / "rough", time_s)
        source = _even(rough, out / rough.name, time_s)
        with tarfile.open(source) as archive:
            archive.extractall(folder / "source", filter="data")
        (unpacked,) = (folder / "source").iterdir()
        wheel = out / _built("--wheel", unpacked, folder / "wheel", time_s).name
        shutil.copyfile(folder / "wheel" / wheel.name, wheel)
    bill = out / f"{source.name.removesuffix('.tar.gz')}.cdx.json"
    bill.write_text(runpy.run_path(str(Path(__file__).with_name("make_sbom.py")))["bill"](wheel, time_s), "utf-8")
    released = sorted((source, wheel, bill))
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in released)
    (out / "SHA256SUMS").write_text(sums, "ascii")
    return [*released, out / "SHA256SUMS"]


def _built(kind: str, tree: Path, out: Path, time_s: int) -> Path:
    environ = {**os.environ, "SOURCE_DATE_EPOCH": str(time_s), "PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    words = [sys.executable, "-m", "build", "--no-isolation", kind, "--outdir", str(out), str(tree)]
    done = subprocess.run(words, env=environ, umask=UMASK, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the build failed\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    (made,) = out.iterdir()
    return made


def _even(rough: Path, even: Path, time_s: int) -> Path:
    """Write a source archive again, without what only the builder's machine knows: times, owners, modes, order."""
    with (
        tarfile.open(rough) as old,
        even.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=time_s) as packed,
        tarfile.open(mode="w", fileobj=packed, format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda one: one.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = time_s, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isreg() else None)
    return even


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
