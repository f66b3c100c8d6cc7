"""Serves 10,000 ranks x 1,000 steps: "dashboard FOLDER", or "lists" as a plotly heatmap of lists in plain Dash.

The folder is that of a report with full tables; `skewscope dashboard --report FOLDER` does the same. Prints the
address; ends with the process.
"""

from __future__ import annotations

import sys
from pathlib import Path
from runpy import run_path
from typing import Any

from skewscope.catalogue import load
from skewscope.commands.dashboard import on_loopback


def pages(folder: Path) -> Any:
    """Return the dashboard of a report."""
    sources = load("dashboards._sources")
    return on_loopback(sources.Fixed(sources.from_report(folder)), 0)


def lists() -> Any:
    """Return a server of an application as most are written: the matrix as lists in one figure."""
    import dash
    import plotly.graph_objects as go

    made = run_path(str(Path(__file__).with_name("test_ranks_page.py")))
    matrix = made["table"]()["work_ns"].to_numpy().reshape(made["STEPS"], made["RANKS"]).T / 1e6
    app = dash.Dash("lists", add_log_handler=False)
    app.layout = dash.html.Div(id="page", children="Loading ...")
    both = dash.Output("page", "children"), dash.Input("page", "id")
    app.callback(*both)(lambda _: dash.dcc.Graph(figure=go.Figure(go.Heatmap(z=matrix.tolist()))))
    return load("dashboards._server").Server(app.server, "127.0.0.1:0")


if __name__ == "__main__":
    server = pages(Path(sys.argv[2])) if sys.argv[1] == "dashboard" else lists()
    server.start()
    print(server.address, flush=True)
    server.run()
