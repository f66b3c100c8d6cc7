"""The heart: aligns clocks, splits time into work and waiting, replays what-ifs, prices causes."""

from ._attribute import DERIVED, attribute

__all__ = ["DERIVED", "attribute"]
