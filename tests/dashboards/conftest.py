from pathlib import Path
from runpy import run_path

make_world = run_path(str(Path(__file__).parents[1] / "reports" / "conftest.py"))["make_world"]
