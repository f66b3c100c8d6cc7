import gzip
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.metrics import metric
from skewscope.signals.identity import identify
from skewscope.sources import _nvidia_smi_names
from skewscope.sources.nvidia_smi_xml import NvidiaSmiXml, documents

T0 = 1_700_000_000
HEAD = '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">\n<nvidia_smi_log>\n'
HEAD_LENGTH = HEAD.index("<nvidia_smi_log>")
GPU = """<gpu id="00000000:1B:00.0">
  <product_name>NVIDIA H100 80GB HBM3</product_name><persistence_mode>Enabled</persistence_mode>
  <mig_mode><current_mig>Disabled</current_mig></mig_mode>
  <mig_devices><mig_device><fb_memory_usage><used>12 MiB</used></fb_memory_usage></mig_device></mig_devices>
  <uuid>GPU-a</uuid><minor_number>0</minor_number><vbios_version>96.00</vbios_version>
  <gpu_recovery_action>Drain and Reset</gpu_recovery_action>
  <pci><pci_bus_id>00000000:1B:00.0</pci_bus_id><pci_gpu_link_info>
    <pcie_gen><max_link_gen>5</max_link_gen><current_link_gen>1</current_link_gen></pcie_gen>
    <link_widths><max_link_width>16x</max_link_width><current_link_width>8x</current_link_width></link_widths>
  </pci_gpu_link_info><replay_counter>7</replay_counter><tx_util>4000 KB/s</tx_util></pci>
  <performance_state>P2</performance_state>
  <clocks_event_reasons>
    <clocks_event_reason_gpu_idle>Not Active</clocks_event_reason_gpu_idle>
    <clocks_event_reason_hw_thermal_slowdown>Active</clocks_event_reason_hw_thermal_slowdown>
  </clocks_event_reasons>
  <clocks_event_reasons_counters>
    <clocks_event_reasons_counters_sw_power_cap>2500000 us</clocks_event_reasons_counters_sw_power_cap>
  </clocks_event_reasons_counters>
  <fb_memory_usage><total>81920 MiB</total><used>1024 MiB</used></fb_memory_usage>
  <utilization><gpu_util>97 %</gpu_util><memory_util>N/A</memory_util></utilization>
  <ecc_mode><current_ecc>Enabled</current_ecc></ecc_mode>
  <ecc_errors>
    <volatile><sram_correctable>1</sram_correctable><sram_uncorrectable_parity>2</sram_uncorrectable_parity>
      <sram_uncorrectable_secded>3</sram_uncorrectable_secded><dram_uncorrectable>4</dram_uncorrectable></volatile>
    <aggregate><sram_threshold_exceeded>Yes</sram_threshold_exceeded></aggregate>
  </ecc_errors>
  <retired_pages><double_bit_retirement><retired_count>9</retired_count></double_bit_retirement></retired_pages>
  <remapped_rows><remapped_row_unc>2</remapped_row_unc><remapped_row_pending>Yes</remapped_row_pending>
    <row_remapper_histogram><row_remapper_histogram_max>640 bank(s)</row_remapper_histogram_max>
    </row_remapper_histogram></remapped_rows>
  <temperature><gpu_temp>61 C</gpu_temp><gpu_temp_tlimit>26 C</gpu_temp_tlimit>
    <gpu_temp_max_threshold>92 C</gpu_temp_max_threshold><memory_temp>70 C</memory_temp></temperature>
  <gpu_power_readings><power_state>P0</power_state><average_power_draw>512.50 W</average_power_draw>
    <instant_power_draw>N/A</instant_power_draw><current_power_limit>700.00 W</current_power_limit></gpu_power_readings>
  <clocks><sm_clock>1275 MHz</sm_clock><mem_clock>2619 MHz</mem_clock></clocks>
  <max_clocks><sm_clock>1980 MHz</sm_clock></max_clocks>
  <fabric><state>Completed</state></fabric>
  <supported_clocks><supported_mem_clock><value>2619 MHz</value></supported_mem_clock></supported_clocks>
  <processes><process_info><pid>7</pid><type>C</type></process_info>
    <process_info><pid>8</pid><type>G</type></process_info></processes>
</gpu>
"""
LOST = '<gpu id="00000000:1C:00.0"><product_name>GPU is lost</product_name><utilization><gpu_util>GPU is lost' \
       '</gpu_util></utilization></gpu>\n'  # fmt: skip


def document(gpus, when="Tue Nov 14 22:13:20 2023"):
    return (
        f"{HEAD}<timestamp>{when}</timestamp>\n<driver_version>550.54</driver_version>\n<cuda_version>12.4</cuda_version>"
        f"<attached_gpus>2</attached_gpus>\n{gpus}</nvidia_smi_log>\n"
    )


def read(tmp_path, text, name="n5.xml"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.utime(path, (T0 + 99, T0 + 99))
    return NvidiaSmiXml().read(path)


def rows(reading):
    found = frame(*reading.batches[0])
    return {
        (row["device"], row["metric"].removeprefix("skewscope_gpu_"), row["labels"]): row["value"]
        for row in found.to_dict("records")
    }


def test_a_document_of_two_gpus(tmp_path):
    reading = read(tmp_path, document(GPU + LOST))
    found = rows(reading)
    assert set(frame(*reading.batches[0])["t_ns"]) == {T0 * 10**9} and reading.node == "n5"
    assert {key: value for key, value in found.items() if key[0] == "gpu0" and value} == {
        ("gpu0", "info", "pci_bus_id=00000000:1B:00.0,model=NVIDIA H100 80GB HBM3,minor=0,vbios=96.00"): 1.0,
        ("gpu0", "access_state", "state=ok"): 1.0, ("gpu0", "mode_enabled", "mode=persistence"): 1.0,
        ("gpu0", "mode_enabled", "mode=ecc"): 1.0, ("gpu0", "recovery_action", "action=drain_and_reset"): 1.0,
        ("gpu0", "pcie_link_generation", "kind=max"): 5.0, ("gpu0", "pcie_link_generation", "kind=current"): 1.0,
        ("gpu0", "pcie_link_width_lanes", "kind=max"): 16.0, ("gpu0", "pcie_link_width_lanes", "kind=current"): 8.0,
        ("gpu0", "pcie_replays_total", ""): 7.0, ("gpu0", "performance_state", ""): 2.0,
        ("gpu0", "clock_event_active", "reason=hw_thermal"): 1.0,
        ("gpu0", "clock_event_seconds_total", "reason=sw_power_cap"): 2.5,
        ("gpu0", "memory_total_bytes", ""): 80.0 * 2**30, ("gpu0", "memory_used_bytes", ""): 2.0**30,
        ("gpu0", "utilization_ratio", ""): 0.97,
        ("gpu0", "ecc_errors_total", "severity=corrected,lifetime=volatile,location=sram"): 1.0,
        ("gpu0", "ecc_errors_total", "severity=uncorrected,lifetime=volatile,location=sram"): 5.0,
        ("gpu0", "ecc_errors_total", "severity=uncorrected,lifetime=volatile,location=dram"): 4.0,
        ("gpu0", "sram_ecc_threshold_exceeded", ""): 1.0, ("gpu0", "remapped_rows", "cause=uncorrected"): 2.0,
        ("gpu0", "row_remap_pending", ""): 1.0, ("gpu0", "row_remap_banks", "availability=max"): 640.0,
        ("gpu0", "temperature_celsius", "sensor=gpu"): 61.0, ("gpu0", "temperature_celsius", "sensor=memory"): 70.0,
        ("gpu0", "temperature_margin_celsius", ""): 26.0, ("gpu0", "temperature_limit_celsius", "limit=shutdown"): 92.0,
        ("gpu0", "power_watts", "kind=average"): 512.5, ("gpu0", "power_limit_watts", "kind=enforced"): 700.0,
        ("gpu0", "clock_hertz", "domain=sm"): 1.275e9, ("gpu0", "clock_hertz", "domain=memory"): 2.619e9,
        ("gpu0", "clock_limit_hertz", "domain=sm"): 1.98e9, ("gpu0", "fabric_state", "state=completed"): 1.0,
        ("gpu0", "processes", "kind=compute"): 1.0,
    }  # fmt: skip
    assert found["gpu0", "processes", "kind=mps"] == 0.0 and found["gpu0", "clock_event_active", "reason=idle"] == 0.0
    assert found["gpu1", "access_state", "state=lost"] == 1.0 and ("gpu1", "utilization_ratio", "") not in found
    assert found["", "devices", "source=nvml"] == 2.0
    assert found["", "skewscope_driver_info", "driver=550.54,cuda=12.4"] == 1.0
    assert reading.job["devices"] == [("n5", "0000:1b:00", "gpu0"), ("n5", "0000:1c:00", "gpu1")]
    assert reading.warnings == ["times without a time zone are read as UTC"]


def test_the_names_of_older_drivers(tmp_path):
    gpu = (
        '<gpu id="0"><clocks_throttle_reasons><clocks_throttle_reason_sw_power_cap>Active'
        "</clocks_throttle_reason_sw_power_cap></clocks_throttle_reasons>"
        "<power_readings><power_draw>50.5 W</power_draw>"
        "<power_limit>250.00 W</power_limit><enforced_power_limit>240.00 W</enforced_power_limit></power_readings>"
        "<ecc_errors><aggregate><double_bit><total>3</total></double_bit></aggregate></ecc_errors><retired_pages>"
        "<double_bit_retirement><retired_count>9</retired_count></double_bit_retirement></retired_pages></gpu>"
    )
    found = rows(read(tmp_path, document(gpu)))
    assert found["gpu0", "clock_event_active", "reason=sw_power_cap"] == 1.0
    assert found["gpu0", "power_watts", "kind=average"] == 50.5
    assert found["gpu0", "power_limit_watts", "kind=requested"] == 250.0
    assert found["gpu0", "power_limit_watts", "kind=enforced"] == 240.0
    assert found["gpu0", "ecc_errors_total", "severity=uncorrected,lifetime=aggregate,location=all"] == 3.0
    assert found["gpu0", "remapped_rows", "cause=uncorrected"] == 9.0


def test_documents_of_a_loop_follow_each_other(tmp_path):
    text = document(GPU) + document(GPU.replace("1275", "300"), "Tue Nov 14 22:13:50 2023")
    found = frame(*read(tmp_path, text).batches[0])
    clocks = found[(found["metric"] == "skewscope_gpu_clock_hertz") & (found["labels"] == "domain=sm")]
    assert clocks[["t_ns", "value"]].values.tolist() == [[T0 * 10**9, 1.275e9], [(T0 + 30) * 10**9, 3e8]]


def test_a_document_without_a_time_is_of_the_file_s(tmp_path):
    reading = read(tmp_path, document(GPU, when=""))
    assert set(frame(*reading.batches[0])["t_ns"]) == {(T0 + 99) * 10**9} and not reading.warnings


def test_cut_and_broken_documents_give_the_gpus_before(tmp_path):
    whole = document(GPU + GPU.replace("1B:00", "1C:00"))
    reading = read(tmp_path, whole[: whole.index("<temperature>", whole.index("1C:00"))])
    assert reading.status == "partial" and reading.error.startswith("the document is cut (line ")
    assert rows(reading)["gpu1", "pcie_replays_total", ""] == 7.0
    assert ("gpu1", "temperature_celsius", "sensor=gpu") not in rows(reading)
    broken = document(GPU) + document(GPU.replace("</clocks>", "</clock>")) + document(GPU, "Tue Nov 14 22:14:20 2023")
    reading = read(tmp_path, broken)
    assert reading.status == "partial" and reading.warnings[0].startswith("document 2: mismatched tag (line ")
    assert set(frame(*reading.batches[0])["t_ns"]) == {T0 * 10**9, (T0 + 60) * 10**9}
    cut = gzip.compress(whole.encode())
    assert read(tmp_path, cut[: len(cut) - 200], "n5.xml.gz").status == "partial"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f'<!DOCTYPE nvidia_smi_log [<!ENTITY e SYSTEM "file:///etc/p">]>{document(GPU)[HEAD_LENGTH:]}', "entities"),
        (f'<!DOCTYPE nvidia_smi_log [<!ENTITY a "b"><!ENTITY c "&a;&a;">]>{document(GPU)[HEAD_LENGTH:]}', "entities"),
        ("<nvidia_smi_log></nvidia_smi_log>", "no GPU"), ("<other/>", "begins with <other>"), ("", "no GPU"),
        ("<nvidia_smi_log>" + "<a>" * 50, "deeper"), ("<nvidia_smi_log><gpu id='0'>" + "<a>" * 50, "deeper"),
        ("\x00\x01", "no GPU"),
    ],
)  # fmt: skip
def test_what_is_no_such_document_is_refused(tmp_path, text, reason):
    with pytest.raises(Unreadable, match=reason):
        read(tmp_path, text)


def test_only_such_documents_are_claimed():
    assert NvidiaSmiXml().sniff(document(GPU).encode(), "x") > 0.9
    assert NvidiaSmiXml().sniff(b'<?xml version="1.0"?><svg/>', "smi.xml") == 0


@given(st.binary(max_size=200), st.integers(0, 3000))
def test_no_bytes_break_the_walk(garbage, at):
    whole = document(GPU).encode()
    documents(whole[:at] + garbage + whole[at:])


@pytest.mark.parametrize("path", _nvidia_smi_names.MEANINGS)
def test_every_element_is_a_metric_with_its_labels(path):
    for meaning in _nvidia_smi_names.MEANINGS[path]:
        told = dict(part.split("=") for part in meaning.labels.split(",") if part)
        declared = metric(meaning.metric)
        assert [name for name in declared.labels if name not in told] == ["gpu", "uuid"]
        assert identify(meaning.metric, told)[3] == meaning.labels
        assert all(value in declared.values.get(name, (value,)) for name, value in told.items())
