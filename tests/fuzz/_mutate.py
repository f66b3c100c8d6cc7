"""Changes to seeds: of bits, bytes, numbers, words and whole parts; what is packed is changed inside and outside."""

from __future__ import annotations

import gzip
import io
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable

LARGEST_BYTES = 64_000  # of what is made
USUAL_BYTES = 2_000  # of what is repeated, mostly
MOST_WORDS = 600
WORD = re.compile(
    rb'"[^"\\\n]{1,40}"|</?[A-Za-z_][\w:.-]{0,40}|[A-Za-z_][\w:./-]{1,40}|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?'
)
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
NUMBERS = (
    b"0",
    b"-1",
    b"-0",
    b"1e308",
    b"1e309",
    b"-1e999",
    b"NaN",
    b"nan",
    b"Infinity",
    b"-inf",
    b"1e-320",
    b"0.1",
    b"127",
    b"255",
    b"65536",
    b"2147483647",
    b"2147483648",
    b"-2147483649",
    b"4294967296",
    b"9007199254740993",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"18446744073709551615",
    b"18446744073709551616",
    b"1" + b"0" * 400,
)
TEXTS = (
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b"[[[[",
    b"]]]]",
    b"{",
    b"}",
    b",",
    b":",
    b"\n",
    b"\r\n",
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\\ud800",
    b"\\u0000",
    b'"\\ud83d"',
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xe2\x80\xa8",
    b"\x85",
    b"\xd9\xa3",
    b"\xc2\xb2",
    b"<![CDATA[",
    b"&amp;",
    b"&#0;",
    b"<!DOCTYPE a [",
    b"---\n",
    b"&a [*a]",
    b"*a",
    b"!!python/object:os.system",
    b"..",
    b"%00",
    b"--",
)
INTEGERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
)
FLOATS = (0.0, -0.0, float("nan"), float("inf"), float("-inf"), 1e308, 5e-324, -1.0, 2.0**63, 2.0**64)


class Mutator:
    """Makes inputs out of seeds; the same seed of `chance` and the same calls give the same inputs."""

    def __init__(self, seeds: Iterable[bytes], chance: random.Random) -> None:
        self._chance = chance
        self._words = self._gathered(unpacked(seed) for seed in seeds)
        self._ways: tuple[Callable[[bytearray], None], ...] = (
            self._flip,
            self._flip,
            self._byte,
            self._byte,
            self._integer,
            self._integer,
            self._float,
            self._cut,
            self._drop,
            self._repeat,
            self._swap,
            self._insert,
            self._number,
            self._number,
            self._number,
            self._word,
            self._word,
            self._word,
            self._text,
            self._text,
            self._nest,
            self._long,
            self._line,
            self._line,
        )

    def mutate(self, data: bytes, other: bytes) -> bytes:
        """Return `data` changed one to eight times, perhaps with a part of `other` in it."""
        if data[:2] == b"\x1f\x8b" and self._chance.random() < 0.8:
            return gzip.compress(self._changed(unpacked(data), unpacked(other)), 1, mtime=0)
        if data[:4] == b"PK\x03\x04" and self._chance.random() < 0.7:
            return self._in_archive(data)
        return self._changed(data, other)

    def _changed(self, data: bytes, other: bytes) -> bytes:
        if other and self._chance.random() < 0.1:
            data = data[: self._chance.randrange(len(data) + 1)] + other[self._chance.randrange(len(other)) :]
        made = bytearray(data[:LARGEST_BYTES])
        for _ in range(1 << self._chance.choice((0, 0, 0, 1, 1, 2, 3))):
            self._chance.choice(self._ways)(made)
        return bytes(made[:LARGEST_BYTES])

    def _in_archive(self, data: bytes) -> bytes:
        place = io.BytesIO()
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as given, zipfile.ZipFile(place, "w") as made:
                names = given.namelist()
                target = self._chance.choice(names)
                for name in names:
                    content = given.read(name)
                    made.writestr(zipfile.ZipInfo(name), self._changed(content, b"") if name == target else content)
        except (
            zipfile.BadZipFile,
            NotImplementedError,
            ValueError,
            OSError,
            RuntimeError,
            IndexError,
            EOFError,
            zlib.error,
        ):
            return self._changed(data, b"")
        return place.getvalue()

    def _gathered(self, texts: Iterable[bytes]) -> list[bytes]:
        found = sorted({word for text in texts for word in WORD.findall(text)})
        return sorted(self._chance.sample(found, MOST_WORDS)) if len(found) > MOST_WORDS else found

    def _at(self, made: bytearray) -> int:
        return self._chance.randrange(len(made)) if made else 0

    def _span(self, made: bytearray, longest: int = 64) -> tuple[int, int]:
        begin = self._at(made)
        return begin, min(len(made), begin + self._chance.randint(1, self._chance.choice((4, longest, 2048))))

    def _flip(self, made: bytearray) -> None:
        if made:
            made[self._at(made)] ^= 1 << self._chance.randrange(8)

    def _byte(self, made: bytearray) -> None:
        if made:
            made[self._at(made)] = self._chance.randrange(256)

    def _integer(self, made: bytearray) -> None:
        size = self._chance.choice((1, 2, 4, 8))
        order = self._chance.choice(("little", "big"))
        value = self._chance.choice(INTEGERS) + self._chance.choice((0, 0, 1, -1))
        at = self._at(made)
        made[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, order)

    def _float(self, made: bytearray) -> None:
        at, kind = self._at(made), self._chance.choice(("<d", "<f", ">d"))
        packed = struct.pack(
            kind, min(max(self._chance.choice(FLOATS), -3e38), 3e38) if kind == "<f" else self._chance.choice(FLOATS)
        )
        made[at : at + len(packed)] = packed

    def _cut(self, made: bytearray) -> None:
        if self._chance.random() < 0.3:
            del made[self._at(made) :]

    def _drop(self, made: bytearray) -> None:
        begin, end = self._span(made)
        del made[begin:end]

    def _repeat(self, made: bytearray) -> None:
        begin, end = self._span(made)
        times = self._chance.choice((1, 1, 2, 16, 200))
        if self._chance.random() < 0.95:  # large inputs cost as much as many small ones
            times = min(times, max(1, USUAL_BYTES // max(1, end - begin)))
        made[begin:begin] = made[begin:end] * times

    def _swap(self, made: bytearray) -> None:
        begin, end = self._span(made)
        part = made[begin:end]
        del made[begin:end]
        at = self._at(made)
        made[at:at] = part

    def _insert(self, made: bytearray) -> None:
        at = self._at(made)
        made[at:at] = self._chance.randbytes(self._chance.randint(1, 16))

    def _number(self, made: bytearray) -> None:
        """Put another number in the place of one that is written in digits."""
        hit = NUMBER.search(made, self._at(made))
        if hit:
            made[hit.start() : hit.end()] = self._chance.choice(NUMBERS)

    def _word(self, made: bytearray) -> None:
        """Put a word of the seeds in the place of another."""
        hit = WORD.search(made, self._at(made))
        if hit and self._words:
            made[hit.start() : hit.end()] = self._chance.choice(self._words)

    def _text(self, made: bytearray) -> None:
        at = self._at(made)
        hit = WORD.search(made, at) if self._chance.random() < 0.5 else None
        begin, end = hit.span() if hit else (at, at)
        made[begin:end] = self._chance.choice(TEXTS)

    def _nest(self, made: bytearray) -> None:
        if self._chance.random() < 0.2:
            opening, closing = self._chance.choice(
                ((b"[", b"]"), (b'{"a":', b"}"), (b"<a>", b"</a>"), (b"(", b""), (b"- ", b""))
            )
            depth = self._chance.choice((10, 100, 1500, 5000))
            at = self._at(made)
            made[at:at] = opening * depth + b"1" + closing * depth

    def _long(self, made: bytearray) -> None:
        if self._chance.random() < 0.2:
            at = self._at(made)
            made[at:at] = self._chance.choice(
                (b"9", b"A", b" ", b'"', b"\\", b"\n", b"\x00", b"\xff")
            ) * self._chance.choice((300, 5000))

    def _line(self, made: bytearray) -> None:
        """Repeat, drop or move a whole line."""
        begin = made.rfind(b"\n", 0, self._at(made)) + 1
        end = made.find(b"\n", begin) + 1 or len(made)
        line = bytes(made[begin:end])
        way = self._chance.randrange(3)
        if way:
            del made[begin:end]
        if way < 2:
            at = made.rfind(b"\n", 0, self._at(made)) + 1
            made[at:at] = line


def unpacked(data: bytes, limit: int = LARGEST_BYTES) -> bytes:
    """Return what a gzip file holds, up to `limit` bytes and as far as it can be read; anything else as it is.

    >>> unpacked(gzip.compress(b"abc")), unpacked(b"abc")
    (b'abc', b'abc')
    """
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return zlib.decompressobj(31).decompress(data, limit)
    except zlib.error:
        return data
