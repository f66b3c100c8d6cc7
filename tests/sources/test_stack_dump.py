import pytest

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.stack_dump import StackDump

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
