"""One job: `skewscope run --spool DIR -- python _job.py ORDER.json`. Torch is imported once; the ranks are forked.

The parent is the machine: it makes the namespaces, puts ranks on their cores, and does to one of them what the order
says. Exit code 0: every rank ended as it should.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(1, str(HERE.parent / "jobs"))

import _means  # noqa: E402
import _tasks  # noqa: E402
import net  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from _kinds import Order, cores  # noqa: E402

import skewscope.hook as hook  # noqa: E402
from skewscope.processes import end_with_parent  # noqa: E402

LIMIT_S = 90.0
STANDING_S = 7.0  # a rank has left: how long the others wait before the job is ended
QUOTA = 0.1
DISK_BYTES_PER_S = 2 << 20  # of 256 KiB a step
LINK_MBIT = 80.0


def rank(order: Order, number: int, namespace: str) -> None:
    """Be one rank."""
    if namespace:
        _means.enter(namespace)
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(order.what.world),
                   "GLOO_SOCKET_IFNAME": "eth0" if namespace else "lo"}  # fmt: skip
    hook.install()
    store = f"file://{order.folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=number, world_size=order.what.world)
    (Path(order.folder) / f"ready{number}").touch()
    dist.barrier()
    _tasks.train(order, number)
    dist.barrier()
    dist.destroy_process_group()


@contextmanager
def forked(order: Order, namespaces: list[str]) -> Iterator[list[int]]:
    """Start the ranks and yield their process numbers; whoever is left is ended."""
    children: list[int] = []
    try:
        for number in range(order.what.world):
            child = os.fork()
            if child == 0:
                _be(order, number, namespaces[number] if namespaces else "")
            children.append(child)
        yield children
    finally:
        for child in children:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, 9)
                os.waitpid(child, 0)


def _be(order: Order, number: int, namespace: str) -> None:
    code = 1
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent()
    try:
        if order.kind == "cpu-hog":  # the suffering rank has a core of its own, until others come
            mine = {cores()[-1]} if number == order.culprit else set(cores()[:-1])
            os.sched_setaffinity(0, mine)
        rank(order, number, namespace)
        code = 0
    except BaseException:
        (Path(order.folder) / f"error{number}.txt").write_text(traceback.format_exc())
    finally:
        hook.install().close()
        os._exit(code)


@contextmanager
def suffering(order: Order, pid: int) -> Iterator[None]:
    """Do to the culprit what its kind of fault says, as far as it comes from outside."""
    with ExitStack() as stack:
        if order.faulty and order.kind == "cpu-quota":
            stack.enter_context(_means.quota(pid, QUOTA))
        if order.faulty and order.kind == "cpu-hog":
            stack.enter_context(_means.hogs(cores()[-1], 4))
        if order.faulty and order.kind == "stopped":
            stack.enter_context(_means.stops(pid, 0.1, 0.08))
        if order.faulty and order.kind == "slow-disk":
            stack.enter_context(_means.slow_disk(pid, Path(order.folder), DISK_BYTES_PER_S))
        yield


def waited(children: list[int], limit_s: float) -> dict[int, int]:
    """Return the exit codes of the ranks that ended within the time."""
    codes: dict[int, int] = {}
    end = time.monotonic() + limit_s
    while len(codes) < len(children) and time.monotonic() < end:
        for number, child in enumerate(children):
            if number not in codes:
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    codes[number] = os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return codes


def there(order: Order, pattern: str, count: int) -> None:
    """Wait until so many files of a name are there."""
    end = time.monotonic() + LIMIT_S
    while len(list(Path(order.folder).glob(pattern))) < count and time.monotonic() < end:
        time.sleep(0.02)


def left(order: Order, children: list[int], names: list[str]) -> bool:
    """Let one rank leave and the others stand for a while; return whether nobody else ended meanwhile.

    With namespaces its host is lost: first the link, so that no connection is closed, then the process.
    """
    there(order, "leaving", 1)
    if names:
        net.cut(names[order.culprit])
        os.kill(children[order.culprit], 9)
    return set(waited(children, STANDING_S)) <= {order.culprit}


def urgent() -> None:
    """Go before whatever else runs here, which would slow all ranks: machines of their own would not be."""
    with suppress(OSError):
        os.setsid()
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        Path("/proc/self/autogroup").write_text("-20")


def main() -> int:
    """Run the job."""
    order = Order.read(Path(sys.argv[1]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    torch.set_num_threads(1)
    urgent()
    with ExitStack() as stack:
        names: list[str] = []
        if order.kind == "slow-link" or order.loses_host:
            thin = order.culprit if order.faulty and order.kind == "slow-link" else -1
            names = stack.enter_context(net.namespaces(order.what.world, thin, LINK_MBIT))
        children = stack.enter_context(forked(order, names))
        there(order, "ready*", order.what.world)
        stack.enter_context(suffering(order, children[order.culprit]))
        if order.faulty and order.kind == "leaves":
            return 0 if left(order, children, names) else 1
        codes = waited(children, LIMIT_S)
    return 0 if set(codes) == set(range(order.what.world)) and not any(codes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
