"""Samples become the lines of an exposition, and blocks of lines become a page.

A block is what one collector gave: family -> (lines of the Prometheus text format, lines of OpenMetrics), as they go
out. The two differ only where a bucket carries an exemplar, so mostly they are one object. Lines are made where the
collector runs; a page only joins them, which is why a scrape costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import eq
from zlib import crc32

from skewscope.contracts import Sample
from skewscope.metrics import METRICS, Metric

Lines = tuple[bytes, bytes]
Block = Mapping[str, Lines]

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
LABEL_LETTERS = 128
MOST_SERIES = 5000
SUFFIXES = ("_bucket", "_sum", "_count")
NOTHING: Lines = (b"", b"")

_KNOWN = {metric.name: metric for metric in METRICS}


class _Line:
    """One series of a collector and its line as it was written last."""

    __slots__ = ("exemplar", "family", "prefix", "text")

    def __init__(self, sample: Sample) -> None:
        self.family, self.prefix = _prefix(sample[0], sample[1])
        self.text = self.exemplar = ""

    def set(self, sample: Sample) -> None:
        """Write the line of a new value; "" for an unknown one."""
        value = sample[2]
        shown = repr(value)
        if shown[-1] in "nfe":  # nan, inf, True, False
            shown = _unusual(value)
        self.text = f"{self.prefix}{shown}\n" if shown else ""
        self.exemplar = f" # {sample[3]}\n" if len(sample) == 4 and shown else ""


class Renderer:
    """Makes blocks for one collector. Lines of values that stay are kept, and so are blocks in which all stay."""

    def __init__(self, most_series: int = MOST_SERIES) -> None:
        self._most_series = most_series
        self._known: dict[tuple[str, tuple[str, ...]], _Line] = {}
        self._rows: list[Sample] = []  # of the last call, and their lines
        self._lines: list[_Line] = []
        self._families: dict[str, list[_Line]] = {}
        self._block: Block = {}

    def block(self, samples: Iterable[Sample]) -> tuple[Block, int, int]:
        """Return (block, series in it, series dropped because they were too many); the same block if nothing changed.

        Unknown values (NaN) are left out. Raises KeyError for an undeclared metric, ValueError for wrong labels.
        """
        rows = samples if isinstance(samples, list) else list(samples)
        dropped = max(0, len(rows) - self._most_series)
        if dropped:
            rows = rows[: self._most_series]
        changed = self._changed(rows)
        if changed is None:
            self._arrange(rows)
            changed = set(self._families)
        if changed or not rows:
            made = {
                family: _joined(lines) if family in changed else self._block.get(family, NOTHING)
                for family, lines in self._families.items()
            }
            self._block = {family: text for family, text in made.items() if text[0]}
        return self._block, len(rows), dropped

    def _changed(self, rows: Sequence[Sample]) -> set[str] | None:
        """Take new values and return the families in which one changed; None where the series are not the former."""
        if len(rows) != len(self._rows):
            return None
        changed = set()
        # Most values stay, and comparing all rows without a line of Python for each is most of the work saved.
        for at in [at for at, same in enumerate(map(eq, rows, self._rows)) if not same]:
            sample, former, line = rows[at], self._rows[at], self._lines[at]
            if sample[1] != former[1] or sample[0] != former[0]:
                return None
            line.set(sample)
            changed.add(line.family)
        self._rows = list(rows)
        return changed

    def _arrange(self, rows: Sequence[Sample]) -> None:
        known = self._known
        self._rows, self._families, self._lines = list(rows), {}, []
        for sample in rows:
            key = (sample[0], sample[1])
            line = known.get(key)
            if line is None:
                line = known[key] = _Line(sample)
            line.set(sample)
            self._lines.append(line)
            self._families.setdefault(line.family, []).append(line)
        if len(known) > 2 * len(rows) + 1000:  # jobs come and go: forget the labels of old ones
            self._known = {(row[0], row[1]): line for row, line in zip(self._rows, self._lines, strict=True)}


def _joined(lines: Iterable[_Line]) -> Lines:
    text = _bytes([line.text for line in lines])
    if not any(line.exemplar for line in lines):
        return text, text
    return text, _bytes([line.text[:-1] + line.exemplar if line.exemplar else line.text for line in lines])


def _bytes(parts: Iterable[str]) -> bytes:
    return "".join(parts).encode("utf-8", "replace")


def without(lines: Lines, beginnings: tuple[bytes, ...]) -> Lines:
    r"""Return the lines of a family that begin with none of these.

    >>> without((b'up{gpu="0"} 1\nup{gpu="1"} 1\n',) * 2, (b'up{gpu="1"',))[0]
    b'up{gpu="0"} 1\n'
    """
    text, openmetrics = (
        b"".join(line for line in form.splitlines(keepends=True) if not line.startswith(beginnings)) for form in lines
    )
    return text, openmetrics


def _unusual(value: float) -> str:
    if value != value:
        return ""
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if isinstance(value, bool) else repr(value)


def family_of(name: str) -> Metric:
    """Return the metric that a sample name belongs to.

    >>> family_of("skewscope_step_duration_seconds_bucket").name
    'skewscope_step_duration_seconds'
    """
    if name in _KNOWN:
        return _KNOWN[name]
    for suffix in SUFFIXES:
        base = name.removesuffix(suffix)
        if base != name and base in _KNOWN and _KNOWN[base].kind in ("histogram", "summary"):
            return _KNOWN[base]
    raise KeyError(f"{name} is not declared in skewscope.metrics")


def _prefix(name: str, values: tuple[str, ...]) -> tuple[str, str]:
    metric = family_of(name)
    labels = metric.labels + (("le",) if name.endswith("_bucket") and metric.kind == "histogram" else ())
    if len(values) != len(labels):
        raise ValueError(f"{name} wants the labels {', '.join(labels) or 'none'}, got {values!r}")
    shown = ",".join(f'{label}="{escaped(value)}"' for label, value in zip(labels, values, strict=True))
    return metric.name, f"{name}{{{shown}}} " if shown else f"{name} "


def escaped(value: str) -> str:
    r"""Return a label value as it stands between quotes: bounded, printable, escaped.

    >>> escaped('a"b'), escaped("c\\d"), escaped("e\x00f")
    ('a\\"b', 'c\\\\d', 'e_f~158c14b4')
    """
    if len(value) > LABEL_LETTERS or not value.isprintable():
        # Two values that were cut or cleaned alike must not become one series twice.
        seal = f"~{crc32(value.encode('utf-8', 'surrogatepass')):08x}"
        value = "".join(letter if letter.isprintable() else "_" for letter in value[: LABEL_LETTERS - len(seal)]) + seal
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _headers(metric: Metric) -> Lines:
    meaning = metric.help.replace("\\", "\\\\").replace("\n", " ")
    bare = metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
    quoted = meaning.replace('"', '\\"')
    return (
        f"# HELP {metric.name} {meaning}\n# TYPE {metric.name} {metric.kind}\n".encode(),
        f"# HELP {bare} {quoted}\n# TYPE {bare} {metric.kind}\n".encode(),
    )


_HEADERS = {metric.name: _headers(metric) for metric in METRICS if metric.kind != "recorded"}


def page(blocks: Iterable[Block], *, openmetrics: bool = False) -> bytes:
    """Return one exposition of all blocks; families stand in declared order, each once."""
    form = int(openmetrics)
    found: dict[str, list[bytes]] = {}
    for block in blocks:
        for family, lines in block.items():
            parts = found.get(family)
            if parts is None:
                found[family] = [lines[form]]
            else:
                parts.append(lines[form])
    written = [
        part for family, headers in _HEADERS.items() if family in found for part in (headers[form], *found[family])
    ]
    if openmetrics:
        written.append(b"# EOF\n")
    return b"".join(written)
