"""Takes the pictures of the documentation anew: pages that skewscope makes, as Chromium shows them (`make pictures`).

    python docs/make_pictures.py [FOLDER, by default docs/pictures]

The shipped recordings and one simulated fleet, with its seed, give the same pages each time; fonts are the machine's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

DOCS = Path(__file__).resolve().parent
SAMPLES = DOCS.parent / "sample_data"
SKEWSCOPE = [sys.executable, "-m", "skewscope"]
WIDE, HIGH = 1100, 800  # CSS pixels
DRAWN = "() => [...document.querySelectorAll('.dash-graph')].every(one => one.querySelector('.main-svg'))"


def main(folder: Path) -> int:
    """Write report.png, overview.png, ranks.png and experts.png; the exit code is 0."""
    folder.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as made, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        offline(browser, Path(made), folder)
        of_the_dashboard(browser, Path(made), folder)
        browser.close()
    return 0


def offline(browser: Browser, made: Path, folder: Path) -> None:
    """Take the verdict of the shipped sample with its findings, and a plan's maps of experts."""
    skewscope("demo", "--no-open", "--out", made / "demo")
    with opened(browser, (made / "demo/report.html").as_uri()) as page:
        until(page, "table", folder / "report.png")
    skewscope("plan", "moe", SAMPLES / "moe-tiny", "--gpus", "4", "--slots", "20", "--html", made / "plan.html")
    with opened(browser, (made / "plan.html").as_uri()) as page:
        page.locator("section", has_text="Load of GPUs, before and after").screenshot(path=folder / "experts.png")


def of_the_dashboard(browser: Browser, made: Path, folder: Path) -> None:
    """Take what the dashboard shows of a fleet in which a GPU of 64 runs hot."""
    skewscope("simulate", "gpu-hw-slowdown", "--seed", "5", "--out", made / "fleet")
    with serving(made / "fleet") as address:
        with opened(browser, address) as page:
            until(page, "section >> nth=1", folder / "overview.png")
        with opened(browser, f"{address}ranks") as page:
            until(page, ".dash-graph", folder / "ranks.png")


def skewscope(*words: object) -> None:
    """Run a command; raises CalledProcessError where it fails."""
    subprocess.run([*SKEWSCOPE, *map(str, words), "--quiet"], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def serving(recording: Path) -> Iterator[str]:
    """Give the address of a dashboard that shows a recording."""
    words = [*SKEWSCOPE, "dashboard", recording.name, "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        words, cwd=recording.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        told = process.stdout or ()
        try:
            yield next(line.split()[-1] for line in told if line.startswith("dashboard "))
        finally:
            process.terminate()


@contextmanager
def opened(browser: Browser, address: str) -> Iterator[Page]:
    """Give a tab in which everything is drawn."""
    page = browser.new_page(viewport={"width": WIDE, "height": HIGH})
    page.goto(address)
    page.wait_for_selector("h1")
    page.wait_for_load_state("networkidle")
    page.wait_for_function(DRAWN)
    yield page
    page.close()


def until(page: Page, last: str, path: Path) -> None:
    """Take a page from its top to the end of the first part that a selector names."""
    box: Any = page.locator(last).first.bounding_box()
    page.screenshot(
        path=path, full_page=True, clip={"x": 0, "y": 0, "width": WIDE, "height": box["y"] + box["height"] + 6}
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "pictures"))
