"""The colour scales of the dashboard's maps: told apart with any colour vision, on light and on dark ground.

The middle or the low end is see-through, so that the ground of the reader's theme shows; the far end is orange to red.
"""

from __future__ import annotations

from ._chart import ORANGE, RED

Scale = list[tuple[float, str]]

CLEAR, COLD, COOL, UNSEEN = "rgba(230,159,0,0.06)", "#0072B2", "rgba(0,114,178,0.06)", "rgba(138,143,152,0.45)"
RISING: Scale = [(0.0, CLEAR), (0.25, "rgba(230,159,0,0.55)"), (0.6, ORANGE), (1.0, RED)]
DIVERGING: Scale = [
    (0.0, COLD),
    (0.499, COOL),
    (0.501, CLEAR),
    (0.65, "rgba(230,159,0,0.6)"),
    (0.85, ORANGE),
    (1.0, RED),
]


def scale(diverging: bool) -> Scale:
    """Return the scale for values around 0, or from 0 up."""
    return DIVERGING if diverging else RISING


def with_unseen(colours: Scale, levels: int, *, low: bool) -> Scale:
    """Return a scale of `levels` colours whose lowest (else highest) level is grey and stands for "not recorded".

    >>> with_unseen([(0.0, "a"), (1.0, "b")], 4, low=False)
    [(0.0, 'a'), (0.75, 'b'), (0.75, 'rgba(138,143,152,0.45)'), (1.0, 'rgba(138,143,152,0.45)')]
    """
    part = 1 / levels
    if low:
        return [(0.0, UNSEEN), (part, UNSEEN), *((part + (1 - part) * at, colour) for at, colour in colours)]
    return [*(((1 - part) * at, colour) for at, colour in colours), (1 - part, UNSEEN), (1.0, UNSEEN)]
