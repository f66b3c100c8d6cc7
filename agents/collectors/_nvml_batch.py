"""Many field values of one GPU by one call of the driver."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from ._nvml_calls import ABSENT, INVALID_ARGUMENT, LOST, NO_PERMISSION
from ._nvml_devices import ASK_AGAIN_S, Devices
from ._nvml_inventory import LOST_STATE, Device

ALL_LINKS = 0xFFFFFFFF
Field = tuple[int, int]  # field id, scope (a link, a power domain, ALL_LINKS)
Value = int | float | None

_FORMS = ("d", "I4x", "Q", "Q", "q", "i4x", "H6x")  # by NVML's value type
_WIDE = 3  # unsigned, 64 bits
_CALL = "GetFieldValues"
TRY_AGAIN_S = 30.0  # a field that failed


class Batch:
    """Reads what `fields` lists: those of the wanted ones that this GPU answers.

    The driver writes into one array that is kept; its values come out by one unpacking of it, since the type of a
    field does not change. `good` is False where the driver gave no answer at all; `stale` asks for a new batch.
    """

    def __init__(self, devices: Devices, device: Device, wanted: Iterable[Field]) -> None:
        self._devices, self._device = devices, device
        self.fields: tuple[Field, ...] = tuple(dict.fromkeys(wanted))
        self._until_s = devices.now_s() + ASK_AGAIN_S
        self._prepare((1,) * len(self.fields))
        self.good = self._probe()

    def stale(self) -> bool:
        """Return whether fields that did not answer should be tried once more."""
        return self._devices.now_s() >= self._until_s

    def read(self) -> Sequence[Value]:
        """Return one value a field, None for one that failed now; nothing where the call failed."""
        if not self.fields or not self._ask():
            return ()
        flat = self._unpack(self._array)
        if flat[0::3] != self.types or any(flat[1::3]):
            return self._one_by_one()
        return flat[2::3]

    def _ask(self) -> bool:
        return self._devices.ask_into(self._device, _CALL, (len(self.fields),), self._array)

    def _prepare(self, types: tuple[int, ...]) -> None:
        kind = self._devices.calls.nvml.c_nvmlFieldValue_t
        self._array: Any = (kind * len(self.fields))()
        for one, (number, scope) in zip(self._array, self.fields, strict=True):
            one.fieldId, one.scopeId = number, scope
        self.types = types
        self._unpack = struct.Struct("<" + "".join(f"24xII{_FORMS[one]}" for one in types)).unpack_from

    def _probe(self) -> bool:
        """Keep the fields that answer; False where the driver gave no answer at all."""
        if self.fields and not self._ask():
            absent = (_CALL, len(self.fields)) in self._device.absent
            self.fields = () if absent else self.fields
            return absent
        kept: list[Field] = []
        types: list[int] = []
        for one, found in zip(self._array, self.fields, strict=True):
            code = one.nvmlReturn
            if code == 0:
                kept.append(found)
                types.append(one.valueType if one.valueType < len(_FORMS) else _WIDE)
            else:
                self._refused(code)
        self.fields = tuple(kept)
        self._prepare(tuple(types))
        return self._device.state != LOST_STATE

    def _refused(self, code: int) -> None:
        """Leave a field out: for long where it is not supported, for a while where it only failed."""
        if code in ABSENT or code == INVALID_ARGUMENT:
            return
        self._devices.calls.note_code(_CALL, code)
        if code in LOST:
            self._devices.failed(self._device, (_CALL,), code)
        elif code != NO_PERMISSION:
            self._until_s = min(self._until_s, self._devices.now_s() + TRY_AGAIN_S)

    def _one_by_one(self) -> list[Value]:
        values: list[Value] = []
        for one in self._array:
            code, kind = one.nvmlReturn, one.valueType
            if code:
                values.append(None)
                self._refused(code)
            else:
                form = f"<{_FORMS[kind if kind < len(_FORMS) else _WIDE]}"
                values.append(struct.unpack_from(form, bytes(one.value))[0])
        return values
