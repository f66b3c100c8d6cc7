import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.stack_dump import StackDump

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

FAULTHANDLER = """Current thread 0x00007f0ea2ffd6c0 (most recent call first):
  File "/srv/job/train.py", line 185 in run
  File "/opt/lib/python3.11/threading.py", line 1002 in _bootstrap

Thread 0x00007f0ecb032b80 (most recent call first):
  File "/opt/lib/python3.11/site-packages/torch/autograd/graph.py", line 979 in _engine_run_backward
  File "/srv/job/train.py", line 375 in job_hybrid
  File "/srv/job/launch.py", line 129 in <module>
"""
PY_SPY = """Process 4711: python train.py
Python v3.11.7 (/usr/bin/python3.11)

Thread 4711 (idle): "MainThread"
    wait (threading.py:320)
    step (train.py:42)
    <module> (train.py:99)
Thread 4712 (active): "loader"
    read (loader.py:7)
"""


@pytest.mark.parametrize(
    "text, message",
    [
        (FAULTHANDLER, "/srv/job/train.py:375 job_hybrid < /srv/job/launch.py:129 <module>"),
        (PY_SPY, "train.py:42 step < train.py:99 <module>"),
    ],
)
def test_the_main_thread_speaks(tmp_path, text, message):
    path = tmp_path / "stack_rank2.txt"
    path.write_text(text)
    assert StackDump().sniff(text.encode(), path.name) > 0.5
    found = frame(*StackDump().read(path).batches[0])
    assert found[["event", "message"]].values.tolist() == [["stack", message]]


def test_no_frame_is_unreadable(tmp_path):
    path = tmp_path / "s.txt"
    path.write_text("Thread 0x01 (most recent call first):\n")
    with pytest.raises(Unreadable):
        StackDump().read(path)


words = st.text("aü_λ1", min_size=1, max_size=5)
frames = st.lists(st.tuples(st.booleans(), words, st.integers(1, 9999), words), max_size=5)
threads = st.lists(st.tuples(frames, st.integers(1, 9999)), min_size=1, max_size=3)


@drawn
@given(threads, st.integers(0, 2), st.booleans())
def test_the_message_is_the_innermost_user_frames_of_the_main_thread(tmp_path, told, main, py_spy):
    """faulthandler writes the main thread last, py-spy names it; it begins in <module>, the others in a library."""
    main = min(main, len(told) - 1) if py_spy else len(told) - 1
    text, spoken = "", []
    for number, (inner, last) in enumerate(told):
        stack = [(f"/x/site-packages/{file}.py" if library else f"/srv/{file}.py", line, name)
                 for library, file, line, name in inner]  # fmt: skip
        stack.append(("/srv/run.py", last, "<module>") if number == main else ("/x/site-packages/t.py", last, "boot"))
        if py_spy:
            text += f'Thread {number} (idle): "{"MainThread" if number == main else "other"}"\n'
            text += "".join(f"    {name} ({file}:{line})\n" for file, line, name in stack)
        else:
            text += f"\nThread 0x{number:x} (most recent call first):\n"
            text += "".join(f'  File "{file}", line {line} in {name}\n' for file, line, name in stack)
        if number == main:
            own = [one for one in stack if one[0].startswith("/srv/")]
            spoken = [f"{file}:{line} {name}" for file, line, name in own[:3]]
    path = tmp_path / "stack_rank2.txt"
    path.write_text(text)
    assert frame(*StackDump().read(path).batches[0])["message"].tolist() == [" < ".join(spoken)]
