"""Who comes late to a collective, among the ranks of this node: they share one monotonic clock."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from operator import eq

LOOKS_FOR_A_GAP = 5  # records are written when calls end, and calls may end out of order
LOOKS_FOR_A_RANK = 60
MOST_WAITING = 8192


class Arrivals:
    """How late one rank came to the calls of one group: its sum (ns), and how often it was the last."""

    __slots__ = ("last_arrivals", "late_ns", "scored", "seqs", "starts")

    def __init__(self) -> None:
        self.seqs: list[int] = []
        self.starts: list[int] = []
        self.scored = False
        self.late_ns = 0
        self.last_arrivals = 0

    def add(self, seqs: Sequence[int], starts: Sequence[int]) -> None:
        """Add calls by their sequence number and start (monotonic ns)."""
        self.seqs += seqs
        self.starts += starts

    def sort(self) -> None:
        """Bring the waiting calls into the order of their numbers."""
        ordered = sorted(self.seqs)
        if ordered != self.seqs:
            self.starts = [start for _, start in sorted(zip(self.seqs, self.starts, strict=True))]
            self.seqs = ordered

    def front(self, done: int, *, patient: bool) -> int:
        """Return up to which number the calls are whole, `done` where the next one is not there."""
        if not self.seqs:
            return done
        first, last = self.seqs[0], self.seqs[-1]
        if not patient or (last - first == len(self.seqs) - 1 and first <= done + 1):
            return last
        if first > done + 1:
            return done
        return next(before for before, after in pairwise(self.seqs) if after != before + 1)

    def take(self, up_to: int) -> tuple[list[int], list[int]]:
        """Take away and return the calls up to a number."""
        if not self.seqs or self.seqs[-1] <= up_to:
            taken = self.seqs, self.starts
            self.seqs, self.starts = [], []
            return taken
        count = sum(seq <= up_to for seq in self.seqs)
        taken = self.seqs[:count], self.starts[:count]
        del self.seqs[:count], self.starts[:count]
        return taken


class Meeting:
    """One group's ranks on this node. A call is judged when all of them have told of it, or have been waited for."""

    def __init__(self) -> None:
        self.members: list[Arrivals] = []
        self._done = -1
        self._looks = 0

    def join(self, member: Arrivals) -> None:
        """Add a rank; a restarted one counts from the beginning, so what was judged before says nothing."""
        if member not in self.members:
            self.members.append(member)
            self._done = -1

    def leave(self, member: Arrivals) -> None:
        """Take a rank away."""
        if member in self.members:
            self.members.remove(member)
            self._done = -1

    def settle(self) -> None:
        """Judge the calls that are complete."""
        if not any(member.seqs for member in self.members):
            self._looks = 0
            return
        for member in self.members:
            member.sort()
        if self._done < 0 or len(self.members) < 2:
            self._done = min(member.seqs[0] for member in self.members if member.seqs) - 1
        up_to = self._up_to()
        if up_to > self._done:
            score([(member, *member.take(up_to)) for member in self.members])
            self._done = up_to
        elif self._is_out_of_patience():
            self._done = -1  # all that wait have old numbers: the group counts anew, or a number was untrue
        self._looks = self._looks + 1 if any(member.seqs for member in self.members) else 0

    def _is_out_of_patience(self) -> bool:
        return self._looks > LOOKS_FOR_A_RANK or max(len(member.seqs) for member in self.members) > MOST_WAITING

    def _up_to(self) -> int:
        if self._is_out_of_patience():
            return max(member.seqs[-1] for member in self.members if member.seqs)
        patient = self._looks < LOOKS_FOR_A_GAP
        return min(member.front(self._done, patient=patient) for member in self.members)


def score(calls: list[tuple[Arrivals, list[int], list[int]]]) -> None:
    """Add to each member how late it came to the calls (numbers, starts in ns) that at least two of them have.

    >>> early, late = Arrivals(), Arrivals()
    >>> score([(early, [1, 2], [100, 200]), (late, [1, 2], [130, 190])])
    >>> early.late_ns, late.late_ns, early.last_arrivals, late.last_arrivals
    (10, 30, 1, 1)
    """
    present = [one for one in calls if one[1]]
    if len(present) < 2:
        return
    if any(seqs != present[0][1] for _, seqs, _ in present):
        present = _common(present)
        if not present:
            return
    firsts = list(map(min, *(starts for *_, starts in present)))
    lasts = list(map(max, *(starts for *_, starts in present)))
    earliest = sum(firsts)
    for member, _, starts in present:
        member.scored = True
        member.late_ns += sum(starts) - earliest
        member.last_arrivals += sum(map(eq, starts, lasts))


def _common(calls: list[tuple[Arrivals, list[int], list[int]]]) -> list[tuple[Arrivals, list[int], list[int]]]:
    """Return the calls that all members have; nothing can be said of the others."""
    common = set(calls[0][1]).intersection(*(seqs for _, seqs, _ in calls[1:]))
    if not common:
        return []
    kept = []
    for member, seqs, starts in calls:
        told = {seq: start for seq, start in zip(seqs, starts, strict=True) if seq in common}
        kept.append((member, list(told), list(told.values())))
    return kept
