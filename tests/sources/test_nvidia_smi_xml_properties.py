"""What nvidia-smi printed of each GPU comes back in our units, for one document or for many."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from random import Random
from xml.sax.saxutils import escape

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.frames import frame
from skewscope.sources.nvidia_smi_xml import NvidiaSmiXml

T0 = 1_700_000_000
MIB = 2**20
ECC = "severity=uncorrected,lifetime=volatile,location="
# path below <gpu> -> metric, labels, and texts with what they mean
TOLD: dict[str, tuple[str, str, dict[str, float]]] = {
    "utilization/gpu_util": ("utilization_ratio", "", {"0 %": 0, "97 %": 0.97}),
    "clocks/sm_clock": ("clock_hertz", "domain=sm", {"1275 MHz": 1.275e9}),
    "max_clocks/mem_clock": ("clock_limit_hertz", "domain=memory", {"2619 MHz": 2.619e9}),
    "performance_state": ("performance_state", "", {"P0": 0, "P12": 12}),
    "clocks_event_reasons/clocks_event_reason_sync_boost": (
        "clock_event_active", "reason=sync_boost", {"Active": 1, "Not Active": 0}),
    "clocks_event_reasons_counters/clocks_event_reasons_counters_hw_power_brake": (
        "clock_event_seconds_total", "reason=hw_power_brake", {"2500000 us": 2.5, f"{2**53} us": 2**53 / 1e6}),
    "gpu_power_readings/average_power_draw": ("power_watts", "kind=average", {"512.50 W": 512.5}),
    "temperature/gpu_temp": ("temperature_celsius", "sensor=gpu", {"-5 C": -5, "61 C": 61}),
    "fb_memory_usage/used": ("memory_used_bytes", "", {"0 MiB": 0, "81559 MiB": 81559 * MIB}),
    "ecc_errors/volatile/sram_uncorrectable_parity": ("ecc_errors_total", f"{ECC}sram", {"2": 2, "0": 0}),
    "ecc_errors/volatile/sram_uncorrectable_secded": ("ecc_errors_total", f"{ECC}sram", {"3": 3}),
    "ecc_errors/volatile/dram_uncorrectable": ("ecc_errors_total", f"{ECC}dram", {"4": 4}),
    "remapped_rows/remapped_row_pending": ("row_remap_pending", "", {"Yes": 1, "No": 0}),
    "pci/pci_gpu_link_info/link_widths/current_link_width": ("pcie_link_width_lanes", "kind=current", {"16x": 16}),
    "ecc_mode/current_ecc": ("mode_enabled", "mode=ecc", {"Enabled": 1, "Disabled": 0}),
}  # fmt: skip
NOT = {"N/A": None, "[Unknown Thing]": None}
MORE = ["retired_pages/pending_retirement", "fan_speed", "mig_devices/mig_device/fb_memory_usage/used"]
names = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters=",=\ufffe\uffff"), max_size=4)
Rows = dict[tuple[int, str, str, str], float]  # time in ns, device, metric, labels


def element(path: str, text: str) -> str:
    first, _, rest = path.partition("/")
    return f"<{first}>{element(rest, text) if rest else escape(text)}</{first}>\n"


def gpu(chance: Random, slot: int, t_ns: int, model: str, want: Rows, older: Rows) -> str:
    """Return a GPU as nvidia-smi prints it, and note its rows; of rows and pages of old the former count."""
    device, parts = f"gpu{slot}", [element("product_name", f" {model} "), element("minor_number", str(slot))]
    address = f"0000000{slot}:1B:00.0"
    info = ",".join(f"{name}={text}" for name, text in [("pci_bus_id", address), ("model", model), ("minor", slot)]
                    if text != "")  # fmt: skip
    want[t_ns, device, "info", info] = 1
    for path, (metric, labels, texts) in TOLD.items():
        text = chance.choice([*texts, *NOT, None])
        if text is not None:
            parts.append(element(path, text))
        if text in texts:
            want[t_ns, device, metric, labels] = want.get((t_ns, device, metric, labels), 0) + texts[text]
    for path in chance.sample(MORE, 2):
        text = chance.choice(["Yes", "No", "N/A"])
        parts.append(element(path, text))
        if path == MORE[0] and text != "N/A":
            older[t_ns, device, "row_remap_pending", ""] = float(text == "Yes")
    if chance.random() < 0.7:
        kinds = [chance.choice(["C", "G", "C+G", "M+C"]) for _ in range(chance.choice([0, 1, 3]))]
        info = [f"<process_info><pid>{at}</pid><type>{kind}</type></process_info>" for at, kind in enumerate(kinds)]
        parts.append(f"<processes>{''.join(info)}</processes>")
        want[t_ns, device, "processes", "kind=compute"] = sum(
            "C" == kind[-1:] == kind[:1] or kind == "C+G" for kind in kinds
        )
        want[t_ns, device, "processes", "kind=mps"] = kinds.count("M+C")
    state = chance.choice(["ok", "ok", "lost"])
    if state == "lost":
        parts.append(element("temperature/memory_temp", "GPU is lost"))
    for one in ("ok", "lost", "reset_required", "error"):
        want[t_ns, device, "access_state", f"state={one}"] = float(one == state)
    return f'<gpu id="{address}">\n{"".join(chance.sample(parts, len(parts)))}</gpu>\n'


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from([0, 0, 1, 30, 86_400 * 365]), min_size=1, max_size=4), st.integers(1, 3), names,
    st.randoms(use_true_random=True),
)  # fmt: skip
def test_what_was_printed_comes_back(tmp_path: Path, passed: list[int], gpus: int, model: str, chance: Random) -> None:
    """Times are whole seconds, so that two documents of a fast loop may have the same: the first counts."""
    want: Rows = {}
    older: Rows = {}
    text, now = "", T0
    for gap in passed:
        now += gap
        seen = now * 10**9 in {t_ns for t_ns, *_ in want}
        rows, pages = ({}, {}) if seen else (want, older)
        when = datetime.fromtimestamp(now, UTC).strftime("%a %b %d %H:%M:%S %Y")
        text += '<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">\n<nvidia_smi_log>\n'
        text += element("timestamp", when) + element("driver_version", "550.54") + element("attached_gpus", str(gpus))
        text += "".join(gpu(chance, slot, now * 10**9, model, rows, pages) for slot in range(gpus))
        text += "</nvidia_smi_log>\n"
        rows[now * 10**9, "", "skewscope_driver_info", "driver=550.54"] = 1
        rows[now * 10**9, "", "devices", "source=nvml"] = gpus
    told = {key[1:] for key in want}
    want |= {key: value for key, value in older.items() if key[1:] not in told}
    path = tmp_path / "n5.xml"
    path.write_text(text)
    assert NvidiaSmiXml().sniff(path.read_bytes(), path.name) > 0.9
    reading = NvidiaSmiXml().read(path)
    found = frame(*reading.batches[0])
    keys = zip(found["t_ns"], found["device"], found["metric"].astype(str).str.removeprefix("skewscope_gpu_"),
               found["labels"], strict=True)  # fmt: skip
    got = dict(zip(keys, found["value"], strict=True))
    assert len(got) == len(found)
    assert got.keys() == want.keys()
    assert {key: value for key, value in got.items() if abs(value - want[key]) > 1e-12 * abs(value)} == {}
    assert (reading.status, reading.node, set(found["node"])) == ("ok", "n5", {"n5"})
    assert reading.job["devices"] == [("n5", f"000{slot}:1b:00", f"gpu{slot}") for slot in range(gpus)]
