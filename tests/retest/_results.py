"""Results of re-tests as nodes would write them, with known true speeds."""

import math
import random

from skewscope.retest.document import Measure, Result


def healthy(name="n1", seed=0, *, speed=1.0, exact=False, devices=1, rounds=15, **more):
    """Return a result whose devices reach `speed`, with the noise of rounds and runs, and, not `exact`, of nodes."""
    draw = random.Random(f"{name}{seed}")
    own = speed if exact else speed * math.exp(draw.gauss(0, 0.01))
    measures = tuple(measure(own * math.exp(draw.gauss(0, 0.01)), f"gpu{at}", draw, rounds) for at in range(devices))
    return Result(name, 100, "H100 x8", "torch 2.13", measures, **more)


def measure(speed, device="gpu0", draw=None, rounds=15, noise=0.02):
    draw = draw or random.Random(0)
    values = tuple(7e14 * speed * math.exp(draw.gauss(0, noise)) for _ in range(rounds))
    return Measure("gemm", "flops", device, "bfloat16 8192", values)


def peers(count=6, seed=0, **more):
    return [healthy(f"peer{at}", seed, **more) for at in range(count)]
