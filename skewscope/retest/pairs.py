"""Who talks to whom when: every rank meets every other once, all pairs of a turn at the same time."""

from __future__ import annotations


def turns(count: int) -> list[list[int]]:
    """Return the partner of each rank in each turn [turns][count], -1 for a rank that rests (the circle method).

    Who is slow with every partner is slow itself; who is slow with one has met a slow one.

    >>> turns(4)
    [[3, 2, 1, 0], [2, 3, 0, 1], [1, 0, 3, 2]]
    >>> turns(3)
    [[-1, 2, 1], [2, -1, 0], [1, 0, -1]]
    """
    even = count + count % 2
    ring = list(range(even))
    found = []
    for _ in range(even - 1):
        partner = [-1] * even
        for one, other in zip(ring[: even // 2], reversed(ring[even // 2 :]), strict=True):
            partner[one], partner[other] = other, one
        found.append([partner[one] if partner[one] < count else -1 for one in range(count)])
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return found


def first_host(listed: str) -> str:
    """Return the first host of a list as Slurm writes it.

    >>> first_host("gpu[07-09,12],login"), first_host("n1,n2")
    ('gpu07', 'n1')
    """
    name, bracket, rest = listed.partition("[")
    if "," in name or not bracket:
        return listed.split(",")[0]
    inside, _, after = rest.partition("]")
    first = inside.split(",")[0].split("-")[0]
    return name + first + after.split(",")[0]
