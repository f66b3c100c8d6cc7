"""How many devices each sequence gets: groups of 1, 2, 4 .. devices side by side in one step.

The model of FlexSP (ASPLOS 2025; ByteScale and Zeppelin pool devices alike): a group of degree d works through its
sequences one after the other, each split over its d devices, so sequences cost
    t(s, d) = (linear s (1 + overhead(d)) + quadratic s^2) / d
and a group's tokens must fit into its devices' memory. Short sequences want many small groups (no exchange), a long
one wants a large group, or it alone lasts longer than the step. All groups of a step together hold the devices.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UsageError
from .sequence_cost import Cost

Array = np.ndarray[Any, Any]

ENUMERATED = 32  # devices up to which all ways to cut them into groups are tried (202 at 32, 1,828 at 64)
ROUNDS_MOST = 64
BISECTIONS = 16


@dataclass(frozen=True)
class Devices:
    """`count` devices in nodes of `node`; `tokens` that fit on one; what exchange adds to the linear part.

    Overheads are shares of the linear part, within a node and across: published all-to-all shares are 5.7-8.1 % of
    the time at degree 8 and 16.4-54.4 % at degree 64.
    """

    count: int
    tokens: float = float("inf")
    node: int = 8
    within_ratio: float = 0.07
    across_ratio: float = 0.35

    def degrees(self) -> Array:
        """Return the degrees a group can have: powers of two up to `count`.

        >>> Devices(12).degrees().tolist()
        [1, 2, 4, 8]
        """
        return 2 ** np.arange(int(np.log2(self.count)) + 1)

    def overhead(self, degree: Array) -> Array:
        """Return the share that exchange adds to the linear part at each degree.

        >>> Devices(16).overhead(np.array([1, 8, 16])).tolist()
        [0.0, 0.07, 0.35]
        """
        inside = np.where(degree > 1, self.within_ratio, 0.0)
        return np.where(degree > self.node, self.across_ratio, inside)


@dataclass(frozen=True)
class Layout:
    """`degrees` [groups], `group_of` [n], the step's `time`, and a `bound` that no layout can be below.

    Of a step that does not fit at once, `rounds` are its parts, whose groups follow each other in `degrees`.
    """

    degrees: Array
    group_of: Array
    time: float
    bound: float
    optimal: bool = False
    rounds: tuple[Layout, ...] = field(default_factory=tuple)


def times(lengths: Array, cost: Cost, devices: Devices) -> Array:
    """Return the time of each sequence at each degree, [degrees, n], in the unit of `cost`; inf where it cannot fit.

    >>> times(np.array([4.0]), Cost(1.0, 1.0), Devices(2, within_ratio=0.5)).ravel().tolist()
    [20.0, 11.0]
    """
    degree = devices.degrees()[:, None]
    length = np.asarray(lengths, dtype=float)[None, :]
    made = (cost.linear * length * (1 + devices.overhead(degree)) + cost.quadratic * length**2) / degree
    return np.where(length <= degree * devices.tokens, made, np.inf)


def bound(time: Array, devices: Devices) -> float:
    """Return what no layout can be below: the least work in all over the devices, and the sequence that lasts longest.

    `time` [degrees, n] as `times` gives it.
    """
    work = (time * devices.degrees()[:, None]).min(axis=0)
    return max(float(work.sum()) / devices.count, float(time.min(axis=0).max(initial=0.0)))


def cuts(count: int, most: int | None = None) -> list[tuple[int, ...]]:
    """Return every way to cut `count` devices into groups of powers of two, largest first.

    >>> cuts(4)
    [(4,), (2, 2), (2, 1, 1), (1, 1, 1, 1)]
    """
    if count == 0:
        return [()]
    top = 2 ** int(np.log2(min(count, most or count)))
    return [(top, *rest) for rest in cuts(count - top, top)] + (cuts(count, top // 2) if top > 1 else [])


def layout(lengths: Array, cost: Cost, devices: Devices) -> Layout:
    """Return the best layout found for one step: sequences longest first, each to the group that ends earliest with it.

    Up to 32 devices all cuts are tried; beyond, cuts are changed by splitting and joining while that helps. Where the
    step's tokens do not fit at once, it takes `rounds`, one after the other. Raises UsageError for a sequence that
    fits nowhere.

    >>> made = layout(np.array([8.0, 1, 1, 1, 1]), Cost(1.0, 0.0), Devices(4, within_ratio=0.0))
    >>> made.degrees.tolist(), made.time, made.bound
    ([4], 3.0, 3.0)
    """
    lengths = np.asarray(lengths, dtype=float)
    time = times(lengths, cost, devices)
    if np.isinf(time.min(axis=0)).any():
        raise UsageError(f"a sequence of {lengths.max():,.0f} tokens fits not even on all {devices.count} devices of "
                         f"{devices.tokens:,.0f} tokens: cut it, or recompute activations")  # fmt: skip
    least = max(1, int(np.ceil(lengths.sum() / devices.tokens / devices.count))) if np.isfinite(devices.tokens) else 1
    whole = bound(time, devices)
    for rounds in range(least, ROUNDS_MOST + 1):
        made = [_one_round(rows, time, lengths, devices) for rows in _dealt(lengths, rounds)]
        if None not in made:
            return _joined([one for one in made if one is not None], _dealt(lengths, rounds), whole)
    raise UsageError(f"the step does not fit in {ROUNDS_MOST} rounds of {devices.count} devices: cut the step")


def _dealt(lengths: Array, rounds: int) -> list[Array]:
    """Return the rows of each round: longest first, to and fro, so that rounds hold about equal tokens."""
    order = np.argsort(-lengths, kind="stable")
    place = np.arange(len(order)) % (2 * rounds)
    of = np.minimum(place, 2 * rounds - 1 - place)
    return [order[of == one] for one in range(rounds)]


def _joined(made: list[Layout], rows: list[Array], whole: float) -> Layout:
    if len(made) == 1:
        group_of = np.empty_like(made[0].group_of)
        group_of[rows[0]] = made[0].group_of
        first = made[0]
        return Layout(first.degrees, group_of, first.time, whole, first.time <= whole * (1 + 1e-12), (first,))
    group_of = np.zeros(sum(len(one) for one in rows), dtype=np.int64)
    before = 0
    for one, mine in zip(made, rows, strict=True):
        group_of[mine] = before + one.group_of
        before += len(one.degrees)
    degrees = np.concatenate([one.degrees for one in made])
    return Layout(degrees, group_of, sum(one.time for one in made), whole, False, tuple(made))


def _one_round(rows: Array, time: Array, lengths: Array, devices: Devices) -> Layout | None:
    """Return the best layout of these sequences at once; None where their tokens fit into no cut that was tried."""
    mine, tokens = time[:, rows], lengths[rows]
    lowest = bound(mine, devices)
    if devices.count <= ENUMERATED:
        tried = [filled(cut, mine, tokens, devices) for cut in cuts(devices.count)]
        found = [one for one in tried if one is not None]
        return min(found, key=lambda one: one.time, default=None)
    return _climbed(mine, tokens, devices, lowest)


def filled(cut: tuple[int, ...], time: Array, tokens: Array, devices: Devices) -> Layout | None:
    """Return the layout of a given cut by the greedy rule; None where memory lets a sequence go nowhere."""
    degrees = np.array(cut)
    row = np.log2(degrees).astype(int)
    ends, held = np.zeros(len(cut)), np.zeros(len(cut))
    group_of = np.zeros(len(tokens), dtype=np.int64)
    for item in np.argsort(-tokens, kind="stable"):
        after = np.where(held + tokens[item] <= degrees * devices.tokens, ends + time[row, item], np.inf)
        best = int(np.argmin(after))
        if not np.isfinite(after[best]):
            return None
        ends[best], held[best] = after[best], held[best] + tokens[item]
        group_of[item] = best
    return Layout(degrees, group_of, float(ends.max(initial=0.0)), bound(time, devices))


def _climbed(time: Array, tokens: Array, devices: Devices, lowest: float) -> Layout | None:
    """Return the best cut by splitting and joining groups while the step gets shorter.

    Starts from the best of the even cuts and of the cuts that the longest sequences ask for at a wanted time.
    """
    degrees = devices.degrees()
    starts = [(int(one),) * (devices.count // int(one)) for one in degrees]
    low, high = lowest, float(time[0].sum()) if np.isfinite(time[0].sum()) else 2 * lowest * devices.count
    for _ in range(BISECTIONS):
        wanted = (low * high) ** 0.5
        cut = _asked_for(wanted, time, tokens, devices)
        low, high = (wanted, high) if cut is None else (low, wanted)
        starts += [cut] if cut is not None else []
    made = [one for one in (filled(cut, time, tokens, devices) for cut in starts) if one is not None]
    best = min(made, key=lambda one: one.time, default=None)
    while best is not None and best.time > lowest:
        present = sorted(best.degrees.tolist(), reverse=True)
        tried = (filled(near, time, tokens, devices) for near in _near(present, devices.count))
        better = min((one for one in tried if one is not None), key=lambda one: one.time, default=None)
        if better is None or better.time >= best.time * (1 - 1e-9):
            return best
        best = better
    return best


def _asked_for(wanted: float, time: Array, tokens: Array, devices: Devices) -> tuple[int, ...] | None:
    """Return a cut in which every sequence ends by `wanted`; None where the devices run out.

    Longest first, into an open group that still has time, else into a new one of the least degree that is fast enough.
    """
    cut: list[int] = []
    ends, held = np.zeros(devices.count), np.zeros(devices.count)
    for item in np.argsort(-tokens, kind="stable"):
        row = np.log2(np.array(cut, dtype=float)).astype(int)
        open_groups = slice(0, len(cut))
        after = ends[open_groups] + time[row, item]
        fits = (after <= wanted) & (held[open_groups] + tokens[item] <= np.array(cut, dtype=float) * devices.tokens)
        if fits.any():
            place = int(np.argmax(np.where(fits, after, -1.0)))
        else:
            fast = np.flatnonzero(time[:, item] <= wanted)
            if not len(fast) or sum(cut) + (degree := 2 ** int(fast[0])) > devices.count:
                return None
            cut.append(degree)
            place = len(cut) - 1
        ends[place] += time[int(np.log2(cut[place])), item]
        held[place] += tokens[item]
    left = devices.count - sum(cut)
    return tuple(sorted([*cut, *(1 << bit for bit in range(left.bit_length()) if left >> bit & 1)], reverse=True))


def _near(cut: list[int], most: int) -> list[tuple[int, ...]]:
    """Return the cuts that are one split or one join away.

    >>> _near([2, 1, 1], 4)
    [(1, 1, 1, 1), (2, 2)]
    """
    found = []
    for size in sorted(set(cut), reverse=True):
        rest = list(cut)
        rest.remove(size)
        if size > 1:
            found.append(tuple(sorted([*rest, size // 2, size // 2], reverse=True)))
        if cut.count(size) > 1 and 2 * size <= most:
            rest.remove(size)
            found.append(tuple(sorted([*rest, 2 * size], reverse=True)))
    return found
