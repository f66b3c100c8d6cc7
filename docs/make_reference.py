"""Writes the pages of reference from the code beside a copy of the written ones, for mkdocs: build/docs."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from skewscope import catalogue, tables
from skewscope.commands import _parser
from skewscope.metrics import METRICS
from skewscope.reports import json_schema

HERE = Path(__file__).parent
ROOT = HERE.parent
OUT = ROOT / "build" / "docs"
SECTION = re.compile(r"^([A-Z][A-Za-z ,-]+)$", re.M)
CELL = re.compile(r"^# %%( \[markdown\])?\n(.*?)(?=^# %%|\Z)", re.M | re.S)
COPIED = {"error_rates.md": "detectors/ERROR_RATES.md", "look_alikes.md": "detectors/LOOK_ALIKES.md"}


def main() -> int:
    """Write all pages anew; the exit code is 0."""
    shutil.rmtree(OUT, ignore_errors=True)
    shutil.copytree(HERE, OUT, ignore=shutil.ignore_patterns("*.py", "*.1", "mkdocs.yml", "__pycache__"))
    for name, source in COPIED.items():
        (OUT / "explanation" / name).write_text((ROOT / source).read_text("utf-8"), "utf-8")
    for path in (HERE / "examples").glob("*.py"):
        (OUT / "examples" / path.with_suffix(".md").name).write_text(example(path.read_text("utf-8")), "utf-8")
    for name, text in pages().items():
        place = OUT / "reference" / f"{name}.md"
        place.parent.mkdir(exist_ok=True)
        place.write_text(text, "utf-8")
    return 0


def pages() -> dict[str, str]:
    """Return the Markdown of each page of reference, by its name."""
    made = {
        "commands": commands(), "conditions": conditions(), "views": views(), "metrics": metrics(),
        "tables": all_tables(), "documents": documents(), "formats": formats(), "python": python(),
    }  # fmt: skip
    return {name: "\n".join(lines) + "\n" for name, lines in made.items()}


def example(text: str) -> str:
    r"""Return a script of cells as Markdown: text cells as they are, code in fences.

    >>> print(example("# %% [markdown]\n# # Title\n#\n# Text.\n\n# %%\nprint(1)\n"))
    # Title
    <BLANKLINE>
    Text.
    <BLANKLINE>
    ```python
    print(1)
    ```
    <BLANKLINE>
    """
    parts = []
    for kind, cell in CELL.findall(text):
        lines = cell.strip().splitlines()
        if kind:
            parts.append("\n".join(line.removeprefix("#").removeprefix(" ") for line in lines))
        else:
            parts.append("\n".join(["```python", *lines, "```"]))
    return "\n\n".join(parts) + "\n"


def commands() -> Iterator[str]:
    """Yield the help of every command."""
    yield "# Commands\n\nEvery command explains itself with `--help`; this is the same text.\n"
    places = _parser.commands(_parser.build())
    for name, parser in places.items():
        yield f"## skewscope {name.replace('.', ' ')}\n"
        yield "```text\n" + parser.format_help().strip() + "\n```\n"


def conditions() -> Iterator[str]:
    """Yield the page of every condition, with its thresholds and alert."""
    yield "# Conditions\n"
    for room in catalogue.rooms("detectors"):
        detector = room.load()
        yield f"## {room.id}\n\nCategory: {detector.category}. Needs: {', '.join(detector.needs)}.\n"
        yield page(room.page())
        rule = detector.alert()
        if rule is not None:
            yield f"Alert `{rule.alert}` ({rule.severity}):\n\n```text\n{rule.expr}\n```\n"


def page(text: str) -> str:
    """Return a docstring of sections with indented text as Markdown: titles bold, the text to the left."""
    lines = []
    for line in text.strip().splitlines():
        if SECTION.fullmatch(line) and not line.endswith("."):
            lines += [f"**{line}**", ""]
        else:
            lines.append(line[4:] if line.startswith("    ") else line)
    return "\n".join(lines).replace("<", "&lt;") + "\n"


def views() -> Iterator[str]:
    """Yield the page of every view."""
    yield "# Views\n\nEach answers one question about a recording: `skewscope view NAME PATH...`.\n"
    for room in catalogue.rooms("views"):
        needs = ", ".join(f"`{name}`" for name in room.load().needs)
        yield f"## {room.id}\n\n{page(room.page())}\nNeeds: {needs}.\n"


def metrics() -> Iterator[str]:
    """Yield all metrics, one line each."""
    yield "# Metrics\n\n| metric | kind | unit | labels | meaning |\n|---|---|---|---|---|"
    for one in METRICS:
        words = (f"`{one.name}`", one.kind, one.unit, ", ".join(one.labels), one.help.replace("|", "\\|"))
        yield "| " + " | ".join(words) + " |"


def all_tables() -> Iterator[str]:
    """Yield the canonical tables with their columns."""
    yield ("# Tables\n\nCanonical tables are read from recordings, derived ones are computed. Times are nanoseconds "
           "since the Unix epoch; `?` marks columns that may be unknown (-1, NaN or empty).\n")  # fmt: skip
    for name in tables.names():
        table = tables.table(name)
        kind = "derived" if table.derived else "canonical"
        yield f"## {name}\n\n{table.doc.strip()} ({kind}; key: {', '.join(table.key)})\n"
        yield "| column | type | meaning |\n|---|---|---|"
        for column in table.columns:
            mark = "?" if column.optional else ""
            yield f"| `{column.name}` | {column.type}{mark} | {column.doc.replace('|', chr(92) + '|')} |"
        yield ""


def documents() -> Iterator[str]:
    """Yield the JSON Schema of every document."""
    yield "# JSON documents\n\n`skewscope schema NAME` prints the same. A document changes only with its number.\n"
    for name in json_schema.names():
        if name not in tables.names():
            text = json.dumps(json_schema.schema(name), indent=1)
            yield f"## {name}\n\n```json\n{text}\n```\n"


def formats() -> Iterator[str]:
    """Yield the formats that are read."""
    yield "# Formats that are read\n\nFound from the content, whatever the file is called; compressed or not.\n"
    yield "| format | what it is |\n|---|---|"
    for room in catalogue.rooms("sources"):
        yield f"| `{room.load().format}` | {room.title()} |"


def python() -> Iterator[str]:
    """Yield what the package offers to programs."""
    import skewscope

    yield "# Python\n"
    yield page(skewscope.__doc__ or "")
    for name in getattr(skewscope, "__all__", ()):
        yield f"## skewscope.{name}\n\n```text\n{(getattr(skewscope, name).__doc__ or '').strip()}\n```\n"


if __name__ == "__main__":
    sys.exit(main())
