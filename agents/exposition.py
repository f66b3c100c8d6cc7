"""Samples become the lines of an exposition, and blocks of lines become a page.

A block is what one collector gave: family -> (lines of the Prometheus text format, lines of OpenMetrics). The two
differ only where a bucket carries an exemplar, so mostly they are one string. Lines are made where the collector
runs; a page only joins them, which is why a scrape costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from skewscope.contracts import Sample
from skewscope.metrics import METRICS, Metric

Block = Mapping[str, tuple[str, str]]

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
LABEL_LETTERS = 128
MOST_SERIES = 5000
SUFFIXES = ("_bucket", "_sum", "_count")

_KNOWN = {metric.name: metric for metric in METRICS}


class Renderer:
    """Makes blocks for one collector and remembers the names and labels it wrote before."""

    def __init__(self, most_series: int = MOST_SERIES) -> None:
        self._most_series = most_series
        self._prefixes: dict[tuple[str, tuple[str, ...]], tuple[str, str]] = {}

    def block(self, samples: Iterable[Sample]) -> tuple[Block, int, int]:
        """Return (block, series in it, series dropped because they were too many).

        Unknown values (NaN) are left out. Raises KeyError for an undeclared metric, ValueError for wrong labels.
        """
        plain: dict[str, list[str]] = {}
        marked: dict[str, list[tuple[int, str]]] = {}
        prefixes, series, dropped = self._prefixes, 0, 0
        for sample in samples:
            key = (sample[0], sample[1])
            known = prefixes.get(key)
            if known is None:
                known = prefixes[key] = _prefix(*key)
            value = repr(sample[2])
            if value[-1] in "nfe":  # nan, inf, True, False
                value = _unusual(sample[2])
                if not value:
                    continue
            if series >= self._most_series:
                dropped += 1
                continue
            series += 1
            family, prefix = known
            lines = plain.get(family)
            if lines is None:
                lines = plain[family] = []
            if len(sample) == 4:
                marked.setdefault(family, []).append((len(lines), str(sample[3])))
            lines.append(prefix + value)
        if len(prefixes) > 4 * self._most_series:
            prefixes.clear()  # jobs come and go: forget the labels of old ones
        return {family: _joined(lines, marked.get(family, ())) for family, lines in plain.items()}, series, dropped


def _joined(lines: list[str], exemplars: Iterable[tuple[int, str]]) -> tuple[str, str]:
    text = "\n".join(lines) + "\n"
    if not exemplars:
        return text, text
    for at, exemplar in exemplars:
        lines[at] += f" # {exemplar}"
    return text, "\n".join(lines) + "\n"


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
    ('a\\"b', 'c\\\\d', 'e_f')
    """
    if not value.isprintable():
        value = "".join(letter if letter.isprintable() else "_" for letter in value)
    return value[:LABEL_LETTERS].replace("\\", "\\\\").replace('"', '\\"')


def _headers(metric: Metric) -> tuple[str, str]:
    meaning = metric.help.replace("\\", "\\\\").replace("\n", " ")
    bare = metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
    quoted = meaning.replace('"', '\\"')
    return (
        f"# HELP {metric.name} {meaning}\n# TYPE {metric.name} {metric.kind}\n",
        f"# HELP {bare} {quoted}\n# TYPE {bare} {metric.kind}\n",
    )


_HEADERS = {metric.name: _headers(metric) for metric in METRICS if metric.kind != "recorded"}


def page(blocks: Iterable[Block], *, openmetrics: bool = False) -> bytes:
    """Return one exposition of all blocks; families stand in declared order, each once."""
    form = int(openmetrics)
    found: dict[str, list[str]] = {}
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
        written.append("# EOF\n")
    return "".join(written).encode("utf-8", "replace")
