import gzip
import os
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope import commands, kernel_messages
from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources import _kernel_log_times, gather
from skewscope.sources.kernel_log_text import NO_YEAR, NO_ZONE, KernelLogText

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

WRITTEN = datetime(2025, 2, 15, tzinfo=UTC)
XID = "NVRM: Xid (PCI:0000:1b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


def read(tmp_path, text, name="n5.dmesg.txt", written=WRITTEN):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.utime(path, (written.timestamp(), written.timestamp()))
    return KernelLogText().read(path)


def events(reading):
    found = frame("events", dict(reading.batches)["events"]) if reading.batches else []
    return found


def at(*when):
    return int(datetime(*when, tzinfo=UTC).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("line", "t_ns", "node"),
    [
        (f"[  123.500000] {XID}", -1, "n5"),
        (f"<4>[  123.500000] {XID}", -1, "n5"),
        (f"kern  :err   : [  123.500000] {XID}", -1, "n5"),
        (f"[  123.500000][    T1] {XID}", -1, "n5"),
        (f"[  123.500000] n7 kernel: {XID}", -1, "n7"),
        (f"4,77,123500000,-;{XID}", -1, "n5"),
        (f"[Fri Feb 14 05:03:41 2025] {XID}", at(2025, 2, 14, 5, 3, 41), "n5"),
        (f"2025-02-14T05:03:41,500000+00:00 {XID}", at(2025, 2, 14, 5, 3, 41) + 500_000_000, "n5"),
        (f"kern  :err   : 2025-02-14T07:03:41,500000+02:00 {XID}", at(2025, 2, 14, 5, 3, 41) + 500_000_000, "n5"),
        (f"2025-02-14T05:03:41+0000 n7 kernel: {XID}", at(2025, 2, 14, 5, 3, 41), "n7"),
        (f"2025-02-14T05:03:41.25+00:00 n7 kernel: [  123.5] {XID}", at(2025, 2, 14, 5, 3, 41) + 250_000_000, "n7"),
        (f"Fri 2025-02-14 05:03:41 UTC n7 kernel: {XID}", at(2025, 2, 14, 5, 3, 41), "n7"),
        (f"Feb 14 05:03:41 n7 kernel: {XID}", at(2025, 2, 14, 5, 3, 41), "n7"),
        (f"Feb 14 05:03:41.500000 n7 kernel: {XID}", at(2025, 2, 14, 5, 3, 41) + 500_000_000, "n7"),
        (f"Feb  4 05:03:41 n7 kernel: [  123.5] {XID}", at(2025, 2, 4, 5, 3, 41), "n7"),
        (f"Dec 31 23:59:59 n7 kernel: {XID}", at(2024, 12, 31, 23, 59, 59), "n7"),
        (f"1739509421.500000 n7 kernel: {XID}", 1739509421_500_000_000, "n7"),
        (XID, -1, "n5"),
    ],
)  # fmt: skip
def test_every_form_of_a_line(tmp_path, line, t_ns, node):
    reading = read(tmp_path, line + "\n")
    found = events(reading)
    assert found[["t_ns", "node", "device", "event", "code"]].values.tolist() == [[t_ns, node, "0000:1b:00", "xid", 79]]
    assert "fallen off the bus" in found["message"][0] and reading.node == node
    assert reading.status == "ok" and bool(reading.warnings) == (
        t_ns < 0 or not ("+" in line or "1739" in line or "UTC" in line)
    )


def test_times_since_boot_count_from_when_the_clock_was_set(tmp_path):
    text = (
        "[    0.000000] Linux version 6.8.0 (gcc)\n"
        f"[    3.000000] {XID}\n"
        "[    5.000000] rtc_cmos 00:01: setting system clock to 2025-02-14T05:00:00 UTC (1739509200)\n"
        "[  100.250000] INFO: task python:4242 blocked for more than 122 seconds.\n"
    )
    reading = read(tmp_path, text)
    found = events(reading)
    assert found["t_ns"].tolist() == [1739509198 * 10**9, 1739509295_250_000_000] and not reading.warnings
    assert found["event"].tolist() == ["xid", "kernel"] and found["message"][1].startswith("hung_task: INFO: task")


def test_unknown_times_stay_in_the_message(tmp_path):
    reading = read(tmp_path, f"[  123.500000] {XID}\n")
    assert events(reading)["message"][0].startswith("[123.500000 s after boot] NVRM: Xid")
    assert reading.warnings == [
        "1 events have times since boot only, and nothing tells when that was: `dmesg -T` would"
    ]
    reading = read(tmp_path, f"{XID}\n")
    assert reading.warnings == ["1 events without any time (line 1)"]


def test_years_run_over_new_year(tmp_path):
    lines = [f"{when} n7 kernel: NVRM: Xid (PCI:0000:1b:00): {code}, x" for when, code in (
        ("Dec 30 10:00:00", 1), ("Dec 31 10:00:00", 2), ("Jan  2 10:00:00", 3), ("Jan  1 23:00:00", 4),
        ("Feb 29 10:00:00", 5))]  # fmt: skip
    reading = read(tmp_path, "\n".join(lines) + "\n", written=datetime(2024, 3, 1, tzinfo=UTC))
    years = [datetime.fromtimestamp(t_ns / 1e9, UTC).year for t_ns in events(reading)["t_ns"]]
    assert years == [2023, 2023, 2024, 2024, 2024] and reading.warnings == [NO_YEAR, NO_ZONE]


CATEGORIES = {
    "nvswitch": "nvidia-nvswitch3: SXid (PCI:0000:05:00.0): 20034, Fatal, Link 30 LTSSM Fault Up",
    "nic_firmware": "mlx5_core 0000:4b:00.0: wait_func:1137:(pid 9): ACCESS_REG(0x805) timeout. Will cause a leak",
    "nic_health": "mlx5_core 0000:4b:00.0: Port module event[error]: module 0, Cable error, High Temperature",
    "pcie": "pcieport 0000:00:01.0: PCIe Bus Error: severity=Corrected, type=Data Link Layer, (Transmitter ID)",
    "hung_task": "INFO: task python:4242 blocked for more than 122 seconds.",
    "soft_lockup": "watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [python:1]",
    "nfs": "nfs: server store not responding, still trying",
    "oom": "Out of memory: Killed process 77 (python) total-vm:1kB",
    "readonly_fs": "EXT4-fs (sda1): Remounting filesystem read-only",
    "mce": "mce: [Hardware Error]: Machine check events logged",
}


def test_signs_of_trouble_by_category(tmp_path):
    text = "".join(f"[{at:5d}.000000] {line}\n" for at, line in enumerate(CATEGORIES.values()))
    found = events(read(tmp_path, text))
    assert found["event"].tolist() == ["sxid", *["kernel"] * 9] and found["code"].tolist() == [20034, *[-1] * 9]
    assert found["device"].tolist()[:4] == ["nvswitch3", "0000:4b:00.0", "0000:4b:00.0", "0000:00:01.0"]
    told = [message.split("] ")[1].split(": ")[0] for message in found["message"].tolist()[1:]]
    assert told == list(CATEGORIES)[1:] and set(told) <= set(kernel_messages.CATEGORIES)


@pytest.mark.parametrize(
    ("line", "device", "event"),
    [
        ("mlx5_core 0000:4b:00.0 eth0: Link down", "eth0", "link-down"),
        ("mlx5_core 0000:4b:00.0 ens1f0np0: Link up", "ens1f0np0", "link-up"),
        ("bnxt_en 0000:5e:00.0 ens2f0: NIC Link is Down", "ens2f0", "link-down"),
        ("mlx5_core 0000:ab:00.0 mlx5_5: Port: 1 Link DOWN", "mlx5_5", "link-down"),
        ("mlx5_core 0000:ab:00.0 mlx5_5: Port: 2 Link ACTIVE", "mlx5_5/2", "link-up"),
        ("pcieport 0000:00:01.0: pciehp: Slot(3): Link Down", "0000:00:01.0", "kernel"),
    ],
)
def test_links_go_down_and_up(tmp_path, line, device, event):
    found = events(read(tmp_path, f"[   12.000000] {line}\n"))
    assert found[["device", "event"]].values.tolist() == [[device, event]]


@pytest.mark.parametrize(
    "line",
    ["mlx5_core 0000:ab:00.0 mlx5_5: Port: 1 Link INIT", "ata1: SATA link down (SStatus 0 SControl 300)",
     "nfs: server store OK", "IPv6: ADDRCONF(NETDEV_CHANGE): ib0: link becomes ready",
     "mlx5_core 0000:4b:00.0: firmware version: 28"],
)  # fmt: skip
def test_harmless_lines(tmp_path, line):
    assert not len(events(read(tmp_path, f"[   12.000000] {line}\n")))


def test_one_trouble_told_by_several_lines_is_one_event(tmp_path):
    head = "nvidia-nvswitch3: SXid (PCI:0000:04:00.0): 22013,"
    text = (
        f"[   38.175561] {head} Data {{0x0000002b, 0x0000002b}}\n"
        f"[   38.178720] {head} Non-fatal, Link 44 Minion Link DLREQ interrupt\n"
        f"[   38.180708] {head} Severity 0 Engine instance 44\n"
        f"[   99.100000] NVRM: GPU 0000:9b:00.0: GPU has fallen off the bus.\n"
        f"[   99.100100] NVRM: Xid (PCI:0000:9b:00): 79, GPU has fallen off the bus.\n"
        f"[   99.100200] NVRM: GPU at PCI:0000:1b:00: GPU-ab12 has fallen off the bus.\n"
    )
    found = events(read(tmp_path, text))
    assert found[["device", "event", "code"]].values.tolist() == [
        ["nvswitch3", "sxid", 22013], ["0000:9b:00", "xid", 79], ["0000:1b:00", "xid", 79],
    ]  # fmt: skip
    assert "Non-fatal, Link 44" in found["message"][0] and "Xid" in found["message"][1]


def test_slices_of_gpus_and_codes_of_nvlink(tmp_path):
    text = (
        "[    1.000000] NVRM: Xid (PCI:0000:1b:00 GPU-I:01): 45, pid=7, name=python, Ch 00000008\n"
        "[    2.000000] NVRM: Xid (PCI:0018:01:00): 149, NETIR_LINK_EVT Fatal XC0 i0 Link 00 (0x026001c6 0x0)\n"
        "[    3.000000] NVRM: Xid (0000:1c:00): 31, Ch 00000010\n"
    )
    found = events(read(tmp_path, text))
    assert found[["device", "code"]].values.tolist() == [["0000:1b:00", 45], ["0018:01:00", 149], ["0000:1c:00", 31]]


def test_lines_of_other_programs_and_garbage_do_no_harm(tmp_path):
    text = (
        b"Feb 14 05:03:41 n7 systemd[1]: Out of memory: Killed process 1\n\xff\x00\xfe\n"
        + f"Feb 14 05:03:42 n7 kernel: {XID}\n".encode()
        + b"Foo 99 25:61:61 n7 kernel: x\n" + b"A" * 100_000 + b"\nFeb 14 05:03:4"
    )  # fmt: skip
    found = events(read(tmp_path, text))
    assert len(found) == 2 and found["t_ns"].tolist()[1] == at(2025, 2, 14, 5, 3, 42)


def test_a_cut_gzip_gives_what_it_holds(tmp_path):
    text = "".join(f"[{at:5d}.{at:06d}] {XID.replace('79', str(at % 90 + 1))}\n" for at in range(5000))
    whole = gzip.compress(text.encode())
    reading = read(tmp_path, whole[: len(whole) // 2], "n5.dmesg.gz")
    assert reading.status == "partial" and 500 < reading.events < 5000


def test_what_is_no_log_is_not_claimed(tmp_path):
    sniff = KernelLogText().sniff
    assert sniff(f"[    1.000000] {XID}\n".encode(), "x") > 0.8 and sniff(b"[1.5] step\n[2.5] step\n", "x") < 0.5
    assert sniff(b'[{"ph": "X"}]', "dmesg.txt") == 0 and sniff(b"step 1\nstep 2\n", "kern.log") == 0
    with pytest.raises(Unreadable):
        read(tmp_path, "step 1\nstep 2\n")


def test_gpus_get_their_names_from_the_node_s_other_recordings(tmp_path):
    (tmp_path / "n5.prom").write_text(
        'skewscope_gpu_info{gpu="3",uuid="GPU-a",pci_bus_id="00000000:1B:00.0"} 1 1700000000000\n'
        'skewscope_rdma_info{device="mlx5_2",port="1",pci_bus_id="0000:4b:00.0"} 1 1700000000000\n'
        'skewscope_gpu_info{gpu="3",instance="n6",pci_bus_id="00000000:1C:00.0"} 1 1700000000000\n'
    )
    text = f"[    1.000000] {XID}\n[    2.000000] {CATEGORIES['nic_health']}\n" + f"[    3.000000] {XID}\n".replace(
        "1b", "1c"
    )
    (tmp_path / "n5.dmesg.txt").write_text(text)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/n5.dmesg.txt").write_text(text)
    recording = gather([tmp_path])
    assert recording.tables["events"]["device"].tolist() == ["gpu3", "mlx5_2", "0000:1c:00"]
    assert sorted(item.status for item in recording.inputs) == ["ok", "ok", "unreadable"]


@given(
    st.binary(max_size=80), st.sampled_from(["[   12.000000] ", "Feb 14 05:03:41 n kernel: ", "2025-02-14T05:03:41Z "])
)
def test_no_line_breaks_the_splitter(line, head):
    found = _kernel_log_times.split(head.encode() + line)
    assert found is not None and found.text in head.encode() + line
    _kernel_log_times.split(line)


def test_a_log_alone_can_be_converted_and_analysed(tmp_path, capsys):
    (tmp_path / "n5.dmesg.txt").write_text(f"[Fri Feb 14 05:03:41 2025] {XID}\n")
    assert commands.main(["convert", str(tmp_path / "n5.dmesg.txt"), "--out", str(tmp_path / "out")]) == 0
    assert "events.parquet  1 rows" in capsys.readouterr().out
    assert commands.main(["analyze", str(tmp_path / "n5.dmesg.txt")]) == 0
    assert "1 of 1 files read: kernel-log-text" in capsys.readouterr().out


ISO, EPOCH, BOOT = "iso", "epoch", "boot"
messages = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=5)


@drawn
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from([ISO, EPOCH, BOOT]), st.sampled_from(["n7", "a-b.c"]),
                       st.integers(0, 255), st.integers(1, 78), messages), min_size=1, max_size=5),
    st.sampled_from(["\n", "\r\n"]),
)  # fmt: skip
def test_every_xid_holds_what_was_written(tmp_path, told, line_end):
    """Lines without a time of day keep that since boot in the message; those between are of no concern."""
    lines, want = [], []
    for second, form, host, bus, code, word in told:
        text = f"NVRM: Xid (PCI:0000:{bus:02x}:00): {code}, {word}"
        moment = datetime.fromtimestamp(1_739_500_000 + second, UTC)
        head = {ISO: f"{moment:%Y-%m-%dT%H:%M:%S}+00:00 {host} kernel: ", BOOT: f"[{second:5d}.250000] ",
                EPOCH: f"{1_739_500_000 + second}.000000 {host} kernel: "}[form]  # fmt: skip
        lines += [head + text, head + "usb 1-1: new device"]
        t_ns, node = (-1, "") if form == BOOT else ((1_739_500_000 + second) * 10**9, host)
        since = f"[{second}.250000 s after boot] " if form == BOOT else ""
        want.append((t_ns, node, f"0000:{bus:02x}:00", "xid", code, since + text))
    nodes = [node for _, node, *_ in want if node] or ["n5"]
    reading = read(tmp_path, line_end.join(lines) + line_end)
    rows = events(reading)[["t_ns", "node", "device", "event", "code", "message"]]
    assert list(rows.itertuples(index=False, name=None)) == [
        (t_ns, node or nodes[0], *rest) for t_ns, node, *rest in want
    ]


def test_half_a_code_at_the_end_is_no_event(tmp_path):
    text = f"[  123.500000] {XID}\n[  124.500000] NVRM: Xid (PCI:0000:1b:00): 31"
    reading = read(tmp_path, text)
    assert events(reading)["code"].tolist() == [79] and reading.status == "partial"
    with pytest.raises(Unreadable, match="no end"):
        read(tmp_path, XID)
