"""Asynchronous groups that arrive together (FedCompass: Li and others, ICLR 2024).

A fast client does more local steps than a slow one, so that a group of clients comes back at one time and is averaged
at once. Each client's speed v (seconds per step) is learnt; a group has an expected and a latest arrival. What comes
later than that waits in a buffer for the next average.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor
from typing import Any, NamedTuple

import numpy as np

from .batch_split import TINY_S

Array = np.ndarray[Any, Any]

SPEED_WEIGHT = 0.9  # of the newest measurement
LATEST_RATIO = 1.5  # of the expected duration
LEAST_STEPS, MOST_STEPS = 20, 100


@dataclass
class Group:
    """Clients that are expected at one time."""

    expected_s: float
    latest_s: float
    waiting: set[int] = field(default_factory=set)
    arrived: list[int] = field(default_factory=list)


class Job(NamedTuple):
    """What a client is told to do: so many local `steps`, due with the `group` of this number."""

    steps: int
    group: int


class Averaging(NamedTuple):
    """One average: when, of which clients, and how many averages each one's model had missed (staleness)."""

    time_s: float
    clients: tuple[int, ...]
    staleness: tuple[int, ...]


class FedCompass:
    """The scheduler: `join` gives a client its work, `arrive` takes its result and says what to average."""

    def __init__(self, least: int = LEAST_STEPS, most: int = MOST_STEPS, latest_ratio: float = LATEST_RATIO) -> None:
        self.least, self.most, self.latest_ratio = least, most, latest_ratio
        self.speed_s: dict[int, float] = {}
        self.groups: dict[int, Group] = {}
        self.buffer: list[int] = []
        self._next = 0

    def measured(self, client: int, step_s: float) -> float:
        """Learn a client's seconds per step and return the smoothed value."""
        known = self.speed_s.get(client, step_s)
        self.speed_s[client] = SPEED_WEIGHT * step_s + (1 - SPEED_WEIGHT) * known
        return self.speed_s[client]

    def join(self, client: int, now_s: float) -> Job:
        """Return the work of a client whose speed is known: the group that lets it do the most steps, else a new one.

        >>> scheduler = FedCompass(); _ = scheduler.measured(0, 1.0), scheduler.measured(1, 2.0)
        >>> scheduler.join(0, 0.0), scheduler.join(1, 0.0)
        (Job(steps=100, group=0), Job(steps=50, group=0))
        """
        speed = self.speed_s[client]
        steps = {number: floor((group.expected_s - now_s) / speed) for number, group in self.groups.items()}
        fitting = {number: count for number, count in steps.items() if self.least <= count <= self.most}
        if fitting:
            number = max(fitting, key=lambda one: fitting[one])
            self.groups[number].waiting.add(client)
            return Job(fitting[number], number)
        return self._new_group(client, now_s)

    def _new_group(self, client: int, now_s: float) -> Job:
        """Return the work in a new group, timed so that the fastest client of a group under way can come to it next."""
        speed, fastest = self.speed_s[client], min(self.speed_s.values())
        reach = [floor((group.latest_s + fastest * self.most - now_s) / speed) for group in self.groups.values()]
        within = [count for count in reach if count <= self.most]
        count = max(max(within), self.least) if within else self.most
        number, self._next = self._next, self._next + 1
        length = count * speed
        self.groups[number] = Group(now_s + length, now_s + length * self.latest_ratio, {client})
        return Job(count, number)

    def arrive(self, client: int, job: Job, now_s: float) -> tuple[int, ...]:
        """Take a client's result and return the clients whose results are averaged now; none while others are due."""
        group = self.groups.get(job.group)
        if group is None or now_s > group.latest_s:
            self.buffer.append(client)
            if group is None:
                return ()
            group.waiting.discard(client)
        else:
            group.waiting.discard(client)
            group.arrived.append(client)
        return () if group.waiting else self.close(job.group)

    def close(self, number: int) -> tuple[int, ...]:
        """End a group, as when its latest arrival has passed; return the clients to average, the buffer's too."""
        group = self.groups.pop(number)
        clients = (*group.arrived, *self.buffer)
        self.buffer.clear()
        return clients


def simulate(step_s: Array, until_s: float, least: int = LEAST_STEPS, most: int = MOST_STEPS) -> list[Averaging]:
    """Return the averagings of clients with constant `step_s` [clients] seconds per step, until a time.

    >>> simulate(np.array([1.0, 2.0]), 200.0)[:1]
    [Averaging(time_s=100.0, clients=(0, 1), staleness=(0, 0))]
    """
    scheduler, version = FedCompass(least, most), 0
    due: list[tuple[float, int, Job]] = []
    based = dict.fromkeys(range(len(step_s)), 0)
    made: list[Averaging] = []

    def start(client: int, now_s: float) -> None:
        job = scheduler.join(client, now_s)
        based[client] = version
        due.append((now_s + job.steps * float(step_s[client]), client, job))

    for client, speed in enumerate(step_s):
        scheduler.measured(client, float(speed))
    for client in range(len(step_s)):
        start(client, 0.0)
    while due:
        event = min(due)
        due.remove(event)
        now, client, job = event
        if now > until_s:
            break
        clients = scheduler.arrive(client, job, now)
        if clients:
            made.append(Averaging(now, clients, tuple(version - based[one] for one in clients)))
            version += 1
            for one in clients:
                start(one, now)
    return made


def steps_together(step_s: Array, least: int = LEAST_STEPS, most: int = MOST_STEPS) -> Array:
    """Return the local steps [clients] with which all come back at about one time, the fastest doing `most`.

    >>> steps_together(np.array([1.0, 2.0, 10.0])).tolist()
    [100, 50, 20]
    """
    step_s = np.maximum(step_s, TINY_S)  # a client without work is the fastest
    together = np.floor(most * step_s.min() / step_s + 1e-9)
    return np.asarray(np.maximum(together, least), dtype=np.int64)


def staleness_weight(missed: int, power: float = 0.5) -> float:
    """Return the weight of a result that missed so many averages: (missed + 1)^-power, falling with age.

    One public implementation raises to +power, so old results count more; damping wants the minus.

    >>> staleness_weight(0), staleness_weight(3)
    (1.0, 0.5)
    """
    return float((missed + 1.0) ** -power)
