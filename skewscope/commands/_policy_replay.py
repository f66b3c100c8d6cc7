"""`skewscope policy replay`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from . import _files, _work

if TYPE_CHECKING:
    from ..acting.replay import Played, Settings
    from ..policy.settings import Policy
    from ..simulate.week import Week


class PolicyReplay:
    """Play a week again: what each policy would have done, saved and cost.

    POLICY is a policy file (.toml) or one of observe, approve, cautious, bold; all four where none is named. A folder
    of `watch` (--state, --store) or a history.jsonl among them is the week; without one it is simulated, and then the
    truth is known: which acts were right, too. The real engine runs in simulated time on a simulated scheduler; the
    days of dry run that a policy begins with are left out.

    Examples:
      skewscope policy replay                                    four policies over a simulated week of 64 nodes
      skewscope policy replay policy.toml bold --acts            mine beside the bold one, with every act
      skewscope policy replay policy.toml --weeks 8 --nodes 256  eight weeks of a larger cluster
      skewscope policy replay policy.toml /var/lib/skewscope     what it would have done with my own incidents
    """

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("places", nargs="*", metavar="POLICY|HISTORY", help="policies, and where watch kept its incidents")
        add("--nodes", type=_work.whole_number, metavar="N", help="nodes of the cluster (simulated: 64)")
        add("--days", type=float, default=7.0, metavar="D", help="length of the simulated time (7)")
        add("--weeks", type=_work.whole_number, default=1, metavar="N", help="so many simulated ones, added up (1)")
        add("--seed", type=int, default=0, metavar="N", help="of the first simulated week (0)")
        add("--gpus-per-node", type=_work.whole_number, default=8, metavar="N", help="GPUs of a node (8)")
        add("--scheduler", default="", metavar="NAME", help="whose mode and groups hold (the policy's first)")
        add("--turn", type=_turn, default=60.0, metavar="S", help="seconds between two looks (60)")
        add("--acts", action="store_true", help="list every act, too")
        add("--keep", metavar="DIR", type=Path, help="write the audit of each policy there, for `skewscope audit`")
        add("--json", metavar="FILE", help="write the document (skewscope.replay/1); - is standard output")
        add("--workers", type=_work.whole_number, metavar="N", help="processes (default: all cores)")

    def run(self, args: argparse.Namespace) -> int:
        """Play, print, write."""
        from ..acting.replay_page import Compared, document, page

        if args.json and args.json != "-":
            _files.check_file(Path(args.json), "--json")
        policies, histories = sorted_out(args.places)
        chosen = weeks(args, histories)
        folder = _files.make_folder(args.keep, "--keep") if args.keep else None
        played, baselines = _played(args, policies, chosen)
        compared = [Compared(played[name], baselines) for name in policies]
        if folder is not None:
            _keep(folder, played)
        if args.json:
            text = json.dumps(document(chosen, compared), indent=2) + "\n"
            sys.stdout.write(text) if args.json == "-" else _files.write_text(Path(args.json), text)
        if args.json != "-":
            sys.stdout.write(page(chosen, compared, deeds=args.acts))
        return 0


def sorted_out(places: Sequence[str]) -> tuple[dict[str, Policy], list[Path]]:
    """Return the policies by name, all presets where none is named, and the places of histories; raises UsageError."""
    from ..acting._replay_presets import PRESETS, policy

    histories = [Path(one) for one in places if one not in PRESETS and not one.endswith(".toml")]
    for one in histories:
        if not one.exists():
            raise UsageError(f"{one}: is no policy ({', '.join(PRESETS)}, or a .toml file), and no folder or file")
    names = [one for one in places if one in PRESETS or one.endswith(".toml")] or list(PRESETS)
    return {_short(one, names): policy(one) for one in names}, histories


def _short(name: str, names: Sequence[str]) -> str:
    """Return the name of a file without folder and ending, where that is clear.

    >>> _short("a/mine.toml", ["a/mine.toml", "bold"]), _short("a/x.toml", ["a/x.toml", "b/x.toml"])
    ('mine', 'a/x.toml')
    """
    short = Path(name).stem if name.endswith(".toml") else name
    stems = [Path(one).stem if one.endswith(".toml") else one for one in names]
    return short if stems.count(short) == 1 else name


def weeks(args: argparse.Namespace, histories: Sequence[Path]) -> list[Week]:
    """Return the weeks that are asked for: the recorded one, or simulated ones; raises UsageError."""
    if histories:
        from ..acting._replay_history import Guess, recorded

        return [recorded(histories, Guess(args.nodes or 0, args.gpus_per_node))]
    from ..simulate.incidents import week
    from ..simulate.week import WeekPlan

    plan = WeekPlan(nodes=args.nodes or 64, days=args.days, gpus_per_node=args.gpus_per_node)
    return [week(plan, args.seed + number) for number in range(args.weeks)]


def _played(
    args: argparse.Namespace, policies: dict[str, Policy], chosen: Sequence[Week]
) -> tuple[dict[str, list[Played]], list[Played]]:
    """Return what came of each policy in each week, and of nobody; each is played in a process of its own."""
    from ..acting.replay import Settings, nobody
    from ..processes import process_pool

    settings = Settings(args.turn, args.scheduler, args.seed)
    tasks = [(name, policy, week) for name, policy in policies.items() for week in chosen]
    workers = min(args.workers or os.cpu_count() or 1, len(tasks))
    work = partial(_task, settings=settings)
    found: list[Played] = []
    with _work.progress("playing") as moved:
        if workers > 1:
            with process_pool(workers) as pool:
                for one in pool.map(work, tasks):
                    found.append(one)
                    _tell(moved, len(found), len(tasks))
        else:
            for task in tasks:
                found.append(work(task))
                _tell(moved, len(found), len(tasks))
    size = len(chosen)
    played = {name: found[at * size : (at + 1) * size] for at, name in enumerate(policies)}
    return played, [nobody(week, settings) for week in chosen]


def _task(task: tuple[str, Policy, Week], settings: Settings) -> Played:
    from ..acting.replay import play

    engine = logging.getLogger("skewscope.acting")
    level = engine.level
    engine.setLevel(logging.WARNING)  # of acts that nobody does the log would be long
    try:
        return play(*task, settings)
    finally:
        engine.setLevel(level)


def _tell(moved: object, done: int, total: int) -> None:
    if callable(moved):
        moved(done, total, "")


def _keep(folder: Path, played: dict[str, list[Played]]) -> None:
    """Write each audit; several weeks of one policy are several files."""
    for name, some in played.items():
        for number, one in enumerate(some, 1):
            suffix = f"-{number}" if len(some) > 1 else ""
            place = folder / f"{name.replace('/', '_')}{suffix}.jsonl"
            _files.write(place, partial(Path.write_bytes, data=one.audit))


def _turn(text: str) -> float:
    seconds = float(text)
    if not 30 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds between 30 and 3600")
    return seconds
