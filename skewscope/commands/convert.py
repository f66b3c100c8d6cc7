"""Turn any readable recordings into the canonical tables, as Parquet, and job.json for what tables cannot say.

The tables can be analysed again, by skewscope or by any tool that reads Parquet; `skewscope schema TABLE` tells the
meaning, unit and type of each column.

Examples:
  skewscope convert traces/ --out tables/
  skewscope analyze tables/                    the same findings as from traces/
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .. import tables
from . import _files, _work


class Convert:
    """`skewscope convert`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("paths", nargs="+", metavar="PATH", help="recordings: files or folders")
        add("--out", metavar="DIR", required=True, help="folder for the tables; made where it is missing")
        add("--workers", type=_work.whole_number, metavar="N", help="processes that read files (default: all cores)")
        add("--dask", metavar="ADDRESS", help="read with a Dask cluster at this address")

    def run(self, args: argparse.Namespace) -> int:
        """Read, write the tables, list them."""
        folder = _files.make_folder(Path(args.out), "--out")
        recording = _work.read(args.paths, args.workers, args.dask)
        given = {name: rows for name, rows in recording.tables.items() if not tables.table(name).derived}
        for name in _files.write_tables(folder, given):
            print(f"{folder / name}.parquet  {len(given[name]):,} rows")
        if recording.world_size > 0:
            job = {"world_size": recording.world_size, "parallelism": dict(recording.parallelism)}
            _files.write_text(folder / "job.json", json.dumps(job) + "\n")
            print(f"{folder / 'job.json'}  world size and parallelism")
        for item in recording.inputs:
            if item.status != "ok":
                _work.LOG.warning("%s: %s: %s", item.path, item.status, item.error)
        return 0
