"""The schemes played out worker by worker and round by round, with sets and loops; nothing of the package is used.

Slow and literal on purpose: these are the texts of the schemes, to compare the vectorised simulators with.
"""

from __future__ import annotations

import copy


def close(times, mu, accept, wait_out):
    """Return (duration, late set) of a round: `times` by worker, `accept` asked with the set of those given up."""
    fastest = min(times)
    late = {worker for worker, time in enumerate(times) if time > (1 + mu) * fastest}
    if accept(late):
        return min((1 + mu) * fastest, max(times)), late
    if wait_out == "all":
        return max(times), set()
    for worker in sorted(late, key=lambda one: (times[one], one)):
        late = late - {worker}
        if accept(late):
            return times[worker], late
    return max(times), set()


def gc(delays, move, spare, mu, wait_out):
    """Return [(duration, late)] of gradient coding with a deadline."""
    return [close([move(one) for one in row], mu, lambda late: len(late) <= spare, wait_out) for row in delays]


def bursty(history, number, late, burst, window, most):
    """Return whether `late` may follow `history`, sets by round: lambda rule and burst rule."""
    recent = set().union(*(history.get(one, set()) for one in range(number - window + 1, number)), late)
    longer_ago = set().union(*(history.get(one, set()) for one in range(number - window + 1, number - burst + 1)))
    return len(recent) <= most and not (longer_ago & late)


def sr_sgc(delays, move, burst, window, most, mu, jobs, wait_out, accept):
    """Return ([(duration, late)], undecoded jobs)."""
    workers = len(delays[0])
    spare = -(-burst * most // (window - 1 + burst))
    history, results, rounds = {}, {job: set() for job in range(jobs)}, []
    for number in range(jobs + burst):
        old = number - burst
        absent = [w for w in range(workers) if w not in results[old]] if 0 <= old < jobs else []
        repeating = absent[: max(0, len(absent) - spare)]
        if number >= jobs and not repeating:
            rounds.append((0.0, set()))
            continue
        times = [move(one) for one in delays[number % len(delays)]]

        def accepts(late, number=number, repeating=repeating, old=old):
            if accept == "feasible":
                return old < 0 or len(results[old]) + len(set(repeating) - late) >= workers - spare or not repeating
            if not repeating and len(late) <= spare:
                return True
            return bursty(history, number, late, burst, window, most)

        duration, late = close(times, mu, accepts, wait_out)
        rounds.append((duration, late))
        for worker in set(range(workers)) - late:
            job = old if worker in repeating else number
            if job < jobs:
                results[job].add(worker)
        if repeating or len(late) > spare:
            history[number] = late
    return rounds, [job for job in range(jobs) if len(results[job]) < workers - spare]


class MultiplexedJob:
    """One job of M-SGC: the private chunks that each worker has delivered, and who delivered each coded group."""

    def __init__(self, workers, burst, window):
        self.burst, self.private = burst, window - 1
        self.done = [set() for _ in range(workers)]
        self.groups = [set() for _ in range(burst)]

    def play(self, slot, late):
        """Play slot `slot` of the job; `late` workers return nothing."""
        for worker in set(range(len(self.done))) - late:
            if slot < self.private:
                self.done[worker].add(slot)
                continue
            owing = [chunk for chunk in range(self.private) if chunk not in self.done[worker]]
            if owing:
                self.done[worker].add(owing[0])
            else:
                self.groups[slot - self.private].add(worker)

    def complete(self, most):
        """Return whether the gradient can be decoded now."""
        workers = len(self.done)
        coded = most == workers or all(len(group) >= workers - most for group in self.groups)
        return coded and all(len(chunks) == self.private for chunks in self.done)


def m_sgc(delays, move, burst, window, most, mu, jobs, wait_out, accept):
    """Return ([(duration, late)], undecoded jobs)."""
    workers, slots = len(delays[0]), window - 1 + burst
    history, open_jobs, rounds, wrong = {}, {}, [], []
    for number in range(jobs + slots - 1):
        if number < jobs:
            open_jobs[number] = MultiplexedJob(workers, burst, window)
        times = [move(one) for one in delays[number % len(delays)]]

        def accepts(late, number=number):
            if accept == "model":
                return bursty(history, number, late, burst, window, most)
            for job, state in open_jobs.items():  # does it end well if nobody is late after this round?
                tried = copy.deepcopy(state)
                for slot in range(number - job, slots):
                    tried.play(slot, late if slot == number - job else set())
                if not tried.complete(most):
                    return False
            return True

        duration, late = close(times, mu, accepts, wait_out)
        rounds.append((duration, late))
        history[number] = late
        for job, state in open_jobs.items():
            state.play(number - job, late)
        done = open_jobs.pop(number - slots + 1, None)
        if done is not None and not done.complete(most):
            wrong.append(number - slots + 1)
    return rounds, wrong
