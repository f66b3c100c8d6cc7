"""Keeps the windows of a fleet on disk, by time, without a server.

A store is a folder. Each window that is appended becomes a file of its own, whole and on disk before `append` returns;
`compact` joins those of a quarter of an hour into one segment. All are Parquet with their own columns (see `segment`),
which hold one series after the other, so that neighbours are alike and pack well. `numbers` says what is rounded.

    store = Store(Path("metrics"))
    store.append(windows, events)
    tables = store.read(*store.span(), metrics={"skewscope_gpu_power_watts"})
"""

from .failures import Damage, StoreError, StoreFull, StoreTaken
from .reader import Reader
from .writer import Store

__all__ = ["Damage", "Reader", "Store", "StoreError", "StoreFull", "StoreTaken"]
