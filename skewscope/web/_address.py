"""Where to listen: what `--listen` may say, and the socket that comes of it."""

from __future__ import annotations

import errno
import os
import socket
import stat
from dataclasses import dataclass

from skewscope.errors import UsageError

BACKLOG = 1024  # a crowd waits there; who finds it full tries again only after seconds
FORMS = "give HOST:PORT, [IPV6]:PORT, :PORT (all addresses) or unix:/PATH"
MENDS = {
    errno.EADDRINUSE: "another program has it: `ss -tlnp` shows which; stop it or choose another port",
    errno.EADDRNOTAVAIL: "this node has no such address: `ip address` shows what it has",
    errno.EACCES: "that is not allowed to this user: choose a port above 1023 or a folder that may be written",
    errno.ENOENT: "make its folder first",
}


@dataclass(frozen=True)
class Address:
    """Host and port, or the path of a Unix socket; an empty host is every address of the node."""

    text: str
    host: str = ""
    port: int = 0
    path: str = ""


def parse(text: str) -> Address:
    """Return the address that a text means; raises UsageError.

    >>> parse("[::1]:9709").host, parse(":9709").host, parse("unix:/run/skewscope.sock").path
    ('::1', '', '/run/skewscope.sock')
    """
    if text.startswith("unix:"):
        if not text[5:]:
            raise UsageError(f"cannot listen on {text!r}: the path is missing; {FORMS}")
        return Address(text, path=text[5:])
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535 or (":" in host and not bracketed):
        raise UsageError(f"cannot listen on {text!r}: that is no address with a port from 0 to 65535; {FORMS}")
    return Address(text, host[1:-1] if bracketed else host, int(port))


def exposed(where: tuple[socket.AddressFamily, str]) -> bool:
    """Return whether a numeric address can be reached from another machine.

    >>> exposed((socket.AF_INET, "127.0.0.1")), exposed((socket.AF_INET6, "::"))
    (False, True)
    """
    family, host = where
    if family == socket.AF_UNIX:
        return False
    if family == socket.AF_INET:
        return not host.startswith("127.")
    return socket.inet_pton(family, host.split("%")[0]) != socket.inet_pton(family, "::1")


def reachable(address: Address) -> bool:
    """Return whether other machines reach what listens there; raises UsageError for a host that nobody knows."""
    return not address.path and any(exposed(place) for place in _resolved(address))


def listener(address: Address, *, refuse_exposed: bool) -> socket.socket:
    """Return a socket that listens there; raises UsageError that says what to do."""
    if address.path:
        return _unix_listener(address)
    if refuse_exposed and reachable(address):
        raise UsageError(
            f"{address.text} can be reached from other machines, where everybody could read and change what is sent; "
            "give --web-config with tls_server_config, or --web-allow-plain if the network is trusted"
        )
    failed: OSError | None = None
    for family, host in _resolved(address):
        try:
            return _tcp_listener(family, host, address.port)
        except OSError as error:
            failed = failed or error
    raise _refusal(address, failed or OSError("no address"))


def identity(address: Address) -> tuple[int, int] | None:
    """Return (device, inode) of the file of a Unix socket, None where there is none."""
    try:
        found = os.lstat(address.path) if address.path else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found else None


def close(listening: socket.socket, address: Address, file: tuple[int, int] | None) -> None:
    """Close a listener, wake who waits in its accept, and remove its file unless another's stands there by now."""
    try:
        listening.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it never listened
    listening.close()
    if file is not None and identity(address) == file:
        os.unlink(address.path)


def _resolved(address: Address) -> list[tuple[socket.AddressFamily, str]]:
    """Return (family, numeric host) of an address, IPv4 first as Prometheus asks it first."""
    if not address.host:
        return [(socket.AF_INET6, "::")] if socket.has_dualstack_ipv6() else [(socket.AF_INET, "0.0.0.0")]  # noqa: S104 - guarded
    try:
        found = socket.getaddrinfo(_plain(address.host), address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"cannot listen on {address.text}: {address.host!r} is no known host ({error})") from error
    return sorted({(one[0], str(one[4][0])) for one in found})


def _plain(host: str) -> str | bytes:
    # Python would load the tables of international names (1 MiB) even for 127.0.0.1, if that came as text.
    return host.encode() if host.isascii() else host


def _tcp_listener(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is accepted inherits it
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        made.bind(socket.getaddrinfo(_plain(host), port, family, socket.SOCK_STREAM)[0][4])
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def _unix_listener(address: Address) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(address)
        os.fchmod(made.fileno(), 0o660)  # the file is born with the mode of its socket: it is never open to all
        made.bind(address.path)
        os.chmod(address.path, 0o660)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise _refusal(address, error) from error
    except UsageError:
        made.close()
        raise
    return made


def _clear(address: Address) -> None:
    """Remove the socket file of a server that is gone; raises UsageError where it is anything else."""
    try:
        if not stat.S_ISSOCK(os.lstat(address.path).st_mode):
            raise UsageError(f"cannot listen on {address.text}: that file is no socket and is left alone; move it")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(address.path)
        except ConnectionRefusedError:
            os.unlink(address.path)
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _refusal(address: Address, error: OSError) -> UsageError:
    mend = MENDS.get(error.errno or 0, FORMS)
    return UsageError(f"cannot listen on {address.text}: {error.strerror or error}; {mend}")
