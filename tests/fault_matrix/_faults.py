"""What goes wrong: slow clients, servers that fail their clients, full disks, clocks that jump, damaged files."""

from __future__ import annotations

import contextlib
import os
import random
import selectors
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

CLOCK = """
import pathlib, sys, time
path, real_ns, real, known = pathlib.Path(sys.argv.pop(1)), time.time_ns, time.time, [0.0, 0.0]
def ahead():
    if time.monotonic() > known[0]:
        known[:] = time.monotonic() + 0.2, float(path.read_text() or 0)
    return known[1]
time.time_ns, time.time = lambda: real_ns() + int(ahead() * 1e9), lambda: real() + ahead()
from skewscope.commands import main
sys.exit(main())
"""  # the command line with a clock that is ahead by the seconds in a file
HEAD = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: "
LINGER_NOT = struct.pack("ii", 1, 0)  # closing is a reset then


class Loris:
    """Connections that send a byte a second of a request that never ends; who is cut off comes again within it."""

    def __init__(self, address: tuple[str, int], count: int = 300) -> None:
        self._address, self._count, self.begun = address, count, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        while self.begun < self._count and not self._over.wait(0.01):
            pass
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with selectors.DefaultSelector() as open_ones:
            try:
                for _ in range(self._count):
                    self._begin(open_ones)
                due_s = time.monotonic() + 1.0
                while not self._over.is_set():
                    for key, _ in open_ones.select(max(0.0, min(0.1, due_s - time.monotonic()))):
                        self._heard(open_ones, key.fileobj)
                    if time.monotonic() >= due_s:
                        due_s += 1.0
                        self._drip(open_ones)
            finally:
                for key in list(open_ones.get_map().values()):
                    key.fileobj.close()

    def _begin(self, open_ones: selectors.BaseSelector) -> None:
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(self._address)
        open_ones.register(one, selectors.EVENT_READ)
        with contextlib.suppress(OSError):
            one.send(HEAD)
        self.begun += 1

    def _heard(self, open_ones: selectors.BaseSelector, one: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            with contextlib.suppress(ConnectionError):
                if one.recv(4096):
                    return
            open_ones.unregister(one)
            one.close()

    def _drip(self, open_ones: selectors.BaseSelector) -> None:
        for _ in range(self._count - len(open_ones.get_map())):
            self._begin(open_ones)
        for key in list(open_ones.get_map().values()):
            with contextlib.suppress(OSError):
                key.fileobj.send(b"x")


class Failing:
    """A server that does `how(connection)` with each of its clients, at `address`."""

    def __init__(self, how: Callable[[socket.socket], None]) -> None:
        self._how, self._listener, self._held = how, socket.create_server(("127.0.0.1", 0)), []
        self.address = self._listener.getsockname()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = self._listener.accept()
                self._held.append(one)
                with contextlib.suppress(OSError):
                    self._how(one)

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._held:
            one.close()


def silent(one: socket.socket) -> None:
    """Take a client and never say anything."""


def resets(page: bytes) -> Callable[[socket.socket], None]:
    """Return what breaks the connection off in the middle of a page."""

    def half(one: socket.socket) -> None:
        one.settimeout(5.0)
        one.recv(4096)
        one.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(page) + page[: len(page) // 2])  # fmt: skip
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        one.close()

    return half


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "32m") -> Iterator[bool]:
    """Yield whether a folder became a small disk of its own, which only root can have."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "skewscope-test", folder]
    small = subprocess.run(words, capture_output=True, check=False).returncode == 0
    try:
        yield small
    finally:
        if small:
            subprocess.run(["umount", "-l", folder], check=False)


def fill(folder: Path) -> Path:
    """Return a file that takes all the room there is."""
    path = folder / "ballast"
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    return path


def flip_bits(path: Path, count: int, seed: int = 1) -> None:
    """Turn single bits of a file round."""
    content, chance = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(count):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def cut(path: Path, share: float = 0.5) -> None:
    """Keep the first part of a file only."""
    os.truncate(path, int(path.stat().st_size * share))
