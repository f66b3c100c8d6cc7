"""Maps for engines: which formats there are, and the file of a placement with how an engine is given it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..catalogue import rooms
from ..errors import UsageError

if TYPE_CHECKING:
    from ..moe.placement import Placement

EXPORTS = "exports-"


def exporters() -> dict[str, str]:
    """Return the modules that write engines' maps, by format.

    >>> sorted(exporters())
    ['eplb', 'sglang', 'tensorrt-llm', 'vllm', 'vllm-ascend']
    """
    return {room.id.removeprefix(EXPORTS): room.module for room in rooms("moe") if room.id.startswith(EXPORTS)}


def export(text: str) -> tuple[str, str]:
    """Return (format, path) of `FORMAT:FILE`; raises UsageError with the formats.

    >>> export("sglang:map.json")
    ('sglang', 'map.json')
    """
    name, _, path = text.partition(":")
    if name not in exporters() or not path:
        raise UsageError(f"--export {text}: wants FORMAT:FILE with one of {', '.join(sorted(exporters()))}")
    return name, path


def written(name: str, placement: Placement, layers: Sequence[int]) -> tuple[bytes, str]:
    """Return the file of a placement in a format, and how the engine is given it; raises UsageError."""
    module: Any = import_module(exporters()[name])
    return module.export(placement, layers), " ".join((module.__doc__ or "").split())
