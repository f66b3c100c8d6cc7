from __future__ import annotations

import ctypes
import importlib.util
import os
from pathlib import Path

import pytest

from skewscope.catalogue import load, room
from skewscope.contracts import Place
from skewscope.errors import NoData

_spec = importlib.util.spec_from_file_location("fake_proc", Path(__file__).parents[1] / "fake_proc.py")
fake = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake)

LINES = {
    "nvswitch_sxid": ["nvidia-nvswitch3: SXid (PCI:0000:05:00.0): 20034, Fatal, Link 30 LTSSM Fault Up"],
    "nic_firmware": [
        "mlx5_core 0000:4b:00.0: wait_func:1137:(pid 99): ACCESS_REG(0x805) timeout. Will cause a leak of a command",
        "mlx5_core 0000:4b:00.0: mlx5_cmd_out_err:830:(pid 9): CREATE_MKEY(0x200) op_mode(0x0) failed, status bad",
        "mlx5_core 0000:4b:00.0: mlx5_fw_fatal_reporter_err_work:700: health recovery flow aborted",
    ],
    "nic_health": [
        "mlx5_core 0000:4b:00.0: poll_health:825:(pid 0): Fatal error 1 detected",
        "mlx5_core 0000:4b:00.0: poll_health:840:(pid 0): device's health compromised - reached miss count",
        "mlx5_core 0000:4b:00.0: mlx5_pcie_event:301:(pid 5): Detected insufficient power on the PCIe slot (27W).",
        "mlx5_core 0000:4b:00.0: Port module event[error]: module 0, Cable error, High Temperature",
        "NETDEV WATCHDOG: eth0 (mlx5_core): transmit queue 3 timed out",
    ],
    "pcie": [
        "pcieport 0000:00:01.0: PCIe Bus Error: severity=Corrected, type=Data Link Layer, (Transmitter ID)",
        "pcieport 0000:00:01.0: DPC: containment event, status:0x1f01 source:0x0000",
        "pcieport 0000:00:01.0: pciehp: Slot(3): Link Down",
    ],
    "hung_task": ["INFO: task python:4242 blocked for more than 122 seconds."],
    "soft_lockup": [
        "watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [python:1]",
        "rcu: INFO: rcu_sched self-detected stall on CPU",
        "watchdog: Watchdog detected hard LOCKUP on cpu 3",
    ],
    "readonly_fs": ["EXT4-fs (sda1): Remounting filesystem read-only"],
    "nfs": ["nfs: server store not responding, still trying"],
    "oom": [
        "Out of memory: Killed process 77 (python) total-vm:1kB",
        "Memory cgroup out of memory: Killed process 78 (python)",
    ],
    "mce": ["mce: [Hardware Error]: Machine check events logged", "EDAC MC0: 1 CE memory read error on DIMM_A1"],
}
HARMLESS = [
    "mlx5_core 0000:4b:00.0: firmware version: 28.39.1002",
    "mlx5_core 0000:4b:00.0: mlx5_cmd_out_err:830:(pid 9): ACCESS_REG(0x805) op_mode(0x0) failed, status bad operation",
    "nfs: server store OK",
    "mlx5_core 0000:4b:00.0 eth0: Link up",
    "pcieport 0000:00:01.0: AER: Corrected error message received from 0000:01:00.0",
    "EXT4-fs (vda): mounted filesystem without journal",
]


class Log:
    """A kernel log in a file: records as /dev/kmsg gives them."""

    def __init__(self, host):
        self.path = fake.write(host.dev / "kmsg", "6,1,1000,-;Linux version 6\n")
        self.number = 1

    def say(self, *texts, skip=0, dictionary=""):
        with self.path.open("a") as file:
            for text in texts:
                self.number += 1 + skip
                file.write(f"4,{self.number},{self.number * 1000},-;{text}\n{dictionary}")


@pytest.fixture
def host(tmp_path):
    return fake.FakeHost(tmp_path)


def _messages(found):
    return {category: count for (category,), count in found["kernel_messages_total"].items() if count}


@pytest.mark.parametrize("category", LINES)
def test_each_category_by_its_lines(host, category):
    log = Log(host)
    collector = host.collector("kernel-log")
    assert _messages(fake.values(collector)) == {}
    log.say(*LINES[category], *HARMLESS, dictionary=" SUBSYSTEM=pci\n DEVICE=+pci:0000:00:01.0\n")
    assert _messages(fake.values(collector)) == {category: len(LINES[category])}
    assert _messages(fake.values(collector)) == {category: len(LINES[category])}


def test_what_was_there_before_the_agent_does_not_count(host):
    log = Log(host)
    log.say("NVRM: Xid (PCI:0000:1b:00): 79, GPU has fallen off the bus.", *LINES["oom"])
    found = fake.values(host.collector("kernel-log"))
    assert _messages(found) == {} and "gpu_xid_errors_total" not in found


def test_xids_find_their_gpu(host):
    host.gpus([0], [1])
    log, collector = Log(host), host.collector("kernel-log")
    fake.values(collector)
    log.say("NVRM: Xid (PCI:0000:1c:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.")
    log.say("NVRM: Xid (0000:1c:00): 79, GPU has fallen off the bus.")
    log.say("NVRM: Xid (PCI:0000:1b:00 GPU-I:01): 45, pid=7, name=python, Ch 00000008")
    log.say("NVRM: Xid (PCI:0000:99:00): 13, pid=7, name=python")
    found = fake.values(collector)
    assert found["gpu_xid_errors_total"] == {
        ("1", "GPU-1", "79", "kmsg"): 2, ("0", "GPU-0", "45", "kmsg"): 1, ("", "", "13", "kmsg"): 1,
    }  # fmt: skip
    assert found["kernel_xid_last_timestamp_seconds"]["1", "GPU-1", "79"] == host.clocks.now_s
    assert _messages(found) == {}


def test_xids_of_unknown_gpus_are_summed_until_they_are_known(host):
    log, collector = Log(host), host.collector("kernel-log")
    fake.values(collector)
    log.say("NVRM: Xid (PCI:0000:1b:00): 31, x", "NVRM: Xid (PCI:0000:1c:00): 31, x")
    assert fake.values(collector)["gpu_xid_errors_total"] == {("", "", "31", "kmsg"): 2}
    host.gpus([0], [1])
    assert fake.values(collector)["gpu_xid_errors_total"] == {
        ("0", "GPU-0", "31", "kmsg"): 1, ("1", "GPU-1", "31", "kmsg"): 1,
    }  # fmt: skip


def test_overwritten_records_are_counted(host):
    log, collector = Log(host), host.collector("kernel-log")
    log.say("one")
    fake.values(collector)
    log.say("two")
    log.say("three", skip=5)
    assert fake.values(collector)["kernel_messages_lost_total"] == {(): 5}


def test_a_line_that_is_cut_waits_for_its_end(host):
    log, collector = Log(host), host.collector("kernel-log")
    fake.values(collector)
    with log.path.open("a") as file:
        file.write("4,9,9,-;Out of memory: Ki")
    assert _messages(fake.values(collector)) == {}
    with log.path.open("a") as file:
        file.write("lled process 1\n\x00\xff;;;\nnonsense\n")
    assert _messages(fake.values(collector)) == {"oom": 1}


def test_hung_tasks_come_from_the_log_where_the_kernel_does_not_count(host, tmp_path):
    log, collector = Log(host), host.collector("kernel-log")
    fake.values(collector)
    log.say(*LINES["hung_task"])
    assert fake.values(collector)["host_hung_tasks_total"] == {(): 1}
    other = fake.FakeHost(tmp_path / "other")
    Log(other)
    fake.write(other.proc / "sys/kernel/hung_task_detect_count", "0\n")
    assert "host_hung_tasks_total" not in fake.values(other.collector("kernel-log"))


def test_a_flood_is_taken_in_turns_and_nothing_is_lost(host):
    module = load("agents.collectors.kernel_log")
    log, collector = Log(host), host.collector("kernel-log")
    fake.values(collector)
    records = module.MOST_RECORDS * module.RECORD_BYTES // 4000
    log.say(*[LINES["oom"][0].ljust(4090)] * records)
    first = _messages(fake.values(collector))["oom"]
    assert first < records
    assert _messages(fake.values(collector))["oom"] == records


def test_a_pipe_is_read_without_waiting(host):
    host.dev.mkdir(parents=True)
    os.mkfifo(host.dev / "kmsg")
    collector = host.collector("kernel-log")
    assert _messages(fake.values(collector)) == {}
    writer = os.open(host.dev / "kmsg", os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(writer, b"4,1,1,-;" + LINES["oom"][0].encode() + b"\n")
        assert _messages(fake.values(collector)) == {"oom": 1}
        assert _messages(fake.values(collector)) == {"oom": 1}
    finally:
        os.close(writer)


def test_no_log_is_no_data(host):
    with pytest.raises(NoData, match="no kernel log here"):
        host.collector("kernel-log").collect()


def test_a_forbidden_log_names_the_capability(host):
    Log(host).path.chmod(0)
    collector = host.collector("kernel-log")
    if os.geteuid() != 0:
        with pytest.raises(NoData, match="CAP_SYSLOG"):
            collector.collect()
        return
    child = os.fork()  # root may read anything; its child gives that up for its file system accesses alone
    if child == 0:
        ctypes.CDLL(None).setfsuid(65534)
        try:
            collector.collect()
        except NoData as nothing:
            os._exit("CAP_SYSLOG" not in str(nothing))
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not os.access("/dev/kmsg", os.R_OK), reason="the kernel log is not open to us")
def test_the_real_log_is_read_from_its_end_without_waiting():
    collector = room("agents.collectors", "kernel-log").kind()(Place())
    try:
        found = fake.values(collector)
    except NoData as nothing:
        pytest.skip(str(nothing))
    assert found["kernel_messages_lost_total"] == {(): 0}
    assert len(found["kernel_messages_total"]) == len(LINES)
