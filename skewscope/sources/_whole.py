"""Whole numbers of JSON that fit a column: 64 bits with a sign. Larger ones are refused as a word would be."""

from __future__ import annotations

from typing import Annotated

import msgspec

Whole = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
Rank = Annotated[int, msgspec.Meta(ge=-(1 << 31), le=(1 << 31) - 1)]
