"""The benchmarks of a node without GPUs: matrix product, memory copy, loopback; with torch, else with NumPy."""

from __future__ import annotations

import platform
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .document import Measure
from .rounds import Rounds, seconds, speed

SIZE = 768
COPY_BYTES = 64 * 2**20
SENT_BYTES = 32 * 2**20
PIECE = 2**20
Torch = Any


def measured(torch: Torch | None, rounds: Rounds, size: int = SIZE) -> list[Measure]:
    """Return the speeds of this machine's processors and memory, and of a connection to itself."""
    multiply, copy = (_torch_work if torch is not None else _numpy_work)(torch, size)
    return [
        speed("gemm", "flops", "cpu", f"float32 {size}", 2.0 * size**3, seconds(multiply, rounds)),
        speed("copy", "bytes", "cpu", f"{COPY_BYTES >> 20} MiB", 2.0 * COPY_BYTES, seconds(copy, rounds)),
        loopback(rounds),
    ]


def backend(torch: Torch | None) -> str:
    """Return the software that multiplies, with its version and threads; raises UsageError where there is none."""
    if torch is not None:
        return f"torch {torch.__version__} {torch.get_num_threads()} threads"
    try:
        import numpy
    except ModuleNotFoundError:
        raise UsageError("a re-test needs torch or NumPy on the node: pip install numpy") from None
    return f"numpy {numpy.__version__}"


def hardware() -> str:
    """Return the model of the processor, as Linux names it, else the architecture."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        text = ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return f"{models[0]} x{len(models)}" if models else platform.machine()


def _torch_work(torch: Torch, size: int) -> tuple[Callable[[], object], Callable[[], object]]:
    one, other, product = (torch.rand(size, size) for _ in range(3))
    source, target = (torch.zeros(COPY_BYTES, dtype=torch.uint8) for _ in range(2))
    return lambda: torch.mm(one, other, out=product), lambda: target.copy_(source)


def _numpy_work(_: object, size: int) -> tuple[Callable[[], object], Callable[[], object]]:
    import numpy as np

    draw = np.random.default_rng(0)
    one, other = (draw.random((size, size), dtype=np.float32) for _ in range(2))
    product = np.zeros((size, size), np.float32)
    source, target = np.ones(COPY_BYTES, np.uint8), np.zeros(COPY_BYTES, np.uint8)
    return lambda: np.matmul(one, other, out=product), lambda: np.copyto(target, source)


def loopback(rounds: Rounds) -> Measure:
    """Return the speed of a TCP connection of this machine to itself: kernel and memory, not the network card."""
    near, far = _connected()
    done = threading.Semaphore(0)
    drain = threading.Thread(target=_drained, args=(far, done), daemon=True)
    drain.start()
    block = memoryview(bytes(PIECE))

    def once() -> None:
        for _ in range(SENT_BYTES // PIECE):
            near.sendall(block)
        done.acquire()

    try:
        took = seconds(once, rounds)
    finally:
        near.close()
        drain.join(5.0)
        far.close()
    return speed("loopback", "bytes", "cpu", f"{SENT_BYTES >> 20} MiB", SENT_BYTES, took)


def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname(), timeout=30.0)
        far, _ = server.accept()
    return near, far


def _drained(far: socket.socket, done: threading.Semaphore) -> None:
    """Read until the other side ends, and tell of every whole message."""
    space, got = bytearray(PIECE), 0
    while count := far.recv_into(space):
        got += count
        while got >= SENT_BYTES:
            got -= SENT_BYTES
            done.release()
