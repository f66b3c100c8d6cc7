"""Incidents: what findings mean over time. One trouble is one incident, however often and in how many ways it is seen.

An incident opens with a culprit, grows with what it costs, is mitigated when that is over or halved, and closes when
nothing was seen for a while. It comes back as itself where it returns soon. A finding belongs to the incident of the
same condition and place; or to one that its cause explains, and a cause found later takes the incident over. Where the
place did not tell anything, nothing is concluded from silence.

Everything here is pure: the same board, findings and time give the same board.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from ..contracts import SEVERITIES, Finding
from ..precedence import CLASSES, draws, same_place
from ..signals.windows import WINDOW_S

OPEN, GROWING, MITIGATED, CLOSED = "open", "growing", "mitigated", "closed"
SECOND_NS = 10**9
WINDOW_NS = int(WINDOW_S * SECOND_NS)
BLIND_NS = 2 * WINDOW_NS  # a longer time between two windows was not watched
HARD = CLASSES[0]  # what broke stays so, though it was told only once
WIDE = ("rack", "job")


@dataclass(frozen=True)
class Patience:
    """How steady verdicts are; seconds are of windows, not of the wall."""

    active_s: float = 90.0  # a finding whose window ended longer ago is over: three windows of 30 s
    hard_s: float = 600.0  # what breaks once and stays broken holds at least so long after its window began
    clear_s: float = 180.0  # unseen for so long, it is closed
    reopen_s: float = 900.0  # closed for less, it is the same incident again
    keep_s: float = 86_400.0  # closed ones are remembered so long
    grows_ratio: float = 1.25  # times the most that was told, and
    grows_share: float = 0.02  # of the step more, before it is told again
    eased_ratio: float = 0.5  # of its peak: below, it is mitigated
    most_kept: int = 2_000  # incidents in memory, the oldest closed ones go first


@dataclass(frozen=True)
class Seen:
    """A culprit of this window, with what it explains, its job ("" unknown), and that job's ranks."""

    finding: Finding
    others: tuple[Finding, ...] = ()
    job: str = ""
    ranks: int = 0
    stopped: bool = False  # the job makes no steps

    @property
    def lost_gpus(self) -> float:
        """GPU-hours lost per hour."""
        hard = self.stopped and self.finding.condition in HARD
        return float(self.ranks) if hard else min(max(0.0, self.finding.lost_share), 1.0) * self.ranks


@dataclass(frozen=True)
class Incident:
    """One trouble. Times are ends of windows, ns; `told_share` is the highest share of the step that was told."""

    id: str
    state: str
    seen: Seen
    opened_ns: int
    changed_ns: int
    seen_ns: int
    closed_ns: int = -1
    lost_gpu_s: float = 0.0
    peak_share: float = 0.0
    told_share: float = 0.0
    flaps: int = 0

    @property
    def root(self) -> Finding:
        """The finding that stands for it."""
        return self.seen.finding


@dataclass(frozen=True)
class Board:
    """All incidents that are remembered, and the window up to which they are."""

    incidents: tuple[Incident, ...] = ()
    time_ns: int = -1

    @property
    def live(self) -> tuple[Incident, ...]:
        """Those that are not closed."""
        return tuple(one for one in self.incidents if one.state != CLOSED)


@dataclass
class _Turn:
    """One window's turn over a board."""

    time_ns: int
    length_ns: int  # since the board's window
    blind_ns: int  # of it, nobody looked
    patience: Patience
    made: dict[str, Incident] = field(default_factory=dict)
    joined: dict[str, list[Seen]] = field(default_factory=dict)

    @property
    def length_s(self) -> float:
        """What a trouble seen now has cost time since the last window; at most until it would have been closed."""
        return min(self.length_ns / SECOND_NS, self.patience.clear_s)


def advance(
    board: Board, time_ns: int, seen: Sequence[Seen], *, silent: Collection[str] = (), failed: Collection[str] = (),
    patience: Patience | None = None,
) -> Board:  # fmt: skip
    """Return the board after the window that ends at `time_ns`, with its culprits in the order of a report.

    `silent` names hosts that told nothing, `failed` conditions that could not be looked for: their incidents are not
    closed for want of findings; nor is a time in which nobody looked silence. A window that is not later than the board
    changes nothing.
    """
    if time_ns <= board.time_ns:
        return board
    patience = patience or Patience()
    length_ns = time_ns - board.time_ns if board.time_ns >= 0 else 0
    blind_ns = length_ns - WINDOW_NS if length_ns > BLIND_NS else 0
    turn = _Turn(time_ns, length_ns, blind_ns, patience, {one.id: one for one in board.incidents})
    for one in seen:
        if is_active(one.finding, time_ns, patience):
            home = _home(turn, one)
            turn.joined.setdefault(home, []).append(one)
    after = [
        _moved(turn, one, one.root.subject.node in silent or one.root.condition in failed) for one in turn.made.values()
    ]
    return Board(_kept(after, time_ns, patience), time_ns)


def is_active(found: Finding, time_ns: int, patience: Patience) -> bool:
    """Return whether a finding still holds at a time: a window of its horizon may have ended long ago."""
    window = found.window
    until_ns = window.end_ns + patience.active_s * SECOND_NS
    if found.condition in HARD:
        # Rooms that know a break from one event let its window go on for it; those that see a state end it with that.
        begun_ns = window.start_ns if window.start_ns >= 0 else window.end_ns
        until_ns = max(until_ns, begun_ns + patience.hard_s * SECOND_NS)
    return window.end_ns < 0 or time_ns < until_ns


def _home(turn: _Turn, one: Seen) -> str:
    """Return the id of the incident of a culprit, which is opened where there is none."""
    found = one.finding
    live = [incident for incident in turn.made.values() if incident.state != CLOSED]
    closed = [incident for incident in turn.made.values() if incident.state == CLOSED and _is_near(turn, incident)]
    for some in (live, closed):
        here = [incident for incident in some if _place(incident.root) == _place(found)]
        here += [incident for incident in some if any(is_same(root, found) for root in _roots(turn, incident, one))]
        if here:
            return here[0].id
    for incident in live:
        if any(draws(root, found) or draws(found, root) for root in _roots(turn, incident, one)):
            return incident.id
    name = _name(turn, found)
    turn.made[name] = Incident(name, OPEN, one, turn.time_ns, turn.time_ns, turn.time_ns)
    return name


def _roots(turn: _Turn, incident: Incident, by: Seen) -> list[Finding]:
    """Return what stands for an incident or may do so next and can have to do with `by`: jobs are apart."""
    roots = [incident.seen, *turn.joined.get(incident.id, ())]
    here = by.finding.subject.node
    return [
        one.finding for one in roots
        if not (one.job and by.job) or one.job == by.job or (here and one.finding.subject.node == here)
    ]  # fmt: skip


def _place(found: Finding) -> tuple[str, str]:
    return found.condition, found.subject.id


def _name(turn: _Turn, found: Finding) -> str:
    """Return an id that no other incident has: the clock may have gone back to when one was opened."""
    text = f"{found.condition}|{found.subject.id}|{turn.time_ns}"
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    while name in turn.made:
        name = hashlib.sha256(name.encode()).hexdigest()[:12]
    return name


def _is_near(turn: _Turn, incident: Incident) -> bool:
    return turn.time_ns - incident.closed_ns < turn.patience.reopen_s * SECOND_NS


def is_same(first: Finding, second: Finding) -> bool:
    """Return whether two findings of different windows tell of one trouble: one condition, one place.

    Evidence on many moves a finding from the device to the host, the rack or the job, and back: that is one place.
    """
    if first.condition != second.condition:
        return False
    one, other = first.subject, second.subject
    if one.id == other.id:
        return True
    if one.kind == other.kind:
        return one.kind == "rack"
    return one.kind in WIDE or other.kind in WIDE or same_place(first, second)


def _moved(turn: _Turn, incident: Incident, unknown: bool) -> Incident:
    """Return an incident after this window, in which its place may have been unknown."""
    joined = turn.joined.get(incident.id)
    if joined:
        return _seen_again(turn, incident, joined)
    if incident.state == CLOSED:
        return incident
    incident = replace(incident, seen_ns=incident.seen_ns + (turn.length_ns if unknown else turn.blind_ns))
    if unknown:
        return incident
    if turn.time_ns - incident.seen_ns >= turn.patience.clear_s * SECOND_NS:
        return replace(incident, state=CLOSED, closed_ns=turn.time_ns, changed_ns=turn.time_ns)
    if incident.state != MITIGATED:
        return replace(incident, state=MITIGATED, changed_ns=turn.time_ns)
    return incident


def _seen_again(turn: _Turn, incident: Incident, joined: Sequence[Seen]) -> Incident:
    patience, root = turn.patience, _root(incident.root, joined)
    also = [one for one in joined if one is not root]
    others = (*root.others, *(one.finding for one in also), *(more for one in also for more in one.others))
    root = replace(root, others=tuple(dict.fromkeys(others)))
    if incident.state != CLOSED:
        root = replace(root, finding=_held(incident.root, root.finding))
    share, fresh = max(0.0, root.finding.lost_share), incident.opened_ns == turn.time_ns or incident.state == CLOSED
    new = fresh or root.finding.condition != incident.root.condition
    incident = replace(incident, peak_share=0.0, told_share=0.0) if new else incident
    more, ratio = share - incident.told_share, patience.grows_ratio
    grown = not new and more >= patience.grows_share and share >= ratio * incident.told_share
    eased = share < patience.eased_ratio * incident.peak_share
    back = fresh or (incident.state == MITIGATED and not (eased or grown))
    state = OPEN if back else MITIGATED if eased else GROWING if grown else incident.state
    changed = fresh or grown or state != incident.state or _differs(incident.root, root.finding)
    return replace(
        incident, seen=root, state=state, seen_ns=turn.time_ns, closed_ns=-1,
        changed_ns=turn.time_ns if changed else incident.changed_ns,
        lost_gpu_s=incident.lost_gpu_s + root.lost_gpus * turn.length_s,
        peak_share=max(incident.peak_share, share), flaps=incident.flaps + (incident.state == CLOSED),
        told_share=max(incident.told_share, share) if changed else incident.told_share,
    )  # fmt: skip


def _root(before: Finding, joined: Sequence[Seen]) -> Seen:
    """Return which of the culprits stands for the incident: what explains the others, else the one that did before."""
    causes = [one for one in joined if any(draws(one.finding, other.finding) for other in joined)]
    causes = causes or [one for one in joined if draws(one.finding, before)]
    same = [one for one in joined if _place(one.finding) == _place(before)]
    same += [one for one in joined if is_same(one.finding, before)]
    return (causes or same or joined)[0]


def _held(before: Finding, after: Finding) -> Finding:
    """Return a finding that is no less severe than before: alerts that follow each price would begin again."""
    if before.condition != after.condition or SEVERITIES.index(before.severity) >= SEVERITIES.index(after.severity):
        return after
    return replace(after, severity=before.severity)


def _differs(before: Finding, after: Finding) -> bool:
    """Return whether people should hear of it: another condition, place or a worse severity."""
    worse = SEVERITIES.index(after.severity) < SEVERITIES.index(before.severity)
    return worse or (before.condition, before.subject.id) != (after.condition, after.subject.id)


def rewound(board: Board, time_ns: int) -> Board:
    """Return a board for a clock that went back to `time_ns`: nothing on it is of a later time."""

    def at(t_ns: int) -> int:
        return min(t_ns, time_ns)

    some = [
        replace(one, opened_ns=at(one.opened_ns), changed_ns=at(one.changed_ns), seen_ns=at(one.seen_ns),
                closed_ns=at(one.closed_ns)) for one in board.incidents
    ]  # fmt: skip
    return Board(tuple(some), at(board.time_ns))


def _kept(incidents: Iterable[Incident], time_ns: int, patience: Patience) -> tuple[Incident, ...]:
    """Return the incidents, the newest change first, without those closed long ago."""
    some = [one for one in incidents if one.closed_ns < 0 or time_ns - one.closed_ns < patience.keep_s * SECOND_NS]
    some.sort(key=lambda one: (one.state == CLOSED, -one.changed_ns, one.id))
    live = sum(one.state != CLOSED for one in some)
    kept = some[: max(live, patience.most_kept)]
    return tuple(sorted(kept, key=lambda one: (-one.changed_ns, one.id)))


def changes(before: Board, after: Board) -> list[Incident]:
    """Return the incidents that are new or changed, the oldest change first."""
    known = {one.id: one for one in before.incidents}
    told = [one for one in after.incidents if one.id not in known or known[one.id].changed_ns != one.changed_ns]
    return sorted(told, key=lambda one: (one.changed_ns, one.id))
