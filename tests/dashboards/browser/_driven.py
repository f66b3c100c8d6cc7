"""A dashboard served in this process, and a browser's page that remembers what went wrong on it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from skewscope.catalogue import load

PATIENCE_MS = 30_000
DRAWN = """() => {
  const page = document.querySelector("#page");
  if (!page || !page.querySelector("h1") || !document.title.endsWith("- skewscope")) { return false; }
  const there = (graph) => graph.querySelector(".js-plotly-plot .main-svg");
  return [...page.querySelectorAll(".dash-graph")].every(there);
}"""
BROKEN_RULES = """() => {
  window.broken = [];
  document.addEventListener("securitypolicyviolation", (one) => {
    window.broken.push(one.violatedDirective + " " + one.blockedURI);
  });
}"""
OVERFLOW = """() => {
  const wide = window.innerWidth, reach = (one) => one.getBoundingClientRect().right;
  if (document.documentElement.scrollWidth <= wide) { return []; }
  const held = (one) => one.parentElement.closest(".scroll, .pages");
  const out = [...document.querySelectorAll("body *")].filter((one) => reach(one) > wide + 0.5 && !held(one));
  const said = (one) => `${one.tagName} ${one.id || one.getAttribute("class")} to ${Math.round(reach(one))}`;
  return ["the document", ...out.slice(0, 8).map(said)];
}"""
NARROW = f"() => ({OVERFLOW})().length === 0"


@contextmanager
def serving(source: Any, guard: Any = None, audit: Any = None) -> Iterator[str]:
    """Serve a source's views; yields the address."""
    made = load("dashboards.app").Dashboard(source, guard, audit)
    server = load("dashboards._server").Server(made.server, "127.0.0.1:0")
    server.start()
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.address
    finally:
        server.stop()
        thread.join(10)


@dataclass
class Tab:
    """A page of a browser; `wrong` collects what it complained of, `replies` what callbacks were answered."""

    page: Any
    address: str
    late: type[Exception]
    wrong: list[str] = field(default_factory=list)
    replies: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.add_init_script(f"({BROKEN_RULES})()")
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("response", self._replied)

    def _said(self, message: Any) -> None:
        if message.type in ("error", "assert") or "Content Security Policy" in message.text:
            self.wrong.append(f"console: {message.text}")

    def _replied(self, reply: Any) -> None:
        if reply.status >= 400:
            self.wrong.append(f"{reply.status} {reply.url}")
        if "_dash-update-component" in reply.url:
            self.replies.append(reply)

    def open(self, path: str) -> None:
        """Load a page and wait until its charts are drawn."""
        self.page.goto(self.address + path, wait_until="domcontentloaded")
        self.drawn()

    def drawn(self) -> None:
        """Wait until the charts are drawn."""
        self.page.wait_for_function(DRAWN)

    def follow(self, name: str | re.Pattern[str], within: str = "#page") -> None:
        """Click a link by its name, wait for the page it leads to."""
        link = self.page.locator(within).get_by_role("link", name=name, exact=isinstance(name, str)).first
        self.page.evaluate("document.title = ''")  # it is set anew when the page has come
        link.click()
        self.drawn()

    def complaints(self) -> list[str]:
        """Return what went wrong since the last call."""
        told = [*self.wrong, *(f"policy: {one}" for one in self.page.evaluate("window.broken"))]
        self.wrong.clear()
        self.page.evaluate("window.broken = []")
        return told

    def overflow(self, width: int) -> list[str]:
        """Return what stands out of a window of `width` pixels."""
        self.page.set_viewport_size({"width": width, "height": 900})
        try:  # charts follow the window's size a moment later
            self.page.wait_for_function(NARROW, timeout=1_500)
        except self.late:
            told: list[str] = self.page.evaluate(OVERFLOW)
            return told
        return []

    def shot(self, name: str, folder: Any) -> None:
        """Keep a picture of the whole page."""
        self.page.screenshot(path=str(folder / f"{name}.png"), full_page=True)
