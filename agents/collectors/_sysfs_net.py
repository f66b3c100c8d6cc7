"""Which network interfaces count, and which port of an RDMA device each one is."""

from __future__ import annotations

import os
import re

from . import _sysfs

_REPRESENTOR = re.compile(r"(c\d+)?pf\d+(vf|sf)\d+")  # the switch's end of a virtual function


def interfaces(sys: str) -> list[str]:
    """Return the physical interfaces; virtual ones only where there is nothing else, the loopback never."""
    found = [name for name in _sysfs.names(f"{sys}/class/net") if name != "lo" and _is_interface(sys, name)]
    physical = [name for name in found if os.path.exists(f"{sys}/class/net/{name}/device")]
    return [name for name in physical if not _stands_for_another(sys, name)] or found


def _is_interface(sys: str, name: str) -> bool:
    return os.path.isdir(f"{sys}/class/net/{name}")  # bonding_masters is a file


def _stands_for_another(sys: str, name: str) -> bool:
    folder = f"{sys}/class/net/{name}"
    # A virtual function that the host still sees serves nobody; in its container it has no physfn.
    return os.path.exists(f"{folder}/device/physfn") or bool(
        _REPRESENTOR.fullmatch(_sysfs.text(f"{folder}/phys_port_name"))
    )


def interface_of(sys: str, device: str, port: str) -> str:
    """Return the interface of one port of an RDMA device, empty where it has none."""
    folder = f"{sys}/class/infiniband/{device}"
    named = _sysfs.text(f"{folder}/ports/{port}/gid_attrs/ndevs/0")  # RoCE says it; InfiniBand answers EINVAL
    if named:
        return named
    candidates = _sysfs.names(f"{folder}/device/net")
    for name in candidates:
        if _port_of(f"{folder}/device/net/{name}") == port:
            return name
    return candidates[0] if len(candidates) == 1 else ""


def ports(sys: str) -> dict[str, tuple[str, str]]:
    """Return interface -> (RDMA device, port)."""
    found: dict[str, tuple[str, str]] = {}
    for device in _sysfs.names(f"{sys}/class/infiniband"):
        for port in _sysfs.names(f"{sys}/class/infiniband/{device}/ports"):
            found.setdefault(interface_of(sys, device, port), (device, port))
    found.pop("", None)
    return found


def port_labels(sys: str, interface: str, known: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """Return (device, port) of an interface: those of its RDMA device, else its own name and port number."""
    return known.get(interface) or (interface, _port_of(f"{sys}/class/net/{interface}") or "1")


def _port_of(folder: str) -> str:
    number = _sysfs.text(f"{folder}/dev_port")
    return str(int(number) + 1) if number.isdecimal() else ""
