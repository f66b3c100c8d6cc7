import gzip
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope import commands
from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources import gather
from skewscope.sources.exposition_page import ExpositionPage

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

T0 = 1_700_000_000
OWN = """# HELP skewscope_gpu_power_watts Power drawn
# TYPE skewscope_gpu_power_watts gauge
skewscope_gpu_power_watts{gpu="0",uuid="GPU-a",kind="average"} 512.5
skewscope_gpu_power_watts{gpu="1",uuid="GPU-b",kind="average"} NaN
# TYPE skewscope_gpu_info gauge
skewscope_gpu_info{gpu="0",uuid="GPU-a",pci_bus_id="00000000:1B:00.0",model="H100, 80GB"} 1
# TYPE skewscope_rdma_errors_total counter
skewscope_rdma_errors_total{device="mlx5_0",port="1",error="symbol"} 7
# TYPE skewscope_steps_total counter
skewscope_steps_total{job_id="j1",rank="3",gpu="0"} 41
# TYPE skewscope_step_duration_seconds histogram
skewscope_step_duration_seconds_bucket{job_id="j1",le="+Inf"} 41 # {rank="3"} 0.5 1700000000.000
skewscope_collector_last_success_timestamp_seconds{collector="pcie"} 1700000000.25
"""
DCGM = """# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-a",pci_bus_id="00000000:1B:00.0",device="nvidia0",modelName="H100",Hostname="n7"} %(clock)s
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a",device="nvidia0",Hostname="n7"} 97
# TYPE DCGM_FI_DEV_POWER_VIOLATION counter
DCGM_FI_DEV_POWER_VIOLATION{gpu="0",Hostname="n7"} 2500000000
# TYPE DCGM_FI_DEV_CLOCK_THROTTLE_REASONS gauge
DCGM_FI_DEV_CLOCK_THROTTLE_REASONS{gpu="0",Hostname="n7"} 68
# TYPE DCGM_FI_DEV_XID_ERRORS gauge
DCGM_FI_DEV_XID_ERRORS{gpu="0",Hostname="n7",err_code="%(xid)s",err_msg="x"} %(xid)s
# TYPE DCGM_FI_DEV_MEMORY_TEMP gauge
DCGM_FI_DEV_MEMORY_TEMP{gpu="0",Hostname="n7"} 9223372036854775794
# TYPE DCGM_FI_PROF_PCIE_TX_BYTES gauge
DCGM_FI_PROF_PCIE_TX_BYTES{gpu="0",Hostname="n7"} %(rate)s
# TYPE DCGM_FI_DEV_VGPU_LICENSE_STATUS gauge
DCGM_FI_DEV_VGPU_LICENSE_STATUS{gpu="0",Hostname="n7"} 0
# TYPE DCGM_FI_PROF_SM_ACTIVE gauge
DCGM_FI_PROF_SM_ACTIVE{gpu="0",GPU_I_PROFILE="1g.10gb",GPU_I_ID="7",Hostname="n7"} 0.5
DCGM_FI_PROF_SM_ACTIVE{gpu="0",Hostname="n7"} 0.75
"""  # noqa: E501
NODE = """# TYPE node_uname_info gauge
node_uname_info{domainname="(none)",machine="x86_64",nodename="n9",release="6.1"} 1
node_time_seconds 1.70000003e+09
node_infiniband_state_id{device="mlx5_0",port="1"} 4
node_infiniband_physical_state_id{device="mlx5_0",port="2"} 3
node_infiniband_port_data_received_bytes_total{device="mlx5_0",port="1"} 1.8527668e+07
node_infiniband_roce_adp_retransmits_total{device="mlx5_0",port="1"} 5
node_ethtool_received_prio3_pause_duration{device="ens1f0"} 2.5e+06
node_ethtool_transmitted_pci_signal_integrity{device="ens1f0"} 2
node_network_carrier_changes_total{device="ens1f0"} 4
node_network_carrier_changes_total{device="veth12ab"} 9
node_network_speed_bytes{device="ens1f1"} -125000
node_pressure_io_stalled_seconds_total 159.229614
node_timex_maxerror_seconds 0.25
node_cpu_seconds_total{cpu="0",mode="idle"} 10
node_cpu_seconds_total{cpu="1",mode="idle"} 32.5
node_cpu_scaling_frequency_hertz{cpu="0"} 2e+09
node_cpu_scaling_frequency_hertz{cpu="1"} 3e+09
node_vmstat_pswpin 10
node_disk_read_bytes_total{device="nvme0n1"} 4096
node_disk_read_bytes_total{device="dm-0"} 4096
node_pcidevice_info{segment="0000",bus="3b",device="00",function="0",parent_segment="0000",parent_bus="3a",parent_device="01",parent_function="0",class_id="0x030200"} 1
node_pcidevice_info{segment="0000",bus="00",device="02",function="1",parent_segment="*",parent_bus="*",parent_device="*",parent_function="*",class_id="0x0c0330"} 1
node_pcidevice_current_link_width{segment="0000",bus="3b",device="00",function="0"} 8
node_pcidevice_current_link_width{segment="0000",bus="3a",device="01",function="0"} 8
node_pcidevice_current_link_width{segment="0000",bus="00",device="02",function="1"} 1
node_pcidevice_max_link_width{segment="0000",bus="3b",device="00",function="0"} -1
node_mountstats_nfs_operations_requests_total{export="s:/a",mountaddr="1",operation="READ",protocol="tcp"} 3
node_mountstats_nfs_operations_requests_total{export="s:/a",mountaddr="1",operation="GETATTR",protocol="tcp"} 4
node_mountstats_nfs_operations_requests_total{export="s:/a",mountaddr="1",operation="LOOKUP",protocol="tcp"} 5
node_load1 0.21
"""  # noqa: E501


def read(tmp_path, text, name="n5.prom", mtime=T0 + 99):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.utime(path, (mtime, mtime))
    return ExpositionPage().read(path)


def tables(reading):
    return {name: frame(name, columns) for name, columns in reading.batches}


def rows(reading):
    """Return {(metric, labels, node, device, job, rank): [(t_s, value)]}."""
    found = {}
    for row in tables(reading)["samples"].to_dict("records"):
        key = tuple(row[name] for name in ("metric", "labels", "node", "device", "job", "rank"))
        found.setdefault(key, []).append((round(row["t_ns"] / 1e9, 3), row["value"]))
    return found


def one(reading, name, labels="", device="", node=None):
    (found,) = [
        values
        for key, values in rows(reading).items()
        if key[0] == name and key[1] == labels and key[3] == device and node in (None, key[2])
    ]
    return found


def test_pages_of_the_agent(tmp_path):
    reading = read(tmp_path, OWN)
    assert reading.node == "n5" and reading.status == "ok" and not reading.warnings
    assert rows(reading) == {
        ("skewscope_gpu_power_watts", "kind=average", "n5", "gpu0", "", -1): [(T0 + 0.25, 512.5)],
        ("skewscope_gpu_info", "pci_bus_id=00000000:1B:00.0,model=H100; 80GB", "n5", "gpu0", "", -1):
            [(T0 + 0.25, 1.0)],
        ("skewscope_rdma_errors_total", "error=symbol", "n5", "mlx5_0", "", -1): [(T0 + 0.25, 7.0)],
        ("skewscope_steps_total", "", "n5", "gpu0", "j1", 3): [(T0 + 0.25, 41.0)],
        ("skewscope_step_duration_seconds_bucket", "le=+Inf", "n5", "", "j1", -1): [(T0 + 0.25, 41.0)],
        ("skewscope_collector_last_success_timestamp_seconds", "collector=pcie", "n5", "", "", -1):
            [(T0 + 0.25, T0 + 0.25)],
    }  # fmt: skip
    assert reading.job["devices"] == [("n5", "0000:1b:00", "gpu0")]


def test_pages_of_dcgm_exporter(tmp_path):
    text = "".join(
        f"{T0 + 30 * at}\n" + DCGM % {"clock": clock, "xid": xid, "rate": rate}
        for at, (clock, xid, rate) in enumerate([(1980, 31, 1e9), (1200, 31, 2e9), (1200, 79, 4e9)])
    )
    reading = read(tmp_path, text)
    assert reading.node == "n7"
    assert one(reading, "skewscope_gpu_clock_hertz", "domain=sm", "gpu0") == [
        (T0, 1.98e9), (T0 + 30, 1.2e9), (T0 + 60, 1.2e9),
    ]  # fmt: skip
    assert one(reading, "skewscope_gpu_utilization_ratio", "", "gpu0")[0] == (T0, 0.97)
    assert one(reading, "skewscope_gpu_clock_event_seconds_total", "reason=sw_power_cap", "gpu0")[0] == (T0, 2.5)
    on = {
        key[1] for key, values in rows(reading).items() if key[0] == "skewscope_gpu_clock_event_active" and values[0][1]
    }
    assert on == {"reason=sw_power_cap", "reason=hw_thermal"}
    assert [value for _, value in one(reading, "skewscope_gpu_pcie_transmit_bytes_total", "", "gpu0")] == [
        0.0, 60e9, 180e9,
    ]  # fmt: skip
    assert one(reading, "skewscope_gpu_sm_active_ratio", "", "gpu0")[0] == (T0, 0.75)
    assert not [key for key in rows(reading) if key[0] == "skewscope_gpu_temperature_celsius"]  # blank
    events = tables(reading)["events"]
    assert events[["t_ns", "node", "device", "event", "code"]].values.tolist() == [
        [-1, "n7", "gpu0", "xid", 31], [(T0 + 60) * 10**9, "n7", "gpu0", "xid", 79],
    ]  # fmt: skip
    assert reading.warnings == ["1 series of 1 names without a meaning here (DCGM_FI_DEV_VGPU_LICENSE_STATUS)"]


def test_the_names_of_dcgm_4_6_and_newer_labels(tmp_path):
    text = (
        'DCGM_FI_DEV_GPU_TEMP_CELSIUS{gpu="1",uuid="GPU-b",hostname="n8"} 61\n'
        'DCGM_FI_DEV_BOARD_POWER_WATTS{gpu="1",hostname="n8"} 400.5\n'
        'DCGM_FI_PROF_TENSOR_UTIL_RATIO{gpu="1",hostname="n8"} 0.4\n'
        'DCGM_FI_DEV_THERMAL_VIOLATION{gpu="1",hostname="n8"} 7000000000\n'
        'DCGM_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN_NS{gpu="1",hostname="n8"} 3000000000\n'
        'DCGM_FI_DEV_NVLINK_REPLAY_ERROR_PER_LINK_TOTAL{nvlink="4",gpu="1",hostname="n8"} 2\n'
        'DCGM_FI_DEV_NVSWITCH_TEMP_CELSIUS{nvswitch="0",hostname="n8"} 50\n'
    )
    reading = read(tmp_path, text)
    assert one(reading, "skewscope_gpu_temperature_celsius", "sensor=gpu", "gpu1", "n8") == [(T0 + 99, 61.0)]
    assert one(reading, "skewscope_gpu_power_watts", "kind=average", "gpu1") == [(T0 + 99, 400.5)]
    assert one(reading, "skewscope_gpu_tensor_active_ratio", "", "gpu1") == [(T0 + 99, 0.4)]
    assert one(reading, "skewscope_gpu_clock_event_seconds_total", "reason=sw_thermal", "gpu1") == [(T0 + 99, 3.0)]
    assert one(reading, "skewscope_gpu_nvlink_link_errors_total", "link=4,error=replay", "gpu1") == [(T0 + 99, 2.0)]


def test_counted_xids(tmp_path):
    def page(t, count):
        rest = 'DCGM_FI_DEV_XID_ERRORS{gpu="0",hostname="n"} 74\n'
        labels = 'gpu="0",window_size_in_ms="300000",xid="74",hostname="n"'
        return f"{t}\nDCGM_EXP_XID_ERRORS_COUNT{{{labels}}} {count}\n{rest}"

    text = "".join(page(T0 + 60 * at, count) for at, count in enumerate([1, 1, 3, 2]))
    events = tables(read(tmp_path, text))["events"]
    assert events["t_ns"].tolist() == [T0 * 10**9, (T0 + 120) * 10**9] and events["code"].tolist() == [74, 74]


def test_pages_of_node_exporter(tmp_path):
    reading = read(tmp_path, NODE)
    assert reading.node == "n9"
    found = {key[:2] + key[3:4]: values for key, values in rows(reading).items()}
    assert {t_s for values in found.values() for t_s, _ in values} == {T0 + 30}
    assert {key: values[0][1] for key, values in found.items()} == {
        ("skewscope_rdma_port_up", "layer=logical", "mlx5_0"): 1.0,
        ("skewscope_rdma_port_up", "layer=physical", "mlx5_0/2"): 0.0,
        ("skewscope_rdma_receive_bytes_total", "", "mlx5_0"): 18527668.0,
        ("skewscope_rdma_retransmissions_total", "cause=adaptive", "mlx5_0"): 5.0,
        ("skewscope_nic_pause_seconds_total", "priority=3,direction=receive", "ens1f0"): 2.5,
        ("skewscope_nic_errors_total", "error=pcie_signal_transmit", "ens1f0"): 2.0,
        ("skewscope_nic_carrier_changes_total", "", "ens1f0"): 4.0,
        ("skewscope_host_pressure_seconds_total", "resource=io,kind=full", ""): 159.229614,
        ("skewscope_host_clock_max_error_seconds", "", ""): 0.25,
        ("skewscope_host_cpu_seconds_total", "mode=idle", ""): 42.5,
        ("skewscope_host_cpu_frequency_hertz", "statistic=min", ""): 2e9,
        ("skewscope_host_cpu_frequency_hertz", "statistic=mean", ""): 2.5e9,
        ("skewscope_host_cpu_frequency_hertz", "statistic=max", ""): 3e9,
        ("skewscope_host_swap_bytes_total", "direction=in", ""): 40960.0,
        ("skewscope_disk_bytes_total", "direction=read", "nvme0n1"): 4096.0,
        ("skewscope_pcie_link_width_lanes", "kind=current", "0000:3b:00.0"): 8.0,
        ("skewscope_pcie_link_width_lanes", "kind=current", "0000:3a:01.0"): 8.0,
        ("skewscope_nfs_operations_total", "mount=s:/a,operation=read", ""): 3.0,
        ("skewscope_nfs_operations_total", "mount=s:/a,operation=metadata", ""): 9.0,
    }
    assert "node_load1" in reading.warnings[0]


def test_times_come_from_lines_pages_or_the_file(tmp_path):
    series = 'skewscope_gpu_power_watts{gpu="0",kind="average"}'
    stamped = f"{series} 1 {T0}000\n{series} 2 {T0 + 1}000\n"
    assert one(read(tmp_path, stamped), "skewscope_gpu_power_watts", "kind=average", "gpu0") == [(T0, 1), (T0 + 1, 2)]
    openmetrics = f"# TYPE skewscope_gpu_power_watts gauge\n{series} 1 {T0}.5\n# EOF\n"
    assert one(read(tmp_path, openmetrics), "skewscope_gpu_power_watts", "kind=average", "gpu0") == [(T0 + 0.5, 1)]
    iso = f"# 2023-11-14T22:13:20Z\n{series} 1\n# time_ns={(T0 + 5) * 10**9}\n{series} 2\n"
    assert one(read(tmp_path, iso), "skewscope_gpu_power_watts", "kind=average", "gpu0") == [(T0, 1), (T0 + 5, 2)]
    reading = read(tmp_path, f"{series} 1\n{series} 2\n{series} 3\n")
    assert one(reading, "skewscope_gpu_power_watts", "kind=average", "gpu0") == [(T0 + 99, 3)]
    assert reading.warnings == ["2 values of earlier pages without a time are left out: write `date +%s` before each"]


def test_one_host_per_series_where_a_scrape_says_so(tmp_path):
    text = "".join(
        f'skewscope_gpu_power_watts{{gpu="0",instance="n{n}:9400",job="x",kind="average"}} {n}\n' for n in (1, 2)
    )
    reading = read(tmp_path, text)
    assert {key[2]: values[0][1] for key, values in rows(reading).items()} == {"n1": 1.0, "n2": 2.0}
    assert reading.node == ""


def test_bad_lines_do_not_sink_the_rest(tmp_path):
    good = 'skewscope_gpu_power_watts{gpu="0",kind="average"} 5\n'
    text = (
        "<html>what</html>\n" + good + 'skewscope_gpu_power_watts{gpu="1",kind="average} 5\n'
        'skewscope_gpu_power_watts{gpu="2",kind="average"} five\nskewscope_host_cpus\n'
        'skewscope_host_cpus 1 2 3\nskewscope_host_cpus{} 64\r\n{"quoted.name",a="b"} 1\n\xff\x00\n'
    )
    reading = read(tmp_path, text)
    assert reading.status == "ok" and len(rows(reading)) == 2
    assert one(reading, "skewscope_host_cpus") == [(T0 + 99, 64.0)]
    assert reading.warnings == ["6 malformed lines (line 1, 3, 4, 5, 6 ...)"]


def test_a_cut_file_gives_what_it_holds(tmp_path):
    good = 'skewscope_gpu_power_watts{gpu="0",kind="average"} 5\n'
    reading = read(tmp_path, good + 'skewscope_gpu_power_watts{gpu="1",kind="average"} 71')
    assert (reading.status, reading.error) == ("partial", "the last line is cut") and len(rows(reading)) == 1
    whole = gzip.compress("".join(f"{T0 + at}\n{good}" for at in range(5000)).encode())
    reading = read(tmp_path, whole[: len(whole) // 2], "n5.prom.gz")
    assert reading.status == "partial" and 1000 < reading.events < 5000
    assert read(tmp_path, whole, "n5.prom.gz").events == 5000


def test_duplicate_pages_count_once(tmp_path):
    page = f'skewscope_gpu_power_watts{{gpu="0",kind="average"}} 5 {T0}000\n'
    reading = read(tmp_path, page * 3)
    assert one(reading, "skewscope_gpu_power_watts", "kind=average", "gpu0") == [(T0, 5.0)]
    assert reading.warnings == ["2 values repeat a series at the same time: the first counts"]


def test_what_has_no_meaning_is_unreadable(tmp_path):
    with pytest.raises(Unreadable, match="go_goroutines"):
        read(tmp_path, "# TYPE go_goroutines gauge\ngo_goroutines 7\n")
    with pytest.raises(Unreadable, match="no readable sample"):
        read(tmp_path, "# TYPE go_goroutines gauge\n")


def test_only_expositions_are_claimed():
    sniff = ExpositionPage().sniff
    assert sniff(OWN.encode(), "x") > 0.9 and sniff((DCGM % {"clock": 1, "xid": 0, "rate": 0}).encode(), "x") > 0.9
    assert sniff(NODE.encode(), "x") > 0.9 and 0 < sniff(b"# TYPE go_goroutines gauge\ngo_goroutines 7\n", "x") < 0.5
    assert sniff(b"DCGM_FI_DEV_GPU_TEMP,DCGM_FI_DEV_SM_CLOCK\n1,2\n", "x") == 0
    assert sniff(b'{"node_": 1}', "metrics.prom") == 0


def test_gathering_takes_no_rank_from_a_node_s_number_and_drops_copies(tmp_path):
    page = f'skewscope_gpu_power_watts{{gpu="0",kind="average"}} 5 {T0}000\n'
    for name in ("node_3.prom", "node_4.prom"):
        (tmp_path / name).write_text(page)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/node_3.prom").write_text(page)
    recording = gather([tmp_path])
    assert recording.tables["samples"]["node"].tolist() == ["node_3", "node_4"]
    assert recording.tables["samples"]["rank"].tolist() == [-1, -1] and not len(recording.tables["ranks"])
    assert sorted(item.status for item in recording.inputs) == ["ok", "ok", "unreadable"]


def test_pages_can_be_converted_and_analysed(tmp_path, capsys):
    (tmp_path / "n5.prom").write_text(OWN)
    assert commands.main(["convert", str(tmp_path / "n5.prom"), "--out", str(tmp_path / "out")]) == 0
    assert "samples.parquet  6 rows" in capsys.readouterr().out
    assert commands.main(["analyze", str(tmp_path / "out")]) == 0
    assert "files read: canonical-table" in capsys.readouterr().out


label_texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="[]:"), max_size=4)
pages = st.dictionaries(
    st.tuples(st.integers(0, 7), label_texts), st.tuples(st.integers(0, 120), st.integers(0, 10**9)), min_size=1,
    max_size=6,
)  # fmt: skip


@drawn
@given(pages, st.booleans(), st.booleans())
def test_series_of_the_exporter_hold_what_was_written(tmp_path, told, in_line, openmetrics):
    """A host may be called anything, but brackets and a colon are those of a port; times are in lines or the name."""
    lines, want = ["# TYPE DCGM_FI_DEV_GPU_TEMP gauge"], []
    for (gpu, host), (degrees, second) in told.items():
        escaped = host.replace("\\", r"\\").replace('"', r"\"")
        when = 1_700_000_000 + second
        stamp = f" {when}" if openmetrics else f" {when}000"
        lines.append(f'DCGM_FI_DEV_GPU_TEMP{{Hostname="{escaped}",gpu="{gpu}"}} {degrees}' + stamp * in_line)
        want.append(((when if in_line else 1_700_000_015) * 10**9, host or "n5", f"gpu{gpu}", float(degrees)))
    path = tmp_path / "dcgm-n5-1700000015.prom"
    path.write_text("\n".join([*lines, "# EOF" if openmetrics else ""]) + "\n")
    reading = ExpositionPage().read(path)
    rows = frame(*reading.batches[0])[["t_ns", "node", "device", "value"]]
    found = sorted(rows.itertuples(index=False, name=None))
    assert found == sorted(want) and reading.status == "ok"
