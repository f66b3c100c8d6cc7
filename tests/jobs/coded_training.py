"""Trains a small model under gradient coding: real processes, real messages, and workers that come late.

One coordinator and N workers over torch.distributed (gloo), point to point. Every worker computes the gradients of its
chunks, combines them by its row of the code and sends one vector; the coordinator takes a step as soon as what has
arrived decodes, and never waits for the late ones. Results that come after their step are thrown away.

    python tests/jobs/coded_training.py --workers 6 --losses 2 --codes uneven-fractional --steps 8 --out result.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn

from skewscope.coding import decode, matrices, safety
from skewscope.errors import UsageError

FEATURES, HIDDEN, SAMPLES = 12, 24, 16  # of the model; samples per chunk
RATE = 0.05
LATE_S = 0.3


def model(seed: int) -> nn.Module:
    """Return the model as it is before training."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))


def chunk(seed: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs and targets of one chunk of the batch."""
    draw = torch.Generator().manual_seed(1000 * seed + number)
    inputs = torch.randn(SAMPLES, FEATURES, generator=draw)
    return inputs, torch.sin(inputs.sum(dim=1, keepdim=True))


def flat(net: nn.Module) -> torch.Tensor:
    """Return all parameters as one vector."""
    return nn.utils.parameters_to_vector(net.parameters()).detach()


def gradient(net: nn.Module, seed: int, number: int) -> tuple[torch.Tensor, float]:
    """Return the gradient of a chunk's summed loss as one fp64 vector, and the loss."""
    inputs, targets = chunk(seed, number)
    loss = ((net(inputs) - targets) ** 2).sum()
    parts = torch.autograd.grad(loss, list(net.parameters()))
    return torch.cat([part.reshape(-1) for part in parts]).double(), float(loss)


def work(worker: int, args: argparse.Namespace, code: matrices.Code) -> None:
    """Answer every step: parameters come in, one coded gradient goes out, sometimes late."""
    net = model(args.seed)
    size = len(flat(net))
    held = np.flatnonzero(code.matrix[worker])
    for step in range(args.steps):
        parameters = torch.empty(size)
        dist.recv(parameters, src=0)
        nn.utils.vector_to_parameters(parameters, net.parameters())
        coded = torch.zeros(size, dtype=torch.float64)
        for number in held:  # encoded in fp64, sent as fp32
            coded += float(code.matrix[worker, number]) * gradient(net, args.seed, int(number))[0]
        if worker in late(args, step):
            time.sleep(LATE_S)
        dist.send(torch.cat([torch.tensor([float(step)]), coded.float()]), dst=0)


def late(args: argparse.Namespace, step: int) -> set[int]:
    """Return the workers that are slowed in a step."""
    draw = np.random.default_rng([args.seed, step])
    return set(draw.choice(args.workers, args.losses, replace=False).tolist())


def coordinate(args: argparse.Namespace, code: matrices.Code) -> dict:
    """Train; return per step who was missing, the error against the full gradient, the loss and the seconds."""
    net, decoder = model(args.seed), decode.Decoder(code)
    size, chunks, taken, sends = len(flat(net)), code.matrix.shape[1], 0, []
    steps = []
    for step in range(args.steps):
        start = time.perf_counter()
        parameters = flat(net).clone()
        sends += [dist.isend(parameters, dst=worker + 1) for worker in range(args.workers)]
        arrived: dict[int, torch.Tensor] = {}
        weights = None
        while weights is None:
            message = torch.empty(size + 1)
            worker = dist.recv(message) - 1  # whoever comes first
            taken += 1
            if int(message[0]) == step:
                arrived[worker] = message[1:].double()
                weights = decodable(decoder, arrived)
        took = time.perf_counter() - start
        decoded = sum(float(weights[worker]) * result for worker, result in arrived.items())
        whole = [gradient(net, args.seed, number) for number in range(chunks)]
        exact = sum(part for part, _ in whole)
        steps.append({
            "missing": sorted(set(range(args.workers)) - set(arrived)), "slowed": sorted(late(args, step)),
            "error_ratio": float((decoded - exact).norm() / exact.norm()), "loss": sum(loss for _, loss in whole),
            "seconds": took,
        })  # fmt: skip
        moved = flat(net).double() - RATE * decoded / (chunks * SAMPLES)
        nn.utils.vector_to_parameters(moved.float(), net.parameters())
    for _ in range(args.workers * args.steps - taken):  # what is still under way
        dist.recv(torch.empty(size + 1))
    for send in sends:
        send.wait()
    return {"steps": steps, "parameters": flat(net).tolist()}


def decodable(decoder: decode.Decoder, arrived: dict[int, torch.Tensor]) -> np.ndarray | None:
    """Return the weights of the results that arrived, None where they do not yet give the gradient."""
    missing = np.setdiff1d(np.arange(len(decoder.code.matrix)), list(arrived))
    try:
        return decoder.weights(missing)
    except UsageError:
        return None


def uncoded(args: argparse.Namespace, chunks: int) -> list[float]:
    """Return the losses of the same training in one process, without coding."""
    net, losses = model(args.seed), []
    for _ in range(args.steps):
        whole = [gradient(net, args.seed, number) for number in range(chunks)]
        losses.append(sum(loss for _, loss in whole))
        moved = flat(net).double() - RATE * sum(part for part, _ in whole) / (chunks * SAMPLES)
        nn.utils.vector_to_parameters(moved.float(), net.parameters())
    return losses


def process(rank: int, args: argparse.Namespace, codes: list[matrices.Code], folder: str) -> None:
    """Run one process, one training per code: rank 0 coordinates, the others work."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=args.workers + 1)
    results = {}
    for code in codes:
        if rank:
            work(rank - 1, args, code)
        else:
            results[code.kind] = coordinate(args, code) | {"uncoded_losses": uncoded(args, code.matrix.shape[1])}
    if not rank:
        Path(args.out).write_text(json.dumps(results))
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    """Start the job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--losses", type=int, default=2)
    parser.add_argument("--codes", choices=matrices.KINDS, nargs="+", default=matrices.KINDS[:1])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    codes = []
    for kind in args.codes:
        code, verdict = safety.safest(kind, args.workers, args.losses, "fp32")
        if not verdict.safe:
            parser.error(verdict.reason)
        codes.append(code)
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.start_processes(process, (args, codes, folder), args.workers + 1, start_method="fork")


if __name__ == "__main__":
    main()
