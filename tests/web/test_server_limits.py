from __future__ import annotations

import logging
import os
import re
import resource
import socket
import threading
import time
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from skewscope.web import server as server_module

http = SimpleNamespace(**run_path(str(Path(__file__).with_name("_http.py"))))
Reply, BODY, GET, DEADLINE_S, pages = http.Reply, http.BODY, http.GET, http.DEADLINE_S, http.pages
serving, connect, read_reply, ask, until_end = http.serving, http.connect, http.read_reply, http.ask, http.until_end
wait_for = http.wait_for


def test_a_slow_head_is_cut_off():
    with serving(header_timeout_s=0.2) as server, connect(server) as sock, connect(server) as silent:
        begun_s = time.monotonic()
        sock.sendall(GET[:12])
        trickle = threading.Thread(target=_trickle, args=(sock,))
        trickle.start()
        assert until_end(sock).startswith(b"HTTP/1.1 408 ")
        assert until_end(silent) == b""
        assert time.monotonic() - begun_s < 2.0
        trickle.join(DEADLINE_S)


def _trickle(sock: socket.socket) -> None:
    try:
        for _ in range(200):
            sock.sendall(b"x")
            time.sleep(0.01)
    except OSError:
        pass  # cut off, as it should be


def test_a_slow_second_head_is_cut_off_too():
    with serving(header_timeout_s=0.2, idle_timeout_s=60.0) as server, connect(server) as sock:
        sock.sendall(GET + GET[:20])  # in one piece: the second begins unseen
        rest = read_reply(sock)[3]
        assert (rest + until_end(sock)).startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_ends_after_its_own_time():
    with serving(header_timeout_s=0.1, idle_timeout_s=0.4) as server, connect(server) as sock:
        sock.sendall(GET)
        read_reply(sock)
        idle_s = time.monotonic()
        assert until_end(sock) == b""
        assert 0.3 < time.monotonic() - idle_s < 3.0


def test_a_client_that_does_not_read_is_given_up():
    with serving(page=lambda *_: Reply(200, "x", bytes(30_000_000)), write_timeout_s=0.2) as server:
        with connect(server) as sock:
            sock.sendall(GET)
            wait_for(lambda: open_connections(server) == 1)
            wait_for(lambda: open_connections(server) == 0)


def open_connections(server) -> int:
    return len(server._open)


def test_connections_beyond_the_cap_are_told_so():
    counted, may_end = [], threading.Event()

    def slow(path: str, headers: dict[str, str]) -> Reply:
        may_end.wait(DEADLINE_S)
        return Reply(200, "text/plain", BODY)

    with serving(page=slow, max_connections=2, on_reply=lambda *reply: counted.append(reply)) as server:
        with connect(server) as one, connect(server) as two:
            one.sendall(GET)
            two.sendall(GET)
            wait_for(
                lambda: all(not other.speaking_since_s for other in server._open) and open_connections(server) == 2
            )
            with connect(server) as three:
                three.sendall(GET)
                assert until_end(three).startswith(b"HTTP/1.1 503 ")
            may_end.set()
            assert read_reply(one)[0] == 200
        wait_for(lambda: open_connections(server) == 0)
        assert ask(server, GET)[0] == 200
    assert ("", 503) in counted


def test_half_of_the_room_is_for_who_says_all_at_once():
    with serving(max_connections=4, header_timeout_s=600.0) as server, connect(server) as one, connect(server) as two:
        one.sendall(GET[:10])
        two.sendall(GET[:10])
        wait_for(lambda: open_connections(server) == 2)
        with connect(server) as three:
            three.sendall(GET[:10])
            assert until_end(three).startswith(b"HTTP/1.1 503 ")
        two.sendall(GET[10:])
        assert read_reply(two)[0] == 200
        assert [ask(server, GET)[0] for _ in range(3)] == [200] * 3


def test_who_still_speaks_makes_room_for_who_has_said_all():
    with serving(max_connections=2, header_timeout_s=600.0) as server, connect(server) as one:
        one.sendall(GET)
        read_reply(one)
        with connect(server) as two:
            two.sendall(GET)
            read_reply(two)
            for count, slow in enumerate((one, two), 1):
                slow.sendall(GET[:10])
                wait_for(lambda count=count: sum(other.speaking_since_s > 0 for other in server._open) == count)
            assert ask(server, GET)[0] == 200
            assert until_end(one) == b""
            two.sendall(GET[10:])
            assert read_reply(two)[0] == 200


def test_an_idle_connection_makes_room():
    with serving(max_connections=2) as server, connect(server) as old:
        old.sendall(GET)
        read_reply(old)
        with connect(server) as busy:
            busy.sendall(GET[:10])
            wait_for(lambda: open_connections(server) == 2)
            assert ask(server, GET)[0] == 200
            assert until_end(old) == b""
            busy.sendall(GET[10:])
            assert read_reply(busy)[0] == 200


def http_threads() -> int:
    return sum(thread.name == "http" for thread in threading.enumerate())


def test_a_storm_of_scrapes_leaves_nothing_behind():
    before, descriptors = http_threads(), len(os.listdir("/proc/self/fd"))
    outcomes: list[int] = []

    def scrape() -> None:
        try:
            outcomes.append(ask(server, GET)[0])
        except (OSError, EOFError):
            outcomes.append(0)

    with serving(max_connections=8) as server:
        for _ in range(2):
            clients = [threading.Thread(target=scrape) for _ in range(100)]
            for client in clients:
                client.start()
            assert http_threads() - before <= 9
            for client in clients:
                client.join(DEADLINE_S)
        assert set(outcomes) <= {200, 503, 0} and outcomes.count(200) > 150
        wait_for(lambda: http_threads() - before <= 2)
    assert (http_threads(), len(os.listdir("/proc/self/fd"))) == (before, descriptors)


def test_memory_stays_flat_over_many_connections():
    def grown_kib() -> int:
        return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1])

    with serving() as server:
        for _ in range(100):
            ask(server, GET)
        before_kib = grown_kib()
        for _ in range(1000):
            ask(server, GET)
    assert grown_kib() - before_kib < 1500


def test_without_further_threads_clients_are_served_in_turn(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with serving() as server:

        def none_left(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", none_left)
        with connect(server) as one, connect(server) as two:
            one.sendall(GET)
            two.sendall(GET)
            assert read_reply(one)[0] == 200
            one.close()
            assert read_reply(two)[0] == 200
        assert "no further thread" in caplog.text


def test_what_fails_in_one_connection_is_told_and_ends_no_other(caplog: pytest.LogCaptureFixture):
    def count(path: str, status: int) -> None:
        if status == 404:
            raise RuntimeError("a counter that fails")

    with serving(on_reply=count) as server:
        with connect(server) as sock:
            sock.sendall(GET.replace(b"/metrics", b"/none"))
            assert until_end(sock) == b""
        for _ in range(3):
            assert ask(server, GET)[0] == 200
    assert "a counter that fails" in caplog.text


def test_running_out_of_descriptors_ends_nothing(caplog: pytest.LogCaptureFixture):
    with serving() as server, socket.socket() as one, socket.socket() as two:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = os.dup(0)
        os.close(lowest_free)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
            for client in (one, two):  # the first may get a descriptor that was set aside for it
                client.settimeout(DEADLINE_S)
                client.connect(server.address)
                client.sendall(GET)
            wait_for(lambda: "no connection can be taken" in caplog.text)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert read_reply(one)[0] == read_reply(two)[0] == 200
    assert len(caplog.records) == 1


def test_stopping_is_prompt_and_finishes_a_reply():
    holding, asked = threading.Event(), threading.Event()

    def slow(path: str, headers: dict[str, str]) -> Reply:
        asked.set()
        holding.wait(0.3)
        return Reply(200, "text/plain", BODY)

    with serving(page=slow) as server, connect(server) as busy, connect(server) as silent:
        busy.sendall(GET)
        assert asked.wait(DEADLINE_S)
        wait_for(lambda: open_connections(server) == 2)
        begun_s = time.monotonic()
        server.stop()
        assert time.monotonic() - begun_s < 1.5
        assert read_reply(busy)[2] == BODY
        assert until_end(busy) == until_end(silent) == b""
        with pytest.raises(ConnectionRefusedError):
            connect(server)
    server.stop()


def test_stopping_before_starting_is_nothing():
    server_module.Server("127.0.0.1:0", pages).stop()


def test_a_broken_client_is_no_news(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO), serving(page=lambda *_: Reply(200, "x", bytes(5_000_000))) as server:
        for _ in range(5):
            sock = connect(server)
            sock.sendall(GET)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # a reset at the end
            sock.close()
        wait_for(lambda: open_connections(server) == 0)
    assert not caplog.records
