# %% [markdown]
# # Analyse in Python
#
# A notebook as a plain file: editors and Jupyter (with jupytext) open it as cells, and `python analyze_in_python.py`
# runs it from top to bottom. It needs `pip install "skewscope[analysis]"`, and reads a recording that is shipped: eight
# ranks of a real job, one of them slow. Name your own files and folders instead.

# %%
from importlib.resources import files
from pathlib import Path

import skewscope

recording = Path(str(files("skewscope.sample_data"))) / "compute-slow"
report = skewscope.analyze(recording, workers=1)
print(report.verdict)

# %% [markdown]
# What the job loses, against the step that it would have if all ranks were equally fast:

# %%
summary = report.summary
print(f"{summary['step_time_s']['mean']:.3f} s a step, {summary['ideal_step_time_s']:.3f} s were possible")
print(f"slowed down {summary['slowdown']:.2f} times; {summary['wasted_share']:.0%} of the GPUs' time is wasted")

# %% [markdown]
# Findings, the dearest first. A *culprit* is somebody to act upon, the others say what else was seen.

# %%
for finding in report.findings:
    who = f"{finding.severity} {finding.role:8} {finding.subject.id:10}"
    print(f"{who} {finding.condition}: {finding.lost_s:.3f} s a step")

# %% [markdown]
# Everything stands in tables (pandas), whose columns end with their unit; `skewscope schema rank_steps` explains them.
# A rank's own work against that of its peers:

# %%
work_s = report.tables["rank_steps"].groupby("rank")["own_ns"].median() / 1e9
print((work_s / work_s.median()).round(2).to_string())

# %% [markdown]
# Views answer further questions; `skewscope view --list` names them.

# %%
stragglers = report.view("stragglers")
print("\n".join(stragglers.said))
print(stragglers.tables["ranks"][["rank", "calls_count", "straggler"]].head(3).to_string(index=False))

# %% [markdown]
# The report as a page for others, and as a document for programs. In a notebook, `report` as the last line of a cell
# shows the page.

# %%
for name in ("report.html", "report.json"):
    print(report.save(name))
