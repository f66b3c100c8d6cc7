"""Finds with promtool in which worlds of a room its alert fires, and how far each may shrink before it falls silent.

A room sees more than one expression can, so not every world of it is one for its alert: what comes out is kept in
`proven.py`, from which tests are written anywhere, without promtool. Run as `python -m skewscope.alerting.prove`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from ..catalogue import room
from . import causes, promtool, scenes
from .alert import Alert, of_watch, reads
from .proven import PROVEN, Proof
from .scenes import Scene, world_tracks
from .timeline import EVALUATION_S, timeline
from .tracks import Track

HALVINGS = 9  # of the way from quiet to the world: the line is known to 1/512 of it
MOST_FIRES, MOST_SILENT = 3, 3
HEAD = '''"""In which worlds of its room each alert fires, and down to which share. Derived by `prove.py`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Proof:
    """`fires`: (world, smallest share that fires, largest that is silent or 0, hosts); `silent`: worlds."""

    fires: tuple[tuple[str, float, float, tuple[str, ...]], ...]
    silent: tuple[str, ...]


# fmt: off
PROVEN = {
'''


@dataclass
class Prover:
    """Asks promtool about scenes of one alert, in a folder of its own."""

    alert: Alert
    folder: Path
    host: str = "instance"
    asked: int = field(default=0)

    def holds(self, scene: Scene) -> bool:
        """Return whether promtool finds the scene as it says."""
        self.asked += 1
        rules = {"groups": [{"name": "one", "rules": [self.alert.rule()]}]}
        (self.folder / "one.yml").write_text(yaml.safe_dump(rules))
        test = scenes.test(self.alert, scene, timeline(self.alert))
        tests = {"rule_files": ["one.yml"], "evaluation_interval": f"{EVALUATION_S}s", "tests": [test]}
        (self.folder / "test.yml").write_text(yaml.safe_dump(tests))
        return not promtool.test_rules(self.folder / "test.yml")

    def proof(self) -> Proof:
        """Return what holds for the room's worlds."""
        worlds = list(room("detectors", self.alert.condition).load().cases())
        silent = [world.name for world in worlds if not world.expect and self._silent(world.name)]
        near = sorted(silent, key=lambda name: ("near-miss" not in name, name != "quiet", silent.index(name)))
        seen: set[frozenset[str]] = set()
        fires: list[tuple[str, float, float, tuple[str, ...]]] = []
        for world in worlds:
            nodes = sorted({subject.partition("/")[0] for subject in world.expect})
            shown = world_tracks(self.alert, world.name, self.host)
            moved = frozenset(one.metric + str(one.labels.get("event", "")) for one in shown if _moves(one))
            if not world.expect or not shown or moved in seen or len(fires) == MOST_FIRES:
                continue
            hosts = sorted({one.labels["instance"].partition(":")[0] for one in shown})
            named = self._named(shown, tuple(node for node in nodes if node in hosts), hosts)
            if named:
                seen.add(moved)
                fires.append((world.name, *self._line(shown, named), named))
        return Proof(tuple(fires), tuple(near[:MOST_SILENT]))

    def _silent(self, name: str) -> bool:
        return self.holds(Scene("silent", world_tracks(self.alert, name, self.host)))

    def _named(self, shown: tuple[Track, ...], nodes: tuple[str, ...], hosts: list[str]) -> tuple[str, ...]:
        """Return the hosts for which the alert fires whole: those that the room names, or all."""
        for tried in (nodes, tuple(hosts)):
            if tried and self.holds(Scene("fires", shown, 1.0, tried, True)):
                return tried
        return ()

    def _line(self, shown: tuple[Track, ...], nodes: tuple[str, ...]) -> tuple[float, float]:
        """Return the smallest share that fires and the largest that is silent, (1, 0) where nothing can shrink."""
        low, high = 0.0, 1.0
        if not any(_moves(one) and one.stamps is None for one in shown) or not self.holds(Scene("", shown, 0.0)):
            return 1.0, 0.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if self.holds(Scene("fires", shown, middle, nodes)):
                high = middle
            elif self.holds(Scene("silent", shown, middle)):
                low = middle
            else:  # some hosts fire already: not a line to try
                return (high, low) if low else (1.0, 0.0)
        return high, low


def _moves(one: Track) -> bool:
    return one.stamps is not None or bool((one.course != one.quiet).any())


def proofs(only: tuple[str, ...] = ()) -> Iterator[tuple[str, Proof]]:
    """Yield (condition, proof) of each alert that reads metrics of agents."""
    with tempfile.TemporaryDirectory() as folder:
        for _, alert in causes.alerts(only):
            if not of_watch(alert.expr) and not any(":" in name for name in reads(alert.expr)):
                yield alert.condition, Prover(replace(alert), Path(folder)).proof()


def text(found: dict[str, Proof]) -> str:
    """Return the text of `proven.py`."""
    lines = []
    for condition in sorted(found):
        proof = found[condition]
        lines.append(f'    "{condition}": Proof((')
        lines += [f'        ("{name}", {high!r}, {low!r}, {_names(nodes)}),' for name, high, low, nodes in proof.fires]
        lines.append(f"    ), {_names(proof.silent)}),")
    return HEAD + "\n".join(lines) + "\n}\n# fmt: on\n"


def _names(names: tuple[str, ...]) -> str:
    return "(" + "".join(f'"{name}", ' for name in names).rstrip(" ") + ")" if names else "()"


if __name__ == "__main__":
    found = dict(PROVEN) if sys.argv[1:] else {}
    for condition, proof in proofs(tuple(sys.argv[1:])):
        found[condition] = proof
        sys.stderr.write(f"{condition}: fires {[one[:3] for one in proof.fires]}, silent {list(proof.silent)}\n")
    Path(__file__).with_name("proven.py").write_text(text(found))
