import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from skewscope.sources._exposition_lines import Lines

PAGE = '# TYPE a gauge\na{b="c"} 1\na{b="d"} 2 1700000000000\n# EOF\n'
NAME = st.from_regex("[a-z][a-z_]{0,7}", fullmatch=True)
VALUE = st.text(st.characters(codec="utf-8", exclude_characters="\r\x85\x0b\x0c\x1c\x1d\x1e\u2028\u2029"), max_size=12)
NUMBER = st.floats(allow_nan=True, allow_infinity=True)


def escaped(value):
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


@given(
    st.lists(
        st.tuples(NAME, st.dictionaries(NAME, VALUE, max_size=3), NUMBER, st.none() | st.integers(0, 8 * 10**12)),
        max_size=12,
    ),
    st.sampled_from(["", " "]), st.sampled_from(["", ","]), st.sampled_from([" ", "  ", "\t"]),
)  # fmt: skip
def test_lines_are_split_as_the_reference_parser_does(series, before, comma, blank):
    def braces(labels):
        inside = ",".join(f'{label}="{escaped(v)}"' for label, v in labels.items())
        return f"{before}{{{inside}{comma}}}" if labels else ""

    text = "".join(
        f"m_{name}{braces(labels)}{blank}{value!r}" + ("\n" if t is None else f" {t}\n")
        for name, labels, value, t in series
    )
    told = []
    lines = Lines(lambda name, labels: told.append((name, dict(labels))) or True)
    lines.take(text.split("\n"))
    assert not lines.bad
    found = [(*told[number], value) for number, value in zip(lines.numbers, lines.values, strict=True)]
    expected = [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text) for sample in family.samples
    ]  # fmt: skip

    def key(row):
        return row[0], sorted(row[1].items()), math.isnan(row[2]), 0.0 if math.isnan(row[2]) else row[2]

    assert sorted(map(key, found)) == sorted(map(key, expected))
    stamps = [t * (10**9 if t < 9e9 else 10**6) for *_, t in series if t is not None]
    assert [t for t in lines.t_ns if t >= 0] == stamps


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_no_text_breaks_the_splitter(text):
    lines = Lines(lambda name, labels: True)
    lines.take((PAGE + text).split("\n"))
    assert len(lines.numbers) >= 2 and np.isfinite(lines.page_ns).all()
