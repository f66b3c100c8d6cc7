"""Write Prometheus recording and alerting rules, each alert with its tests, and what goes with them.

Alerts on causes come from the conditions: they make tickets or give context. What `skewscope watch` exports pages, for
GPU-hours that a job loses and for a job that stands still. Each alert has tests for promtool, made of the worlds in
which its condition is tested: it fires, is silent just below its line, survives a failed scrape, and resolves.

With --format prometheus: *.rules.yml with *.test.yml, and alertmanager.yml and prometheus.yml to start from; crd:
kubernetes/ for the Prometheus operator; victoriametrics: rules that vmalert takes from 1.79 on. Always: runbooks/, and
grafana/skewscope.json.

Examples:
  skewscope rules --out rules                                          all of them
  skewscope rules --out rules --check                                  and let promtool check and test what was written
  skewscope rules --out rules --format crd --node-label node           for Kubernetes, hosts by the label `node`
  skewscope rules --out rules --only gpu-power-cap,rdma-retransmit     of some conditions
  skewscope rules --out rules --runbook-url 'https://wiki/gpu/{id}'    where alerts lead to
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from . import _files, _work

if TYPE_CHECKING:
    from ..alerting.suite import Suite

FORMATS = ("prometheus", "crd", "victoriametrics", "all")
PAGES = "runbooks/{id}.md"


class Rules:
    """`skewscope rules`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("--out", metavar="DIR", required=True, help="folder to write into; made where it is missing")
        add("--format", choices=FORMATS, default="prometheus", help="for which system (prometheus)")
        add("--only", metavar="CONDITION,...", help="only alerts of these conditions, without those on findings")
        add("--node-label", choices=("instance", "node"), default="instance",
            help="label of agents' series that tells hosts apart (instance)")  # fmt: skip
        add("--runbook-url", metavar="BASE", default=PAGES,
            help="address of the runbooks; {id} stands for a page, or comes at the end (runbooks/{id}.md)")  # fmt: skip
        add("--for-scale", metavar="F", type=_factor, default=1.0, help="stretch the time before alerts fire (1)")
        add("--check", action="store_true", help="let promtool and amtool check and test what was written")

    def run(self, args: argparse.Namespace) -> int:
        """Write, say what, and check."""
        from ..alerting import promtool, suite, writing

        only = _conditions(args.only)
        if args.check:
            promtool.find("promtool")
        folder = _files.make_folder(Path(args.out), "--out")
        found = suite.suite(only, host=args.node_label, runbook_url=args.runbook_url, for_scale=args.for_scale)
        if not found.alerts:
            raise UsageError(f"--only {args.only}: these conditions have no alert: metrics cannot show them")
        formats = suite.FORMATS if args.format == "all" else (args.format,)
        with _work.progress("writing rules"):
            texts = writing.files(found, formats)
        for name, text in texts.items():
            path = folder / name
            _files.make_folder(path.parent, "--out")
            _files.write_text(path, text)
        sys.stdout.write(_said(found, folder, len(texts)))
        return _checked(folder, list(texts)) if args.check else 0


def _said(found: Suite, folder: Path, count: int) -> str:
    from ..alerting import writing

    told = writing.counts(found)
    kinds = f"{told['critical']} page, {told['warning']} make tickets, {told['info']} give context"
    more = f"{told['recorded']} recorded series, {told['tests']} tests"
    alerts = "alert" if told["alerts"] == 1 else "alerts"
    return f"{told['alerts']} {alerts} ({kinds}), {more}: {count} files in {folder}\n"


def _checked(folder: Path, names: list[str]) -> int:
    from ..alerting import writing

    bad = 0
    for name, complaint in writing.check(folder, names):
        bad += bool(complaint)
        sys.stdout.write(f"{'FAILED' if complaint else 'ok':6}  {name}\n")
        sys.stdout.write(f"{complaint}\n" if complaint else "")
    return 1 if bad else 0


def _conditions(only: str | None) -> tuple[str, ...]:
    from ..catalogue import room

    names = tuple(name.strip() for name in (only or "").split(",") if name.strip())
    return tuple(room("detectors", name).id for name in names)


def _factor(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text}: wants a factor from 0 to 100")
    return value
