"""Seeds: small inputs that parsers can read. `seeds/` holds files of readers, the rest is made here.

`seeds/READER/NN--NAME` was written by `_harvest.py` from what the tests make; it is read under its NAME. `small/` holds
the same made smaller by `_smaller.py`: what is mutated comes of these.
"""

from __future__ import annotations

import io
import json
import pickle
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from skewscope.acting.audit import Audit
from skewscope.acting.lines import MemoryLines
from skewscope.policy.template import template
from skewscope.store import folder

SEEDS = Path(__file__).parent / "seeds"
REGRESSIONS = Path(__file__).parent / "regressions"
SMALL = Path(__file__).parent / "small"  # seeds as `_smaller.py` leaves them
STORE_ABOUT = folder.ABOUT
STORE_SAYS = json.dumps({"format": folder.FORMAT, "version": folder.VERSION})

Seed = tuple[str, bytes]  # the name of a file and what it holds


def shipped(reader: str, where: Path = SEEDS) -> Iterator[Seed]:
    """Give the files of a folder under the names that they had."""
    for path in sorted((where / reader).glob("*--*")):
        if path.suffix != ".told":
            yield path.name.split("--", 1)[1], path.read_bytes()


def pickles() -> Iterator[Seed]:
    """Give dumps of the flight recorder as PyTorch pickles them, and other plain data."""
    entry = {
        "frames": [{"name": "step", "filename": "train.py", "line": 7}],
        "record_id": 3,
        "pg_id": 0,
        "process_group": ("0", "default_pg"),
        "collective_seq_id": 4,
        "p2p_seq_id": 0,
        "op_id": 4,
        "profiling_name": "nccl:all_reduce",
        "time_created_ns": 1_700_000_000_000_000_000,
        "input_sizes": ((4, 4),),
        "input_dtypes": ["Float"],
        "output_sizes": ((4, 4),),
        "output_dtypes": ["Float"],
        "state": "completed",
        "time_discovered_started_ns": 1_700_000_000_000_001_000,
        "time_discovered_completed_ns": 1_700_000_000_000_002_000,
        "duration_ms": 0.5,
        "retired": True,
        "timeout_ms": 600_000,
        "is_p2p": False,
    }
    dump = {
        "version": "2.10",
        "entries": [entry, {**entry, "state": "scheduled", "is_p2p": True}],
        "pg_config": {"0": {"name": "0", "desc": "default_pg", "ranks": "[0, 1]"}},
        "pg_status": {"0": {"last_enqueued_collective": 4}},
    }
    for protocol in (2, 4, 5):
        yield f"nccl_trace_rank_{protocol}", pickle.dumps(dump, protocol)
    yield "nccl_trace_rank_0", pickle.dumps([None, True, 1.5, 1 << 70, b"abc", {"a": {1, 2}}, ("x", "y" * 300)])


def databases() -> Iterator[Seed]:
    """Give an export of Nsight Systems with a step, a kernel and a collective."""
    with tempfile.TemporaryDirectory() as folder_name:
        path = Path(folder_name) / "report.sqlite"
        sql = sqlite3.connect(path)
        sql.executescript("""
            PRAGMA page_size = 512; PRAGMA synchronous = OFF;
            CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT);
            CREATE TABLE TARGET_INFO_SYSTEM_ENV (name TEXT, value TEXT);
            CREATE TABLE TARGET_INFO_SESSION_START_TIME (utcEpochNs INTEGER);
            CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER, end INTEGER, deviceId INTEGER, streamId INTEGER,
                correlationId INTEGER, globalPid INTEGER, demangledName INTEGER, shortName INTEGER);
            CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER, end INTEGER, globalTid INTEGER,
                correlationId INTEGER, nameId INTEGER);
            CREATE TABLE NVTX_EVENTS (start INTEGER, end INTEGER, eventType INTEGER, globalTid INTEGER, text TEXT,
                textId INTEGER, jsonText TEXT, binaryData BLOB);
            INSERT INTO StringIds VALUES (1, 'gemm'), (2, 'ncclDevKernel_AllReduce_Sum_f32_RING_LL(x)'),
                (3, 'cudaLaunchKernel');
            INSERT INTO TARGET_INFO_SYSTEM_ENV VALUES ('Hostname', 'node3');
            INSERT INTO TARGET_INFO_SESSION_START_TIME VALUES (1790857026000000000);
            INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (10, 60, 0, 7, 1, 79054241792, 1, 1),
                (70, 90, 0, 7, 2, 79054241792, 2, 2);
            INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (5, 8, 79054241793, 1, 3), (9, 12, 79054241793, 2, 3);
            INSERT INTO NVTX_EVENTS VALUES (1, 100, 59, 79054241793, 'step 1', NULL, NULL, NULL),
                (65, 95, 59, 79054241793, 'ncclAllReduce', NULL, '{"Message size [bytes]": 1024}', NULL);
        """)
        sql.commit()
        sql.close()
        yield path.name, path.read_bytes()


def truths() -> Iterator[Seed]:
    """Give what a simulated fleet says of itself."""
    yield "truth.json", b'{"schema": "skewscope.truth/1", "faults": []}'


def own_traces() -> Iterator[Seed]:
    """Give the head of a trace that skewscope writes."""
    yield "trace.json", b'{"displayTimeUnit": "ms", "metadata": {"schema": "skewscope.trace/1"}, "traceEvents": [\n]}'


def arrays() -> Iterator[Seed]:
    """Give arrays of numpy in several layouts."""
    for name, array in {
        "counts.npy": np.arange(12).reshape(3, 4),
        "picks.npy": np.asfortranarray(np.ones((2, 3), "f4")),
        "text.npy": np.array("abc"),
    }.items():
        place = io.BytesIO()
        np.save(place, array)
        yield name, place.getvalue()
    for save in (np.savez, np.savez_compressed):
        place = io.BytesIO()
        save(place, counts=np.arange(12).reshape(3, 4), names=np.array("abc"))
        yield "counts.npz", place.getvalue()


def safetensors() -> Iterator[Seed]:
    """Give a file of two arrays."""
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "a": {"dtype": "I64", "shape": [2, 1], "data_offsets": [0, 16]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": [16, 24]},
        }
    ).encode()
    yield "rank0.safetensors", len(header).to_bytes(8, "little") + header + bytes(range(24))


def pages() -> Iterator[Seed]:
    """Give pages of metrics, of Prometheus and of OpenMetrics."""
    lines = (
        "# HELP vllm:num_requests_running Requests.",
        "# TYPE vllm:num_requests_running gauge",
        'vllm:num_requests_running{engine="0",model_name="m"} 3.0',
        'vllm:e2e_request_latency_seconds_bucket{le="0.5",model_name="m"} 2',
        'vllm:e2e_request_latency_seconds_bucket{le="+Inf",model_name="m"} 4',
        'vllm:e2e_request_latency_seconds_sum{model_name="m"} 1.5',
        "node_load1 0.25",
        'node_cpu_seconds_total{cpu="0",mode="idle"} 1.25e+06 1700000000000',
        "",
        "# 1700000001.5",
        'DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",Hostname="n\\"1"} 99',
        'a_total{b="c"} 1 1700000000.5 # {trace_id="x"} 0.5 1.0',
        "# EOF",
    )
    yield "page.prom", "\n".join(lines).encode()


def web_files() -> Iterator[Seed]:
    """Give web configurations without certificates."""
    yield (
        "web.yml",
        (
            b"basic_auth_users:\n  ada: $2b$04$u5Kx0zqJ0Yb8yZ9n3xXo1e5F1nqQe1d7u0y7q1cM4R2n8yCzjV1Ge\n"
            b"http_server_config:\n  http2: false\n  headers:\n"
            b"    X-Frame-Options: deny\n    Strict-Transport-Security: max-age=1\n"
            b"rate_limit:\n  interval: 500ms\n  burst: 10\n"
        ),
    )
    yield (
        "web.yml",
        (
            b"tls_server_config: {cert_file: a.crt, key_file: a.key, min_version: TLS12,\n"
            b"  client_auth_type: NoClientCert,\n"
            b"  client_allowed_sans: [a, 'b'], cipher_suites: [TLS_AES_128_GCM_SHA256], curve_preferences: [X25519]}\n"
        ),
    )


def policies() -> Iterator[Seed]:
    """Give the template of a policy, and one with schedulers."""
    yield "policy.toml", template().encode()
    yield (
        "policy.toml",
        (
            b'schema = "skewscope.policy/1"\nmode = "approve"\n[budget]\nnodes_at_once = 3\n'
            b'[schedulers.slurm]\nmode = "act"\nnodes = ["n1", "n2"]\n'
            b'[schedulers.slurm.groups."gpu*"]\nmode = "observe"\nnodes = ["n1*"]\n'
            b'[calendar]\ntimezone = "Europe/Berlin"\n'
            b"windows = ['Mon-Fri 08:00-18:00']\nfreezes = ['2026-12-20 00:00/2027-01-02 08:00']\n"
            b"[ladder]\nstarts = { S1 = 'drain' }\n"
        ),
    )


def scenarios() -> Iterator[Seed]:
    """Give the two smallest scenarios of the simulator."""
    found = sorted(
        (one.read_bytes(), one.name)
        for one in (files("skewscope.simulate") / "scenarios").iterdir()
        if one.name.endswith("toml")
    )
    yield from ((name, data) for data, name in sorted(found, key=lambda one: len(one[0]))[:2])


def requests() -> Iterator[Seed]:
    """Give requests as clients send them, one behind the other."""
    yield (
        "a",
        b"GET /metrics HTTP/1.1\r\nHost: a:9400\r\nAccept: text/plain;q=0.5\r\n"
        b"Authorization: Basic YTpi\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    )
    yield "b", b"HEAD http://a/b?c=d%20e HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
    yield "c", b"GET /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n"
    yield (
        "d",
        b"GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nExpect: 100-continue\r\n\r\n",
    )


def audits() -> Iterator[Seed]:
    """Give an audit of three lines."""
    clock: Callable[[], Any] = iter(range(1, 99)).__next__
    lines = MemoryLines()
    audit = Audit(lines, clock)
    for number in range(3):
        audit.append("held", act=f"a{number}", detail="quoted \u2028", params={"node": "n1", "share": 0.5})
    yield "audit.jsonl", bytes(lines.data)
