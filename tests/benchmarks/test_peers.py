"""The whole analysis beside HolisticTraceAnalysis and TraceLens on the same files, one after the other in the same run.

Sizes come from SKEWSCOPE_BENCH_RANKS ("4" unless told; "4,16,64" takes about ten minutes). HTA does what it offers for
the same question: load, temporal breakdown, idle time of all ranks, overlap, kernel breakdown, stragglers, launches.
We do all of ours without charts, as HTA is asked for none: every condition and every light view, as JSON and CSV. The
command with the page of charts, and the command with findings only, are shown beside it.
TraceLens makes its collective report only. No package index has it: SKEWSCOPE_BENCH_TRACELENS names the folders, parted
by colons, of a checkout of github.com/AMD-AGI/TraceLens and of what it imports.
The floor is one process that decompresses and decodes the same bytes and keeps nothing. Gains grow with the number of
ranks, as starting costs the same for all; what is promised of the largest set is asserted there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # also when a fresh process loads this file alone

from _measure import Cost, measure  # noqa: E402
from _sets import REAL, negq  # noqa: E402
from test_reading import floor  # noqa: E402

BENCH = HERE.parents[1] / ".bench"
RANKS = [int(size) for size in os.environ.get("SKEWSCOPE_BENCH_RANKS", "4").split(",")]
LARGE = 64  # ranks, from which on the promises of a large job hold
TRACELENS = os.environ.get("SKEWSCOPE_BENCH_TRACELENS", "")
LEAST_CPU_GAIN, LEAST_CPU_GAIN_LARGE = 3.0, 16.0
LEAST_MEMORY_GAIN = 1.0
MOST_BYTES_LARGE = 400 << 20
MOST_OVER_FLOOR_LARGE = 1.3  # CPU of the whole analysis, starting included, over the floor's

pytestmark = [pytest.mark.benchmark, pytest.mark.skipif(not REAL.exists(), reason="no shared data")]


def peer(folder: str, ranks: int, answer: str) -> None:
    """Run HTA's analyses of all ranks and write down whom it suspects."""
    from hta.trace_analysis import TraceAnalysis

    whole = TraceAnalysis(trace_dir=folder)
    everyone = list(range(ranks))
    whole.get_temporal_breakdown(visualize=False)
    whole.get_idle_time_breakdown(ranks=everyone, visualize=False)
    whole.get_comm_comp_overlap(visualize=False)
    whole.get_gpu_kernel_breakdown(visualize=False)
    whole.get_cuda_kernel_launch_stats(ranks=everyone, visualize=False)
    Path(answer).write_text(json.dumps([int(rank) for rank in whole.get_potential_stragglers()]))


def lens(folder: str, ranks: int, out: str) -> None:
    """Write TraceLens's collective report of all ranks."""
    sys.path[:0] = TRACELENS.split(":")
    from TraceLens.Reporting.generate_multi_rank_collective_report_pytorch import generate_collective_report

    generate_collective_report(trace_pattern=f"{folder}/rank*.json.gz", world_size=ranks, output_csvs_dir=out)


def ours(folder: str, report: str, out: str) -> None:
    """Write our report and the tables of all light views."""
    import gc

    gc.disable()  # as the command does
    from skewscope.commands._views import Asked, write_csv
    from skewscope.commands.analyze import analysed, as_json, report_of
    from skewscope.sources import gather

    analysis = analysed(gather([Path(folder)]))
    Path(report).write_text(as_json(report_of(analysis)))
    write_csv(Path(out), Asked.of(("light",)).answers(analysis))


def row(name: str, cost: Cost, named: object) -> str:
    """Return one line of the table."""
    return f"{name:24} {cost.cpu_s:8.1f} {cost.wall_s:8.1f} {cost.peak_bytes / 2**20:10.0f}   {named}"


@pytest.mark.parametrize("ranks", RANKS)
def test_whole_analysis_beside_hta(ranks, tmp_path, capsys):
    pytest.importorskip("hta")
    folder = BENCH / f"negq-{ranks}"
    paths = negq(folder, ranks)
    suspects, report = tmp_path / "suspects.json", tmp_path / "report.json"
    told = str(folder), str(report), str(tmp_path / "views")
    first = measure(ours, *told)
    base = min((measure(floor, *map(str, paths)) for _ in range(2)), key=lambda cost: cost.cpu_s)
    theirs = measure(peer, str(folder), ranks, str(suspects))
    again = measure(ours, *told)
    program = [str(Path(sys.executable).with_name("skewscope")), "analyze", str(folder), "--no-cache", "-q"]
    bare = measure(program)
    drawn = measure([*program, "--html", str(tmp_path / "report.html")])
    others = measure(lens, str(folder), ranks, str(tmp_path)) if TRACELENS else None
    findings = json.loads(report.read_text())["findings"]
    named = [one["subject"]["rank"] for one in findings if one["role"] == "culprit"]
    best = min(first, again, key=lambda cost: cost.cpu_s)
    over_floor = best.cpu_s / base.cpu_s
    with capsys.disabled():
        print(f"\n{ranks} ranks, {sum(path.stat().st_size for path in paths) / 1e6:.1f} MB compressed, "
              f"late rank {ranks // 2}, load {os.getloadavg()[0]:.1f}")  # fmt: skip
        print(f"{'':24} {'CPU s':>8} {'wall s':>8} {'peak MiB':>10}   named")
        print(row("HTA", theirs, json.loads(suspects.read_text())))
        print(
            row("TraceLens, collectives", others, "") if others else "TraceLens: SKEWSCOPE_BENCH_TRACELENS is not set"
        )
        print(row("skewscope, first", first, named))
        print(row("skewscope, again", again, named))
        print(row("  findings only", bare, ""))
        print(row("  with charts", drawn, ""))
        print(row("floor", base, ""))
        print(f"{'HTA over skewscope':24} {theirs.cpu_s / best.cpu_s:8.1f} {theirs.wall_s / best.wall_s:8.1f} "
              f"{theirs.peak_bytes / best.peak_bytes:10.1f}")  # fmt: skip
        print(f"{'skewscope over the floor':24} {over_floor:8.2f}")
    assert named == [ranks // 2]
    assert theirs.cpu_s >= (LEAST_CPU_GAIN_LARGE if ranks >= LARGE else LEAST_CPU_GAIN) * best.cpu_s
    assert theirs.peak_bytes >= LEAST_MEMORY_GAIN * best.peak_bytes
    if ranks >= LARGE:
        assert best.peak_bytes <= MOST_BYTES_LARGE
        assert over_floor <= MOST_OVER_FLOOR_LARGE
