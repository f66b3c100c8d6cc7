"""Makes seeds small: `python tests/fuzz/_smaller.py [PARSER...]` writes `small/` from the files of `seeds/`.

What is left of a file still reaches every line, and from the same line, as before; one that stays large and reaches
nothing that others do not is left out.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import _corpus
from _mutate import unpacked
from _parsers import Parser, base, parsers
from _run import Lines, attempt, guarded

LARGEST_BYTES = 1 << 24  # of what a packed file holds
TRIES = 500  # of one file
CUT_BYTES = 9  # off a stream that was cut short
SMALL_BYTES = 300  # what is as small as this stays as it is
DROPPED_BYTES = 900  # what is larger and adds no lines goes
LONG_BYTES = 2000  # what is still larger is cut within its lines
FINEST = 8  # words that are cut at a time, at least
BLOCK_BYTES = 64  # of a ring each record
RECORD = 24  # members of an object that are kept together
MOST_LINES = 12  # more are not looked into
TOKEN = re.compile(rb"[^\s,;:=|(){}\[\]<>]+|.", re.DOTALL)

Same = Callable[[bytes], bool]


def main() -> None:
    """Make the seeds of the parsers that are named small, of all by default."""
    base()
    for name in sys.argv[1:] or [place.name for place in sorted(_corpus.SEEDS.iterdir()) if place.is_dir()]:
        before, after = cut(parsers()[name], _corpus.SEEDS / name, _corpus.SMALL / name)
        print(f"{name:24} {before:7} -> {after:7} bytes", flush=True)


def cut(parser: Parser, folder: Path, small: Path) -> tuple[int, int]:
    """Write the files of a folder to `small`, made smaller; return the bytes before and after."""
    small.mkdir(parents=True, exist_ok=True)
    for path in small.glob("*--*"):
        path.unlink()
    before = after = 0
    known = set[tuple[str, int, int]]()
    with guarded():
        for path in sorted(folder.glob("*--*"), key=lambda path: (path.stat().st_size, path.name)):
            name, data = path.name.split("--", 1)[1], path.read_bytes()
            before += len(data)
            ways = _ways(parser, name, data)
            smaller = _cut(parser, name, data, ways)
            if len(smaller) <= DROPPED_BYTES or not ways <= known:
                known |= ways
                after += len(smaller)
                (small / path.name).write_bytes(smaller)
    return before, after


def _ways(parser: Parser, name: str, data: bytes) -> set[tuple[str, int, int]]:
    lines = Lines()
    fault, _ = attempt(parser.run, name, data, lines)
    return set() if fault else lines.seen


def _cut(parser: Parser, name: str, data: bytes, wanted: set[tuple[str, int, int]]) -> bytes:
    wanted &= _ways(parser, name, data)  # what a first call does for all later ones does not count
    pack = _packing(data)
    tries = iter(range(TRIES))

    def same(text: bytes) -> bool:
        return next(tries, None) is not None and wanted <= _ways(parser, name, pack(text))

    text = unpacked(data, LARGEST_BYTES)
    if len(data) > SMALL_BYTES and same(text):
        for step in (_of_lines, _of_tree, _of_words, _of_blocks):
            text = step(text, same)
        return min(pack(text), data, key=len)
    return data


def _packing(data: bytes) -> Callable[[bytes], bytes]:
    """Return what packs a text as `data` is packed: not at all, by gzip, or by gzip and cut short."""
    if data[:2] != b"\x1f\x8b":
        return lambda text: text
    inflate = zlib.decompressobj(31)
    with suppress(zlib.error):
        inflate.decompress(data)
    return lambda text: gzip.compress(text, 9, mtime=0)[: None if inflate.eof else -CUT_BYTES]


def _of_tree(text: bytes, same: Same) -> bytes:
    """Take items out of JSON, or out of each of its lines; a record keeps all its members."""
    lines = text.splitlines(keepends=True)
    whole = _tree(text)
    if whole is not None:
        return _pruned(b"", whole, b"", same) or text
    for number, line in enumerate(lines if len(lines) <= MOST_LINES else ()):
        tree = _tree(line)
        made = tree and _pruned(b"".join(lines[:number]), tree, b"\n" + b"".join(lines[number + 1 :]), same)
        lines[number] = made + b"\n" if made else line
    return b"".join(lines)


def _tree(text: bytes) -> Any:
    try:
        tree = json.loads(text)
    except ValueError:
        return None
    return tree if isinstance(tree, dict | list) and tree else None


def _pruned(before: bytes, tree: Any, after: bytes, same: Same) -> bytes:
    best = b""
    for holder in list(_holders(tree)):
        size = max(1, len(holder) // 2)
        while size:
            at = 0
            while at < len(holder):
                taken = _take(holder, at, size)
                made = json.dumps(tree, separators=(",", ":")).encode()
                if same(before + made + after):
                    best = made
                else:
                    _put_back(holder, at, taken)
                    at += size
            size //= 2
    return best


def _holders(tree: Any) -> Iterator[Any]:
    if isinstance(tree, list) or (isinstance(tree, dict) and len(tree) > RECORD):
        yield tree
    if isinstance(tree, dict | list):
        for one in list(tree.values() if isinstance(tree, dict) else tree):
            yield from _holders(one)


def _take(holder: Any, at: int, size: int) -> list[Any]:
    if isinstance(holder, list):
        taken = holder[at : at + size]
        del holder[at : at + size]
        return taken
    before = list(holder.items())
    for key, _ in before[at : at + size]:
        del holder[key]
    return before


def _put_back(holder: Any, at: int, taken: list[Any]) -> None:
    if isinstance(holder, list):
        holder[at:at] = taken
    else:
        holder.clear()
        holder.update(taken)


def _of_lines(text: bytes, same: Same) -> bytes:
    return _of_parts(text.splitlines(keepends=True), same, 1)


def _of_words(text: bytes, same: Same) -> bytes:
    return _of_parts(TOKEN.findall(text), same, FINEST) if len(text) > LONG_BYTES else text


def _of_blocks(text: bytes, same: Same) -> bytes:
    """Take records out of what is no text."""
    if len(text) <= LONG_BYTES:
        return text
    return _of_parts([text[at : at + BLOCK_BYTES] for at in range(0, len(text), BLOCK_BYTES)], same, 1)


def _of_parts(parts: list[bytes], same: Same, finest: int) -> bytes:
    size = len(parts) // 2
    while size >= finest and sum(map(len, parts)) > SMALL_BYTES:
        at = 0
        while at < len(parts):
            made = parts[:at] + parts[at + size :]
            if same(b"".join(made)):
                parts = made
            else:
                at += size
        size //= 2
    return b"".join(parts)


if __name__ == "__main__":
    main()
