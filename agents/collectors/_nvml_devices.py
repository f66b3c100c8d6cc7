"""The way to the GPUs of a node: starts NVML, starts it again when the driver went away, and asks."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable
from typing import Any

from skewscope.contracts import Place
from skewscope.errors import NoData, Unreadable

from . import _nvml_calls as codes
from ._nvml_calls import Calls, code_of
from ._nvml_inventory import LOST_STATE, RESET_STATE, Device, Inventory

BOARD_KEY = "_nvml"
LOOK_S = 0.9  # how often the number of GPUs is asked
ASK_AGAIN_S = 600.0  # after a call was not supported: MIG and driver settings can change
FIND_AGAIN_S = 30.0  # a GPU that the driver does not hand out
LONGEST_WAIT_S = 30.0  # between two attempts to start NVML


class Devices:
    """Starts NVML, keeps the inventory, and asks; one for each place."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._clock_s = place.clock_s
        self.calls = Calls(place.nvml, place.board.get("calling") or _unheard)
        self._inventory = Inventory(self.calls, place.board)
        self.count: int | None = None  # as the driver says, None before it did
        self.starts = 0  # how often NVML was started; what hangs on a start is gone with it
        self._started = self._gone = False
        self._wait_s = self._next_start_s = 0.0
        self._looked_s = self._inventory_s = -1e9
        self._reason: Callable[[], Exception] | None = None
        self._without: frozenset[int] = frozenset()
        self._word = (ctypes.c_uint64 * 1)()

    @property
    def known(self) -> list[Device]:
        """All GPUs that were ever seen, by slot."""
        return self._inventory.known

    def ready(self) -> list[Device]:
        """Return the GPUs that can be asked. Raises NoData without a driver, Unreadable where it should work."""
        return [device for device in self.listed() if device.handle is not None and device.state != LOST_STATE]

    def listed(self) -> list[Device]:
        """Return all GPUs that were ever seen, lost ones too, without those that are left out since they hang."""
        self._start()
        now_s = self._clock_s()
        without = self._place.board.get("without") or frozenset()
        if now_s - self._looked_s >= LOOK_S or without != self._without:
            self._looked_s = now_s
            self._look(now_s, frozenset(without))
        if not self.known and not without:
            raise NoData("the driver lists no GPU")
        return [device for device in self.known if device.slot not in without]

    def ask(self, device: Device, call: str, *arguments: Any) -> Any:  # noqa: ANN401 - whatever NVML gives
        """Return the driver's answer about one GPU, None where there is none."""
        if device.state == LOST_STATE or (device.absent and self._in_vain(device, (call, *arguments))):
            return None
        try:
            return self.calls.run(device.slot, call, device.handle, *arguments)
        except self.calls.error as error:
            self.failed(device, (call, *arguments), code_of(error))
        return None

    def ask_into(self, device: Device, call: str, chosen: tuple[int, ...], *buffers: Any) -> bool:  # noqa: ANN401
        """Let the driver fill buffers, or return False; `chosen` are the numbers that come between handle and buffers.

        A call that the wrapper offers only with structures of the caller goes this way too.
        """
        if device.state == LOST_STATE or (device.absent and self._in_vain(device, (call, *chosen))):
            return False
        calls = self.calls
        try:
            if call in codes.RAW:
                code = calls.code(device.slot, call, device.handle, *chosen, *buffers)
            else:
                code = int(calls.run(device.slot, call, device.handle, *chosen, *buffers))
        except calls.error as error:
            code = code_of(error)
        if code:
            self.failed(device, (call, *chosen), code)
        return not code

    def number(self, device: Device, call: str, *chosen: int) -> int | None:
        """Return the one number that a raw call gives, None where it gives none."""
        self._word[0] = 0
        return int(self._word[0]) if self.ask_into(device, call, chosen, self._word) else None

    def _in_vain(self, device: Device, call: tuple[Any, ...]) -> bool:
        """Return whether the GPU said lately that it does not have this."""
        again_s = device.absent.get(call)
        return again_s is not None and self._clock_s() < again_s

    def failed(self, device: Device, call: tuple[Any, ...], code: int) -> None:
        """Draw the conclusions from a call that failed."""
        if code in codes.ABSENT or code == codes.NO_PERMISSION:
            device.absent[call] = self._clock_s() + ASK_AGAIN_S
        elif code in codes.LOST:
            device.state = LOST_STATE
        elif code == codes.RESET_REQUIRED:
            device.state = RESET_STATE
        elif code in codes.GONE:
            self._gone = True

    def now_s(self) -> float:
        """Return the monotonic time."""
        return self._clock_s()

    def all_lost(self) -> None:
        """Start NVML anew: when every GPU is lost, it is rather the driver that was loaded again."""
        self._gone = True

    def _start(self) -> None:
        if self._gone and self._clock_s() >= self._next_start_s:
            self._stop()
        if self._started:
            return
        if self._reason is not None and self._clock_s() < self._next_start_s:
            raise self._reason()
        self._wait_s = min(self._wait_s * 2 or 1.0, LONGEST_WAIT_S)
        self._next_start_s = self._clock_s() + self._wait_s
        gc.collect(0)  # the class that ctypes made at the last attempt, else there until Python has reason to look
        try:
            self.calls.run(-1, "Init")
        except self.calls.error as error:
            self._reason = self._why(error)
            raise self._reason() from error
        self._started, self._reason, self._looked_s = True, None, -1e9
        self.starts += 1

    def _stop(self) -> None:
        """Let go of everything that came from this start of NVML."""
        self._started = self._gone = False
        for device in self.known:
            device.renew(None)
        self.count = None
        try:
            self.calls.run(-1, "Shutdown")
        except self.calls.error:
            pass  # it was not there any more

    def _why(self, error: Exception) -> Callable[[], Exception]:
        """Return what makes the error to raise; one that is raised again and again would grow by its tracebacks."""
        code, text = code_of(error), str(error)
        if code == codes.VERSION_MISMATCH:
            # A process keeps the library that it loaded first: only a new one gets the new library.
            self._place.board["nvml-restart"] = "the driver was updated"
            return lambda: Unreadable("NVML and the driver differ in version", "the agent's NVML process must restart")
        if code == codes.LIBRARY_NOT_FOUND and not _pci_gpus(f"{self._place.sys}/bus/pci/devices"):
            return lambda: NoData("no NVML library and no NVIDIA GPU on this node")
        return lambda: Unreadable(f"NVML does not start: {text}", "load the NVIDIA driver; it is tried again")

    def _look(self, now_s: float, without: frozenset[int]) -> None:
        try:
            count = int(self.calls.run(-1, "DeviceGetCount"))
        except self.calls.error as error:
            self._gone = self._gone or code_of(error) in codes.GONE
            if not self.known:
                raise Unreadable(f"the number of GPUs cannot be read: {error}", "it is tried again") from error
            return
        missing = any(device.handle is None and device.slot not in without for device in self.known)
        changed = count != self.count or without != self._without
        if changed or (missing and now_s - self._inventory_s >= FIND_AGAIN_S):
            self.count, self._without, self._inventory_s = count, without, now_s
            self._inventory.take(count, without)
        if all(device.state != LOST_STATE for device in self.known):
            self._wait_s = 0.0


def devices(place: Place) -> Devices:
    """Return the place's devices, the same ones for all collectors."""
    found = place.board.get(BOARD_KEY)
    if found is None:
        if place.nvml is None:
            raise NoData("no NVML here")
        found = place.board[BOARD_KEY] = Devices(place)
    return found


def _unheard(slot: int, call: str) -> None:
    """Stand in where nobody wants to know which call is running."""


def _pci_gpus(folder: str) -> int:
    """Return how many display and compute devices of NVIDIA the PCI bus has."""
    found = 0
    try:
        names = os.listdir(folder)
    except OSError:
        return 0
    for name in names:
        found += _reads(f"{folder}/{name}/vendor", "0x10de") and _reads(f"{folder}/{name}/class", "0x03")
    return found


def _reads(path: str, start: str) -> bool:
    try:
        with open(path, encoding="ascii") as file:
            return file.read(16).startswith(start)
    except OSError:
        return False
