"""What if the all-to-all were compressed (LSH-MoE): similar tokens share one centroid, only centroids travel.

The time of the all-to-all shrinks by the share of tokens that become centroids; hashing costs a little on each GPU.
Whether tokens are that alike no expert counts can say: the share is asked for, and the share from which it pays told.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError
from .times import Hardware, Shape
from .traffic import BF16_BYTES

SOURCE = "LSH-MoE, NeurIPS 2024, arXiv 2411.08446: all-to-all is 45 % of training on average, 1.28x to 2.2x faster"
ASSUMES = (
    "cross-polytope hashing of each token, once a layer, by fast rotations bound by memory; backward takes the "
    "same buckets; residuals stay at home; balance and expert compute are not changed; accuracy is not judged"
)
HASHES = 6


@dataclass(frozen=True)
class Compressed:
    """Seconds of a step, now and compressed, those of hashing, and the share of centroids at which it gains nothing."""

    now_s: float
    compressed_s: float
    hashing_s: float
    break_even_share: float

    @property
    def speed_up(self) -> float:
        """Return how much faster the step is."""
        return self.now_s / self.compressed_s


def compressed(step_s: float, transfer_share: float, centroid_share: float, tokens: float, model: Shape,
               board: Hardware) -> Compressed:  # fmt: skip
    """Return the what-if of a step of `step_s`, of which `transfer_share` is all-to-all, for a rank's `tokens`.

    `centroid_share` is what is left of the tokens to send. Raises UsageError for shares outside 0 to 1.

    >>> from .times import HARDWARE, SHAPES
    >>> made = compressed(1.0, 0.45, 0.2, 4096, SHAPES["mixtral-8x7b"], HARDWARE["a100"])
    >>> round(made.speed_up, 2), round(made.break_even_share, 2)
    (1.55, 0.99)
    """
    if not (step_s > 0 and 0 <= transfer_share <= 1 and 0 < centroid_share <= 1 and tokens >= 0):
        raise UsageError(f"a step of {step_s} s, shares of {transfer_share} and {centroid_share} and {tokens} tokens "
                         "cannot be")  # fmt: skip
    # Each hash reads and writes the hidden vector once.
    hashing = model.layers * tokens * HASHES * 2.0 * model.hidden * BF16_BYTES / board.memory_bytes_per_s
    transfer = step_s * transfer_share
    even = 1.0 - hashing / transfer if transfer > 0 else 0.0
    return Compressed(step_s, step_s - transfer * (1.0 - centroid_share) + hashing, hashing, max(0.0, even))
