"""The node-local service that NVRx asks: what it says of a node, over gRPC and HTTP, and what it does in trouble."""

from __future__ import annotations

import json
import socket
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from runpy import run_path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skewscope.actuators._nvhcd import METHOD, Response, answer
from skewscope.actuators.file import File
from skewscope.actuators.nvrx import Health, Nvrx, Said, Service, served
from skewscope.errors import UsageError

nasty = run_path(str(Path(__file__).with_name("_nasty.py")))
request, record = nasty["request"], nasty["record"]


@pytest.fixture
def verdicts(tmp_path: Path) -> Path:
    place = tmp_path / "v"
    place.mkdir()
    return place


def exclude(place: Path, node: str = "n1", **more):
    acting = Nvrx(folder=str(place), nodes=("n[1-3]", "n1.site"))
    command = acting.command(request("exclude", node, **more), acting.look())
    assert acting.apply(command, dry_run=False).result == "done"
    return acting, record(command.request, dict(command.undo))


def launcher_lets_in(said: Response) -> list[bool]:
    """Return what three versions of NVRx make of an answer, as their sources tell: 0.5, 0.7 and the newest."""
    try:
        told = json.loads(said.output)
    except ValueError:
        told = {}
    return [
        said.success and told.get("fail_count") == 0,
        said.success and not told.get("fail_count", 0) > 0,
        said.success and not told.get("failed_checks"),
    ]


def test_an_act_keeps_the_node_out_until_it_is_undone(verdicts: Path):
    health = Health(str(verdicts), "n1")
    assert launcher_lets_in(answer(health())) == [True] * 3
    acting, told = exclude(verdicts)
    assert launcher_lets_in(answer(health())) == [False] * 3
    assert health().checks == (request("exclude").reason,)
    assert launcher_lets_in(answer(Health(str(verdicts), "n2")())) == [True] * 3
    acting.apply(acting.undo(told, acting.look()), dry_run=False)
    assert launcher_lets_in(answer(health())) == [True] * 3


def test_it_can_only_exclude(verdicts: Path):
    acting = Nvrx(folder=str(verdicts), nodes=("n1",))
    assert acting.name == acting.look().scheduler == "nvrx"
    assert "can exclude" in acting.command(request("drain"), acting.look()).refused


def test_a_long_name_finds_the_file_of_its_first_part(verdicts: Path):
    exclude(verdicts)
    assert not Health(str(verdicts), "n1.cluster.site")().healthy
    exclude(verdicts, "n1.site", act="a2")
    assert not Health(str(verdicts), "n1.site")().healthy


def test_what_cannot_be_read_keeps_no_node_out(verdicts: Path):
    (verdicts / "n1.json").write_text("{")
    for place, node in ((verdicts, "n1"), (verdicts / "none", "n2"), ("http://127.0.0.1:1", "n1")):
        said = Health(str(place), node, timeout_s=0.5)()
        assert said.healthy and said.trouble and launcher_lets_in(answer(said)) == [True] * 3


def test_notes_keep_nobody_out(verdicts: Path):
    acting = File(folder=str(verdicts), nodes=("n1",))
    acting.apply(acting.command(request("note"), acting.look()), dry_run=False)
    assert Health(str(verdicts), "n1")() == Said("n1")


@contextmanager
def web(place: Path):
    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *words, **more):
            super().__init__(*words, directory=str(place), **more)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_verdicts_come_from_a_web_server_too(verdicts: Path):
    exclude(verdicts)
    with web(verdicts) as url:
        assert not Health(url, "n1")().healthy
        assert Health(f"{url}/", "n2")() == Said("n2")


@given(st.booleans(), st.integers(-(2**31), 2**31 - 1), st.text(max_size=300), st.text(max_size=9))
def test_a_response_survives_the_wire(success: bool, code: int, output: str, error: str):
    made = Response(success, code, output, error)
    assert Response.of(made.packed()) == made


@given(st.binary(max_size=40))
def test_what_is_no_response_is_a_value_error(packed: bytes):
    try:
        Response.of(packed)
    except ValueError:
        pass


def test_fields_of_other_kinds_are_passed_over():
    packed = (
        b"\x08\x01"
        + b"\x29"
        + b"x" * 8
        + b"\x35"
        + b"y" * 4
        + b"\x1a\x02{}"
        + b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    )
    assert Response.of(packed) == Response(True, -1, "{}")


def ask(path: Path, packed: bytes = b"\x0a\x07--group", timeout_s: float = 5.0) -> Response:
    grpc = pytest.importorskip("grpc")
    with grpc.insecure_channel(f"unix://{path}") as channel:
        return Response.of(channel.unary_unary(METHOD)(packed, timeout=timeout_s))


@contextmanager
def serving(*words, **more):
    pytest.importorskip("grpc")
    service = Service(*words, **more)
    service.start()
    try:
        yield service
    finally:
        service.stop()


def test_nvrx_is_answered_over_its_socket(verdicts: Path, tmp_path: Path):
    path = tmp_path / "health.sock"
    with serving(Health(str(verdicts), "n1"), f"unix://{path}"):
        assert path.stat().st_mode & 0o777 == 0o666
        assert ask(path) == Response(True, 0, '{"fail_count": 0, "failed_checks": [], "node": "n1"}')
        exclude(verdicts)
        said = ask(path)
        assert launcher_lets_in(said) == [False] * 3 and said.exit_code == 1
        assert json.loads(said.output)["failed_checks"][0].startswith("skewscope:c0ffee")
        with pytest.raises(UsageError, match="already"):
            Service(Health(str(verdicts), "n1"), str(path)).start()


def test_another_service_is_asked_where_ours_sees_no_harm(verdicts: Path, tmp_path: Path):
    grpc = pytest.importorskip("grpc")
    asked = []

    def theirs(packed: bytes, _) -> bytes:
        asked.append(packed)
        return Response(True, 0, '{"fail_count": 1, "failed_checks": ["ib"]}').packed()

    handler = grpc.method_handlers_generic_handler(
        "nvhcd.HealthCheckService", {"RunHealthCheck": grpc.unary_unary_rpc_method_handler(theirs)}
    )
    other = grpc.server(ThreadPoolExecutor(1), (handler,))
    other.add_insecure_port(f"unix://{tmp_path}/theirs.sock")
    other.start()
    ours = tmp_path / "ours.sock"
    try:
        with serving(Health(str(verdicts), "n1"), str(ours), f"{tmp_path}/theirs.sock"):
            assert not ask(ours).healthy and asked == [b"\x0a\x07--group"]
            exclude(verdicts)
            assert "skewscope" in ask(ours).output and len(asked) == 1
    finally:
        other.stop(0)
    with serving(Health(str(verdicts), "n2"), str(ours), f"{tmp_path}/gone.sock", upstream_timeout_s=0.5):
        said = ask(ours)
        assert said.healthy and said.error == "upstream does not answer"


def test_where_a_socket_cannot_be(tmp_path: Path):
    pytest.importorskip("grpc")
    health = Health(str(tmp_path), "n1")
    (tmp_path / "file").write_text("kept")
    for path in (tmp_path / "file", tmp_path / "none" / "x.sock", tmp_path / ("x" * 120)):
        with pytest.raises(UsageError, match="no socket"):
            Service(health, str(path)).start()
    assert (tmp_path / "file").read_text() == "kept"
    for bad in ("", "tcp://127.0.0.1:1"):
        with pytest.raises(UsageError):
            Service(health, bad)
    left = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(left))
    with serving(health, str(left)):
        assert ask(left).healthy


def test_without_grpcio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(UsageError, match=r"skewscope\[nvrx\]"):
        Service(lambda: Said("n1"), "/tmp/x.sock")


def status(url: str) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status, json.loads(reply.read() or b"{}")
    except urllib.error.HTTPError as error:
        body = error.read()
        return error.code, json.loads(body) if body.startswith(b"{") else {}


def test_the_same_over_http(verdicts: Path):
    server = served("127.0.0.1:0", Health(str(verdicts), "n1"), str(verdicts))
    url = f"http://127.0.0.1:{server.address[1]}"
    try:
        assert status(f"{url}/verdict") == (200, {"fail_count": 0, "failed_checks": [], "node": "n1"})
        exclude(verdicts)
        assert status(f"{url}/verdict")[0] == 503
        assert [status(f"{url}{path}")[0] for path in ("/other", "/advice", "/advice?job=x")] == [404, 400, 404]
        with urllib.request.urlopen(f"{url}/healthz", timeout=5) as reply:
            assert reply.status == 200
    finally:
        server.stop()
