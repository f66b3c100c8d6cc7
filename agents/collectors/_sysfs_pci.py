"""Where PCI devices stand in the tree of bridges."""

from __future__ import annotations

import os
import re

from . import _sysfs

_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


def is_address(name: str) -> bool:
    """Return whether a name is a PCI address as sysfs writes it.

    >>> is_address("0000:1b:00.0"), is_address("pci0000:1b")
    (True, False)
    """
    return _ADDRESS.fullmatch(name) is not None


def address(bus_id: str) -> str:
    """Return a PCI bus id in the form of sysfs; the driver of the GPU writes it longer and in capitals.

    >>> address("00000000:1B:00.0")
    '0000:1b:00.0'
    """
    domain, _, rest = bus_id.strip().lower().partition(":")
    return f"{domain.lstrip('0').rjust(4, '0')}:{rest}"


def chain(link: str) -> tuple[str, ...]:
    """Return the way from the host bridge down to a device: `pci0000:15`, bridges, the device.

    `link` is its entry in a folder of a class or bus, which names all of that; what is no PCI device gives nothing.
    """
    try:
        parts = os.readlink(link).split("/")
    except OSError:
        return ()
    starts = [at for at, part in enumerate(parts) if re.fullmatch(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}", part)]
    if not starts:
        return ()
    way = [parts[starts[-1]]]
    for part in parts[starts[-1] + 1 :]:
        if not is_address(part):
            break
        way.append(part)
    return tuple(way)


def numa_node(folder: str) -> str:
    """Return the number of the NUMA node next to a device, empty where the machine does not say."""
    found = _sysfs.text(f"{folder}/numa_node")
    return found if found.isdecimal() else ""


def level(one: tuple[str, ...], two: tuple[str, ...], one_numa: str, two_numa: str) -> str:
    """Return how near two devices are, from their chains and NUMA nodes.

    >>> root = ("pci0000:15", "0000:15:01.0", "0000:16:00.0")
    >>> level((*root, "0000:17:00.0"), (*root, "0000:17:01.0"), "0", "0")
    'same_switch'
    >>> level(("pci0000:15", "0000:15:01.0"), ("pci0000:15", "0000:15:02.0"), "0", "0")
    'same_root'
    >>> level(("pci0000:15",), ("pci0000:26",), "0", "0"), level(("pci0000:15",), ("pci0000:26",), "0", "1")
    ('same_numa', 'system')
    """
    shared = len(os.path.commonprefix([one, two]))
    if shared > 1:
        return "same_switch"
    if shared == 1:
        return "same_root"
    return "same_numa" if one_numa and one_numa == two_numa else "system"
