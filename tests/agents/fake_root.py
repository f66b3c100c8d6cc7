"""Builds a /sys and a /proc like those of a GPU node: RDMA and Ethernet adapters, GPUs, PCI bridges, TCP.

Two sockets with two host bridges each. GPU i and RDMA device i stand below one switch; two switches share a host
bridge. Files are changed in place, so descriptors that were opened before see the change, as with the kernel's.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skewscope.contracts import Collector, Place
from skewscope.metrics import metric

COUNTERS = (
    "VL15_dropped", "excessive_buffer_overrun_errors", "link_downed", "link_error_recovery",
    "local_link_integrity_errors", "multicast_rcv_packets", "multicast_xmit_packets", "port_rcv_constraint_errors",
    "port_rcv_data", "port_rcv_errors", "port_rcv_packets", "port_rcv_remote_physical_errors",
    "port_rcv_switch_relay_errors", "port_xmit_constraint_errors", "port_xmit_data", "port_xmit_discards",
    "port_xmit_packets", "port_xmit_wait", "symbol_error", "unicast_rcv_packets", "unicast_xmit_packets",
)  # fmt: skip
HW_COUNTERS = (
    "duplicate_request", "implied_nak_seq_err", "local_ack_timeout_err", "np_cnp_sent", "np_ecn_marked_roce_packets",
    "out_of_buffer", "out_of_sequence", "packet_seq_err", "req_cqe_error", "req_cqe_flush_error",
    "req_remote_access_errors", "req_remote_invalid_request", "req_rnr_retries_exceeded",
    "req_transport_retries_exceeded", "resp_cqe_error", "resp_cqe_flush_error", "rnr_nak_retry_err",
    "roce_adp_retrans", "roce_adp_retrans_to", "roce_slow_restart", "roce_slow_restart_cnps",
    "roce_slow_restart_trans", "rp_cnp_handled", "rp_cnp_ignored", "rx_atomic_requests", "rx_icrc_encapsulated",
    "rx_read_requests", "rx_write_requests",
)  # fmt: skip
STATISTICS = tuple(
    f"{way}_{what}" for way in ("rx", "tx") for what in ("bytes", "packets", "errors", "dropped", "fifo_errors")
)
AER = {
    "correctable": ("RxErr", "BadTLP", "BadDLLP", "Rollover", "Timeout", "NonFatalErr", "CorrIntErr", "HeaderOF"),
    "nonfatal": ("Undefined", "DLP", "SDES", "TLP", "FCP", "CmpltTO", "CmpltAbrt", "UnxCmplt", "RxOF", "MalfTLP"),
    "fatal": ("Undefined", "DLP", "SDES", "TLP", "FCP", "CmpltTO", "CmpltAbrt", "UnxCmplt", "RxOF", "MalfTLP"),
}
TOTALS = {"correctable": "TOTAL_ERR_COR", "nonfatal": "TOTAL_ERR_NONFATAL", "fatal": "TOTAL_ERR_FATAL"}
SNMP = {
    "Ip": {"Forwarding": 2, "DefaultTTL": 64, "InReceives": 900},
    "Tcp": {
        "RtoAlgorithm": 1, "RtoMin": 200, "RtoMax": 120000, "MaxConn": -1, "ActiveOpens": 22, "PassiveOpens": 7,
        "AttemptFails": 1, "EstabResets": 2, "CurrEstab": 5, "InSegs": 7982, "OutSegs": 5016, "RetransSegs": 3,
        "InErrs": 0, "OutRsts": 26, "InCsumErrors": 0,
    },
    "Udp": {"InDatagrams": 41, "NoPorts": 0},
}  # fmt: skip
NETSTAT = {
    "TcpExt": {
        "SyncookiesSent": 0, "ListenOverflows": 4, "ListenDrops": 6, "TCPLostRetransmit": 1, "TCPFastRetrans": 2,
        "TCPSlowStartRetrans": 0, "TCPTimeouts": 9, "TCPLossProbes": 1, "TCPAbortOnTimeout": 0, "TCPBacklogDrop": 0,
        "TCPOFODrop": 0, "TCPSynRetrans": 1, "TCPZeroWindowDrop": 0, "TCPRcvQDrop": 0,
        "TCPDSACKOldSent": 8,
    },
    "IpExt": {"InNoRoutes": 0, "InOctets": 327421926},
}  # fmt: skip
NETWORK_CLASS, GPU_CLASS, BRIDGE_CLASS = "0x020000", "0x030200", "0x060400"


class Clock:
    """A clock that a test sets; seconds."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class FakeRoot:
    """The two trees below `root`. Names are those of the class folders: `mlx5_0`, `eno1`, `0000:18:00.0`."""

    root: Path
    hcas: list[str] = field(default_factory=list)
    gpus: list[str] = field(default_factory=list)  # PCI addresses
    interfaces: dict[str, dict[str, int]] = field(default_factory=dict)  # name -> STATISTICS
    snmp: dict[str, dict[str, int]] = field(default_factory=lambda: _copied(SNMP))
    netstat: dict[str, dict[str, int]] = field(default_factory=lambda: _copied(NETSTAT))

    @property
    def sys(self) -> Path:
        return self.root / "sys"

    @property
    def proc(self) -> Path:
        return self.root / "proc"

    def place(self, **more: Any) -> Place:
        """Return the place of a collector in these trees."""
        return Place(**{"proc": self.proc, "sys": self.sys, **more})

    def write(self, path: str | Path, text: Any) -> Path:
        """Write a file below the root in place, with a newline at its end; folders are made."""
        file = self.root / path
        self._write(str(file), text)
        return file

    def _write(self, file: str, text: Any) -> None:
        """Do so without pathlib: a tree has a thousand files."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        try:
            descriptor = os.open(file, flags)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(file), exist_ok=True)
            descriptor = os.open(file, flags)
        os.write(descriptor, f"{text}\n".encode())
        os.close(descriptor)

    def counter(self, device: str, name: str, port: int = 1) -> Path:
        """Return the file of a counter of an RDMA device, wherever it stands."""
        folder = self.sys / "class/infiniband" / device / "ports" / str(port)
        places = [folder / "hw_counters" / name, folder / "counters" / name]
        return next((place for place in places if place.exists()), places[0])

    def set(self, device: str, name: str, value: Any, port: int = 1) -> None:
        """Set a counter of an RDMA device, or of an interface if it is one."""
        if device in self.interfaces and name in STATISTICS:
            self.interfaces[device][name] = int(value)
            self.write(f"sys/class/net/{device}/statistics/{name}", value)
            self._write_net_dev()
        else:
            self.write(self.counter(device, name, port), value)

    def bump(self, device: str, name: str, by: int = 1, port: int = 1) -> None:
        """Let a counter go on."""
        now = self.interfaces.get(device, {}).get(name)
        self.set(device, name, (int(self.counter(device, name, port).read_text()) if now is None else now) + by, port)

    def remove_counter(self, device: str, name: str, port: int = 1) -> None:
        """Take a counter away, as on a device that does not have it."""
        self.counter(device, name, port).unlink()

    def bump_tcp(self, name: str, by: int = 1) -> None:
        """Let a number of /proc/net/snmp or /proc/net/netstat go on."""
        for table in (*self.snmp.values(), *self.netstat.values()):
            if name in table:
                table[name] += by
        self._write_tcp()

    def link_down(self, device: str, port: int = 1) -> None:
        """Take a link down: that of an RDMA device and its interface, or of an interface."""
        self._link(device, port, up=False)

    def link_up(self, device: str, port: int = 1) -> None:
        """Bring it up again."""
        self._link(device, port, up=True)

    def _link(self, device: str, port: int, *, up: bool) -> None:
        folder = self.sys / "class/infiniband" / device / "ports" / str(port)
        if folder.exists():
            self.write(folder / "state", "4: ACTIVE" if up else "1: DOWN")
            self.write(folder / "phys_state", "5: LinkUp" if up else "3: Disabled")
            if not up:
                self.bump(device, "link_downed")
            interface = next(iter(os.listdir(self.sys / f"class/infiniband/{device}/device/net")), "")
        else:
            interface = device
        net = self.sys / "class/net" / interface
        if interface and net.exists():
            self.write(net / "operstate", "up" if up else "down")
            self.write(net / "carrier", int(up))
            self.write(net / "speed", 400_000 if up else -1)
            self.write(net / "carrier_changes", int((net / "carrier_changes").read_text()) + 1)

    def remove_device(self, name: str) -> None:
        """Pull out an RDMA device, an interface, or the PCI device of an address, with all that hangs below it."""
        for folder in (f"class/infiniband/{name}/device", f"class/net/{name}/device", f"bus/pci/devices/{name}"):
            if (self.sys / folder).exists():
                shutil.rmtree((self.sys / folder).resolve())
                break
        self._drop_dangling()
        self.interfaces = {name: numbers for name, numbers in self.interfaces.items() if self._has(name)}
        self._write_net_dev()

    def _has(self, interface: str) -> bool:
        return (self.sys / "class/net" / interface).exists()

    def _drop_dangling(self) -> None:
        for folder in ("class/infiniband", "class/net", "bus/pci/devices"):
            for link in (self.sys / folder).iterdir():
                if not link.exists():
                    link.unlink()

    def degrade(self, address: str, lanes: int, speed: str = "32.0 GT/s PCIe") -> None:
        """Let the link of a PCI device, and so of the bridge above it, be narrower or slower."""
        device = (self.sys / "bus/pci/devices" / address).resolve()
        for end in (device, device.parent):
            self.write(end / "current_link_width", lanes)
            self.write(end / "current_link_speed", speed)

    def set_aer(self, address: str, severity: str, errors: int) -> None:
        """Set the AER errors of a PCI device, all of the first kind."""
        _write_aer(self, self.sys / "bus/pci/devices" / address, severity, errors)

    def board_gpus(self) -> list[dict[str, Any]]:
        """Return the GPUs as the driver's collector leaves them for others."""
        return [
            {"slot": slot, "uuid": f"GPU-{slot:08x}", "pci_bus_id": f"0000{address}".upper()}
            for slot, address in enumerate(self.gpus)
        ]

    def address_of(self, device: str) -> str:
        """Return the PCI address of an RDMA device."""
        return (self.sys / "class/infiniband" / device / "device").resolve().name

    def add_pci(self, folder: Path, *, vendor: str, kind: str, numa: int, lanes: int = 16) -> Path:
        """Add a PCI device or bridge in its folder below sys/devices."""
        facts = {
            "vendor": vendor, "class": kind, "numa_node": numa, "current_link_width": lanes, "max_link_width": lanes,
            "current_link_speed": "32.0 GT/s PCIe", "max_link_speed": "32.0 GT/s PCIe",
        }  # fmt: skip
        for name, value in facts.items():
            self._write(f"{folder}/{name}", value)
        for severity in AER:
            _write_aer(self, folder, severity, 0)
        _link(self.sys / "bus/pci/devices" / folder.name, folder)
        return folder

    def add_interface(self, name: str, device: Path, *, dev_port: int = 0) -> None:
        """Add a network interface to a PCI device."""
        folder = device / "net" / name
        facts = {
            "operstate": "up", "carrier": 1, "carrier_changes": 2, "speed": 400_000, "duplex": "full",
            "dev_port": dev_port, "phys_port_name": "p0", "mtu": 4200,
        }  # fmt: skip
        for key, value in facts.items():
            self._write(f"{folder}/{key}", value)
        self.interfaces[name] = {key: 1000 * at for at, key in enumerate(STATISTICS)}
        for key, number in self.interfaces[name].items():
            self._write(f"{folder}/statistics/{key}", number)
        _link(folder / "device", device)
        _link(self.sys / "class/net" / name, folder)
        self._write_net_dev()

    def add_hca(self, name: str, device: Path, *, layer: str = "InfiniBand", interface: str = "") -> None:
        """Add an RDMA device with one port to a PCI device."""
        folder = device / "infiniband" / name
        port = folder / "ports/1"
        facts = {"state": "4: ACTIVE", "phys_state": "5: LinkUp", "rate": "400 Gb/sec (4X NDR)", "link_layer": layer}
        for key, value in facts.items():
            self._write(f"{port}/{key}", value)
        for at, key in enumerate(COUNTERS):
            self._write(f"{port}/counters/{key}", 1000 * at)
        for at, key in enumerate(HW_COUNTERS):
            self._write(f"{port}/hw_counters/{key}", at)
        self.write(port / "hw_counters/lifespan", 10)
        self.write(folder / "fw_ver", "28.39.1002")
        self.write(folder / "board_id", "MT_0000000838")
        if interface:
            self.add_interface(interface, device)
            if layer == "Ethernet":
                self.write(port / "gid_attrs/ndevs/0", interface)
        _link(folder / "device", device)
        _link(self.sys / "class/infiniband" / name, folder)
        self.hcas.append(name)

    def _write_net_dev(self) -> None:
        lines = ["Inter-|   Receive  |  Transmit", " face |bytes packets errs drop ... |bytes packets errs drop ..."]
        for name, numbers in {"lo": dict.fromkeys(STATISTICS, 0), **self.interfaces}.items():
            ways = [
                [numbers[f"{way}_{what}"] for what in ("bytes", "packets", "errors", "dropped")] for way in ("rx", "tx")
            ]
            lines.append(f"{name:>6}: " + " ".join(f"{' '.join(map(str, way))} 0 0 0 0" for way in ways))
        self.write("proc/net/dev", "\n".join(lines))

    def _write_tcp(self) -> None:
        for name, tables in (("snmp", self.snmp), ("netstat", self.netstat)):
            lines = [
                f"{prefix}: {' '.join(map(str, row))}"
                for prefix, table in tables.items()
                for row in (table.keys(), table.values())
            ]
            self.write(f"proc/net/{name}", "\n".join(lines))


@contextmanager
def memory() -> Iterator[Path]:
    """Give a folder in memory where there is such a thing: on a disk, a tree of a thousand files takes seconds."""
    shared = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as folder:
        yield Path(folder)


def told(collector: Collector) -> dict[str, dict[tuple[str, ...], float]]:
    """Return metric -> labels -> value of one run, after checks: declared, each series once, labels all text."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for name, labels, value, *_ in collector.collect():
        declared = metric(name)
        assert name in collector.exports and len(labels) == len(declared.labels), name
        for label, said in zip(declared.labels, labels, strict=True):
            assert isinstance(said, str) and said in declared.values.get(label, (said,)), (name, label, said)
        series = found.setdefault(name, {})
        assert labels not in series, f"{name}{labels} comes twice"
        series[labels] = value
    return found


def build(root: Path, hcas: int = 8, gpus: int = 8) -> FakeRoot:
    """Return a node of so many GPUs, RDMA devices (the last two RoCE, others InfiniBand) and the interface `eno1`."""
    made = FakeRoot(root)
    for folder in ("class/infiniband", "class/net/lo", "bus/pci/devices"):
        (made.sys / folder).mkdir(parents=True)
    for at in range(max(hcas, gpus)):
        numa, bus = at * 2 // max(hcas, gpus), 0x10 + 0x10 * at
        bridge = made.sys / "devices" / f"pci0000:{0x10 + 0x20 * (at // 2):02x}"
        root_port = bridge / f"0000:{0x10 + 0x20 * (at // 2):02x}:0{1 + at % 2}.0"
        switch = root_port / f"0000:{bus + 1:02x}:00.0"
        ports = [switch / f"0000:{bus + 2:02x}:0{one}.0" for one in range(2)]
        for one in (root_port, switch, *ports):
            made.add_pci(one, vendor="0x1000", kind=BRIDGE_CLASS, numa=numa)
        if at < gpus:
            made.gpus.append(f"0000:{bus + 3:02x}:00.0")
            made.add_pci(ports[0] / made.gpus[-1], vendor="0x10de", kind=GPU_CLASS, numa=numa)
        if at < hcas:
            nic = made.add_pci(ports[1] / f"0000:{bus + 4:02x}:00.0", vendor="0x15b3", kind=NETWORK_CLASS, numa=numa)
            roce = at >= hcas - 2
            made.add_hca(
                f"mlx5_{at}",
                nic,
                layer="Ethernet" if roce else "InfiniBand",
                interface=f"{'roce' if roce else 'ib'}{at}",
            )
    plain = made.sys / "devices/pci0000:00/0000:00:1c.0"
    made.add_pci(plain, vendor="0x8086", kind=BRIDGE_CLASS, numa=0, lanes=4)
    made.add_pci(plain / "0000:01:00.0", vendor="0x8086", kind=NETWORK_CLASS, numa=0, lanes=4)
    made.add_interface("eno1", plain / "0000:01:00.0")
    made._write_tcp()
    return made


def _copied(tables: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    return {name: dict(table) for name, table in tables.items()}


def _link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(os.path.relpath(target, place.parent))


def _write_aer(made: FakeRoot, folder: Path, severity: str, errors: int) -> None:
    kinds = AER[severity]
    rows = [f"{kind} {errors if kind == kinds[0] else 0}" for kind in kinds]
    made.write(folder / f"aer_dev_{severity}", "\n".join([*rows, f"{TOTALS[severity]} {errors}"]))
