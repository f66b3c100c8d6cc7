from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from skewscope.errors import UsageError
from skewscope.web import _address as address_module
from skewscope.web import server as server_module

http = SimpleNamespace(**run_path(str(Path(__file__).with_name("_http.py"))))
GET, pages, serving, read_reply, ask = http.GET, http.pages, http.serving, http.read_reply, http.ask


@pytest.mark.parametrize("listen", ["localhost:0", "[::1]:0", "127.0.0.1:0"])
def test_loopback_addresses_serve(listen: str):
    if "::1" in listen and not has_ipv6():
        pytest.skip("no IPv6 here")
    with serving(listen) as server:
        assert ask(server, GET)[0] == 200


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("listen", [":0", "0.0.0.0:0"])
def test_all_addresses_want_tls_or_a_word(listen: str):
    with pytest.raises(UsageError, match="--web-config .*--web-allow-plain"):
        server_module.Server(listen, pages).start()
    with serving(listen, allow_plain=True) as server:
        port = server.address[1]
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(GET)
            assert read_reply(sock)[0] == 200


@pytest.mark.parametrize("listen", ["9709", "host", "::1:9709", "127.0.0.1:", "127.0.0.1:x", "a:70000", "a:²", "unix:"])
def test_what_is_no_address_is_told(listen: str):
    with pytest.raises(UsageError, match="HOST:PORT"):
        server_module.Server(listen, pages)


def test_bind_errors_name_the_address_and_the_mend():
    with serving() as server:
        text = f"127.0.0.1:{server.address[1]}"
        with pytest.raises(UsageError, match=rf"{text}: Address already in use; .*ss -tlnp.*another port"):
            server_module.Server(text, pages).start()
    with pytest.raises(UsageError, match="no such address"):
        server_module.Server("192.0.2.7:0", pages, allow_plain=True).start()
    with pytest.raises(UsageError, match="no known host"):
        server_module.Server("no-such-host.invalid:0", pages, allow_plain=True).start()


def test_a_unix_socket_is_for_owner_and_group(tmp_path: Path):
    path = tmp_path / "agent.sock"
    before = os.umask(0o077)
    try:
        with serving(f"unix:{path}") as server:
            assert server.address == (f"unix:{path}", 0)
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert path.stat().st_uid == os.geteuid()
            assert ask(server, GET)[0] == 200
            with pytest.raises(UsageError, match="in use"):
                server_module.Server(f"unix:{path}", pages).start()
            assert ask(server, GET)[0] == 200
    finally:
        os.umask(before)
    assert not path.exists()


def test_the_socket_file_of_a_dead_agent_is_replaced(tmp_path: Path):
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with serving(f"unix:{path}") as server:
        assert ask(server, GET)[0] == 200
        os.rename(path, tmp_path / "moved")
        path.write_text("of another")
    assert path.read_text() == "of another"


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path):
    path = tmp_path / "agent.sock"
    path.write_text("precious")
    with pytest.raises(UsageError, match="left alone"):
        server_module.Server(f"unix:{path}", pages).start()
    assert path.read_text() == "precious"
    with pytest.raises(UsageError, match="make its folder"):
        server_module.Server(f"unix:{tmp_path}/none/agent.sock", pages).start()
    with pytest.raises(UsageError, match="path too long"):
        server_module.Server(f"unix:{tmp_path}/{'x' * 108}", pages).start()


def test_only_loopback_is_not_exposed():
    inside = [(socket.AF_INET, "127.3.2.1"), (socket.AF_INET6, "::1"), (socket.AF_UNIX, "")]
    outside = [(socket.AF_INET, "10.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "fe80::1%eth0")]
    assert not any(map(address_module.exposed, inside))
    assert all(map(address_module.exposed, outside))
