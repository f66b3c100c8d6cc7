"""Turn any readable recordings into canonical tables (Parquet or CSV), or into one trace of the whole job for Perfetto.

Tables can be analysed again, by skewscope (Parquet) or by any tool that reads Parquet or CSV; job.json beside them says
what they cannot. `skewscope schema TABLE` tells the meaning, unit and type of each column. The trace holds all ranks on
one clock, findings, where each step's time went, and arrows from the rank that came last to those that waited; open it
at https://ui.perfetto.dev (nothing is uploaded).

Examples:
  skewscope convert traces/ --out tables/
  skewscope analyze tables/                    the same findings as from traces/
  skewscope convert traces/ --to csv --out tables/
  skewscope convert traces/ --to perfetto --out job.json.gz
"""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path
from typing import Any

from .. import tables
from ..catalogue import rooms
from ..recording import Recording
from . import _cached, _files, _trace, _work

DEFAULT = "parquet"


class Convert:
    """`skewscope convert`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("paths", nargs="+", metavar="PATH", help="recordings: files or folders")
        add("--to", choices=sorted(_forms()), default=DEFAULT, help=f"what to write (default: {DEFAULT})")
        add(
            "--out", metavar="DIR|FILE", required=True, help="folder, made where it is missing; for a trace also a file"
        )
        add("--max-events", type=_work.whole_number, metavar="N",
            help="largest trace, in events (default: 1,000,000): the longest are kept")  # fmt: skip
        add("--workers", type=_work.whole_number, metavar="N", help="processes that read files (default: all cores)")
        add("--dask", metavar="ADDRESS", help="read with a Dask cluster at this address")
        _cached.flags(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Read, write what was asked for, list it."""
        form = _forms()[args.to].load()
        target = _trace.target(args.out, "--out") if form.analysed else _files.make_folder(Path(args.out), "--out")
        with _cached.used(args):
            recording = _work.read(args.paths, args.workers, args.dask)
        if form.analysed:
            from .analyze import analysed

            print(f"{target}  {_trace.write(analysed(recording), target, args.max_events)}")
        else:
            _write_tables(form, target, recording)
        for item in recording.inputs:
            if item.status != "ok":
                _work.LOG.warning("%s: %s: %s", item.path, item.status, item.error)
        return 0


def _forms() -> dict[str, Any]:
    """Return the room of each form by the word for it: `csv-tables` is csv. Loads none of them."""
    return {room.id.removesuffix("-tables"): room for room in rooms("writers")}


def _write_tables(form: Any, folder: Path, recording: Recording) -> None:  # noqa: ANN401 - a room
    given = {name: rows for name, rows in recording.tables.items() if not tables.table(name).derived and len(rows)}
    for name, rows in given.items():
        place = folder / form.file_name.format(name=name)
        _files.write(place, functools.partial(form.write_table, name, rows))
        print(f"{place}  {len(rows):,} rows")
    if recording.world_size > 0:
        job = {"world_size": recording.world_size, "parallelism": dict(recording.parallelism)}
        _files.write_text(folder / "job.json", json.dumps(job) + "\n")
        print(f"{folder / 'job.json'}  world size and parallelism")
