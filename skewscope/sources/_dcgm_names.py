"""Fields of NVIDIA DCGM in our metrics: number, names since 4.6 and before, head of its column in `dcgmi dmon`.

Numbers, names and heads are those of NVIDIA/DCGM (dcgmlib/dcgm_fields.h, src/dcgm_fields.cpp at 4.6); units are those
of its header and of dcgm-exporter's etc/default-counters.csv: MHz, C, W, mJ, MiB, %, ns. Utilisation stays in percent
though its new name says ratio. NVLink throughput is left out: DCGM calls it MB/s and the exporter a counter;
so are the PCIe throughputs of 20 ms.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ._telemetry_series import XID, Meaning, Series

MHZ, MIB, NS, PERCENT, MILLI = 1e6, float(1 << 20), 1e-9, 0.01, 1e-3
ECC, ROWS, BANKS = "skewscope_gpu_ecc_errors_total", "skewscope_gpu_remapped_rows", "skewscope_gpu_row_remap_banks"
CLOCKS, HELD = "skewscope_gpu_clock_hertz", "skewscope_gpu_clock_event_seconds_total"
POWER, POWER_LIMIT = "skewscope_gpu_power_watts", "skewscope_gpu_power_limit_watts"
DEGREES, DEGREES_LIMIT = "skewscope_gpu_temperature_celsius", "skewscope_gpu_temperature_limit_celsius"
GENERATION, WIDTH = "skewscope_gpu_pcie_link_generation", "skewscope_gpu_pcie_link_width_lanes"
PCIE_OUT, PCIE_IN = "skewscope_gpu_pcie_transmit_bytes_total", "skewscope_gpu_pcie_receive_bytes_total"
LINK_OUT, LINK_IN = "skewscope_gpu_nvlink_transmit_bytes_total", "skewscope_gpu_nvlink_receive_bytes_total"
LINKS, ONE_LINK = "skewscope_gpu_nvlink_errors_total", "skewscope_gpu_nvlink_link_errors_total"
PIPE, MODE = "skewscope_gpu_pipe_active_ratio", "skewscope_gpu_mode_enabled"
BER, RECOVERED = "skewscope_gpu_nvlink_bit_error_ratio", "skewscope_gpu_nvlink_recovery_events_total"
# In the order of the bits of NVML's clock event reasons, and of the numbers of its recovery actions.
REASONS = ("idle", "app_clocks", "sw_power_cap", "hw_slowdown", "sync_boost", "sw_thermal", "hw_thermal",
           "hw_power_brake", "display", "board_limit", "reliability")  # fmt: skip
ACTIONS = ("none", "reset", "node_reboot", "drain_p2p", "drain_and_reset", "recover_imex", "bus_reset",
           "system_reboot")  # fmt: skip
HELD_NOW = tuple(Meaning("skewscope_gpu_clock_event_active", f"reason={name}", bit=at)
                 for at, name in enumerate(REASONS))  # fmt: skip
ASKED = tuple(Meaning("skewscope_gpu_recovery_action", f"action={name}", equal=at) for at, name in enumerate(ACTIONS))


@dataclass(frozen=True)
class Field:
    """One field; of two that are one of our series the `order` says which counts."""

    number: int
    names: tuple[str, ...]
    head: str
    meanings: tuple[Meaning, ...]
    order: int = 0


def _field(number: int, names: str, head: str, *meanings: Meaning | str, labels: str = "", scale: float = 1.0,
           rate: bool = False, order: int = 0) -> Field:  # fmt: skip
    made = tuple(Meaning(one, labels, scale, rate=rate) if isinstance(one, str) else one for one in meanings)
    full = (name if name.startswith("PROF_") else f"DEV_{name}" for name in names.split())
    return Field(number, tuple(f"DCGM_FI_{name}" for name in full), head, made, order)


def _ecc(number: int, name: str, head: str, severity: str, lifetime: str, location: str) -> Field:
    return _field(number, name, head, ECC, labels=f"severity={severity},lifetime={lifetime},location={location}")


def _link(number: int, names: str, head: str, error: str, order: int = 0) -> Field:
    return _field(number, names, head, LINKS, labels=f"error={error}", order=order)


def _held(number: int, names: str, head: str, reason: str, order: int = 0) -> Field:
    return _field(number, names, head, HELD, labels=f"reason={reason}", scale=NS, order=order)


# fmt: off
FIELDS = (
    _field(66, "GPU_PERSISTENCE_MODE PERSISTENCE_MODE", "PMMOD", MODE, labels="mode=persistence"),
    _field(67, "MIG_MODE", "MGMOD", MODE, labels="mode=mig"),
    _field(92, "BAR1_USED", "B1USE", "skewscope_gpu_bar1_used_bytes", scale=MIB),
    _field(100, "SM_CLOCK", "SMCLK", CLOCKS, labels="domain=sm", scale=MHZ),
    _field(101, "MEM_CLOCK", "MMCLK", CLOCKS, labels="domain=memory", scale=MHZ),
    _field(112, "CLOCKS_EVENT_REASONS CLOCK_THROTTLE_REASONS", "DVCCTR", *HELD_NOW),
    _field(113, "MAX_SM_CLOCK", "SMMAX", "skewscope_gpu_clock_limit_hertz", labels="domain=sm", scale=MHZ),
    _field(114, "MAX_MEM_CLOCK", "MMMAX", "skewscope_gpu_clock_limit_hertz", labels="domain=memory", scale=MHZ),
    _field(140, "MEMORY_TEMP_CELSIUS MEMORY_TEMP", "MMTMP", DEGREES, labels="sensor=memory"),
    _field(150, "GPU_TEMP_CELSIUS GPU_TEMP", "TMPTR", DEGREES, labels="sensor=gpu"),
    _field(151, "MEMORY_MAX_OP_TEMP_CELSIUS MEM_MAX_OP_TEMP", "GMMOT", DEGREES_LIMIT, labels="limit=memory_max"),
    _field(152, "GPU_MAX_OP_TEMP_CELSIUS GPU_MAX_OP_TEMP", "GGMOT", DEGREES_LIMIT, labels="limit=gpu_max"),
    _field(153, "GPU_TEMP_MARGIN_CELSIUS GPU_TEMP_LIMIT", "GTLIMIT", "skewscope_gpu_temperature_margin_celsius"),
    _field(155, "BOARD_POWER_WATTS POWER_USAGE", "POWER", POWER, labels="kind=average"),
    _field(156, "TOTAL_ENERGY_CONSUMPTION", "TOTEC", "skewscope_gpu_energy_joules_total", scale=MILLI),
    _field(157, "BOARD_POWER_RAW_WATTS POWER_USAGE_INSTANT", "POWINST", POWER, labels="kind=instant"),
    _field(158, "GPU_TEMP_SLOWDOWN_CELSIUS SLOWDOWN_TEMP", "SDTMP", DEGREES_LIMIT, labels="limit=slowdown"),
    _field(159, "GPU_TEMP_SHUTDOWN_CELSIUS SHUTDOWN_TEMP", "SHTMP", DEGREES_LIMIT, labels="limit=shutdown"),
    _field(160, "BOARD_POWER_LIMIT_REQUESTED_WATTS POWER_MGMT_LIMIT", "PMLMT", POWER_LIMIT, labels="kind=requested"),
    _field(162, "BOARD_POWER_LIMIT_MAX_WATTS POWER_MGMT_LIMIT_MAX", "PMMAX", POWER_LIMIT, labels="kind=max"),
    _field(163, "BOARD_POWER_LIMIT_DEFAULT_WATTS POWER_MGMT_LIMIT_DEF", "PMDEF", POWER_LIMIT, labels="kind=default"),
    _field(164, "BOARD_POWER_LIMIT_ENFORCED_WATTS ENFORCED_POWER_LIMIT", "EPLMT", POWER_LIMIT, labels="kind=enforced"),
    _field(190, "GPU_PSTATE PSTATE", "PSTAT", "skewscope_gpu_performance_state"),
    _field(202, "PCIE_REPLAY_TOTAL PCIE_REPLAY_COUNTER", "RPCTR", "skewscope_gpu_pcie_replays_total"),
    _field(203, "GPU_UTIL_RATIO GPU_UTIL", "GPUTL", "skewscope_gpu_utilization_ratio", scale=PERCENT),
    _field(204, "MEM_COPY_UTIL", "MCUTL", "skewscope_gpu_memory_activity_ratio", scale=PERCENT),
    _field(230, "XID_ERROR XID_ERRORS", "XIDER", XID),
    _field(235, "PCIE_MAX_LINK_GEN", "PCIMG", GENERATION, labels="kind=max"),
    _field(236, "PCIE_MAX_LINK_WIDTH", "PCIMW", WIDTH, labels="kind=max"),
    _field(237, "PCIE_LINK_GEN", "PCILG", GENERATION, labels="kind=current"),
    _field(238, "PCIE_LINK_WIDTH", "PCILW", WIDTH, labels="kind=current"),
    # "Violations" are NVML's fields 74 to 79 in ns; the thermal one does not say whether hardware or software slowed.
    _held(240, "POWER_VIOLATION", "PVIOL", "sw_power_cap", order=1),
    _held(241, "THERMAL_VIOLATION", "TVIOL", "sw_thermal", order=1),
    _held(242, "SYNC_BOOST_VIOLATION", "SBVIO", "sync_boost", order=1),
    _held(243, "BOARD_LIMIT_VIOLATION", "BLVIO", "board_limit"),
    _held(244, "LOW_UTIL_VIOLATION", "LUVIO", "low_utilization"),
    _held(245, "RELIABILITY_VIOLATION", "RVIOL", "reliability"),
    _field(250, "FB_TOTAL", "FBTTL", "skewscope_gpu_memory_total_bytes", scale=MIB),
    _field(252, "FB_USED", "FBUSD", "skewscope_gpu_memory_used_bytes", scale=MIB),
    _field(285, "C2C_LINK_QUANTITY C2C_LINK_COUNT", "C2CLC", "skewscope_gpu_c2c_links", labels="state=expected"),
    _field(300, "ECC_MODE ECC_CURRENT", "ECCUR", MODE, labels="mode=ecc"),
    _ecc(310, "ECC_SBE_VOL_TOTAL", "ESVTL", "corrected", "volatile", "all"),
    _ecc(311, "ECC_DBE_VOL_TOTAL", "EDVTL", "uncorrected", "volatile", "all"),
    _ecc(312, "ECC_SBE_AGG_TOTAL", "ESATL", "corrected", "aggregate", "all"),
    _ecc(313, "ECC_DBE_AGG_TOTAL", "EDATL", "uncorrected", "aggregate", "all"),
    _ecc(342, "ECC_SBE_VOL_SRM", "ESVSRM", "corrected", "volatile", "sram"),
    _ecc(343, "ECC_DBE_VOL_SRM", "EDVSRM", "uncorrected", "volatile", "sram"),
    _ecc(344, "ECC_SBE_AGG_SRM", "ESDSRM", "corrected", "aggregate", "sram"),
    _ecc(345, "ECC_DBE_AGG_SRM", "EDDSRM", "uncorrected", "aggregate", "sram"),
    _field(346, "SRAM_EXCEEDED THRESHOLD_SRM", "ECCTHRSRM", "skewscope_gpu_sram_ecc_threshold_exceeded"),
    _field(385, "BANK_REMAP_AVAIL_MAX BANKS_REMAP_ROWS_AVAIL_MAX", "RRAM", BANKS, labels="availability=max"),
    _field(386, "BANK_REMAP_AVAIL_HIGH BANKS_REMAP_ROWS_AVAIL_HIGH", "RRAH", BANKS, labels="availability=high"),
    _field(387, "BANK_REMAP_AVAIL_PARTIAL BANKS_REMAP_ROWS_AVAIL_PARTIAL",
           "RRAP", BANKS, labels="availability=partial"),
    _field(388, "BANK_REMAP_AVAIL_LOW BANKS_REMAP_ROWS_AVAIL_LOW", "RRAL", BANKS, labels="availability=low"),
    _field(389, "BANK_REMAP_AVAIL_NONE BANKS_REMAP_ROWS_AVAIL_NONE", "RRAN", BANKS, labels="availability=none"),
    # Before Ampere pages were retired; where both are told, rows count.
    _field(390, "PAGE_RETIRED_SBE_TOTAL RETIRED_SBE", "RPSBE", ROWS, labels="cause=corrected", order=1),
    _field(391, "PAGE_RETIRED_DBE_TOTAL RETIRED_DBE", "RPDBE", ROWS, labels="cause=uncorrected", order=1),
    _field(392, "PAGE_RETIRED_PENDING RETIRED_PENDING", "RPPEN", "skewscope_gpu_row_remap_pending", order=1),
    _field(393, "ROW_REMAP_UNCORRECTABLE_TOTAL UNCORRECTABLE_REMAPPED_ROWS", "URMPS", ROWS, labels="cause=uncorrected"),
    _field(394, "ROW_REMAP_CORRECTABLE_TOTAL CORRECTABLE_REMAPPED_ROWS", "CRMPS", ROWS, labels="cause=corrected"),
    _field(395, "ROW_REMAP_FAILED ROW_REMAP_FAILURE", "RRF", "skewscope_gpu_row_remap_failure"),
    _field(396, "ROW_REMAP_PENDING", "RRP", "skewscope_gpu_row_remap_pending"),
    _link(409, "NVLINK_CRC_FLIT_ERROR_TOTAL NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", "NFELT", "crc_flit"),
    _link(419, "NVLINK_CRC_DATA_ERROR_TOTAL NVLINK_CRC_DATA_ERROR_COUNT_TOTAL", "NDELT", "crc_data"),
    _link(429, "NVLINK_REPLAY_ERROR_TOTAL NVLINK_REPLAY_ERROR_COUNT_TOTAL", "NRELT", "replay"),
    _link(439, "NVLINK_RECOVERY_ERROR_TOTAL NVLINK_RECOVERY_ERROR_COUNT_TOTAL", "NRCLT", "recovery"),
    _link(497, "NVLINK_CRC_ERROR_TOTAL NVLINK_ERROR_DL_CRC", "NLCRC", "crc_flit", order=1),
    _link(498, "NVLINK_RECOVERY_TOTAL NVLINK_ERROR_DL_RECOVERY", "NLREC", "recovery", order=1),
    _link(499, "NVLINK_REPLAY_TOTAL NVLINK_ERROR_DL_REPLAY", "NLREP", "replay", order=1),
    _field(1002, "PROF_SM_UTIL_RATIO PROF_SM_ACTIVE", "SMACT", "skewscope_gpu_sm_active_ratio"),
    _field(1003, "PROF_SM_OCCUPANCY_RATIO PROF_SM_OCCUPANCY", "SMOCC", "skewscope_gpu_sm_occupancy_ratio"),
    _field(1004, "PROF_TENSOR_UTIL_RATIO PROF_PIPE_TENSOR_ACTIVE", "TENSO", "skewscope_gpu_tensor_active_ratio"),
    _field(1005, "PROF_DRAM_UTIL_RATIO PROF_DRAM_ACTIVE", "DRAMA", "skewscope_gpu_dram_active_ratio"),
    _field(1006, "PROF_FP64_UTIL_RATIO PROF_PIPE_FP64_ACTIVE", "FP64A", PIPE, labels="pipe=fp64"),
    _field(1007, "PROF_FP32_UTIL_RATIO PROF_PIPE_FP32_ACTIVE", "FP32A", PIPE, labels="pipe=fp32"),
    _field(1008, "PROF_FP16_UTIL_RATIO PROF_PIPE_FP16_ACTIVE", "FP16A", PIPE, labels="pipe=fp16"),
    _field(1009, "PROF_PCIE_TX_BYTES", "PCITX", PCIE_OUT, rate=True, order=1),
    _field(1010, "PROF_PCIE_RX_BYTES", "PCIRX", PCIE_IN, rate=True, order=1),
    _field(1011, "PROF_NVLINK_TX_BYTES", "NVLTX", LINK_OUT, rate=True, order=1),
    _field(1012, "PROF_NVLINK_RX_BYTES", "NVLRX", LINK_IN, rate=True, order=1),
    _field(1013, "PROF_IMMA_UTIL_RATIO PROF_PIPE_TENSOR_IMMA_ACTIVE", "TIMMA", PIPE, labels="pipe=imma"),
    _field(1014, "PROF_HMMA_UTIL_RATIO PROF_PIPE_TENSOR_HMMA_ACTIVE", "THMMA", PIPE, labels="pipe=hmma"),
    _field(1015, "PROF_DFMA_UTIL_RATIO PROF_PIPE_TENSOR_DFMA_ACTIVE", "TDFMA", PIPE, labels="pipe=dfma"),
    _field(1016, "PROF_INT_UTIL_RATIO PROF_PIPE_INT_ACTIVE", "INTAC", PIPE, labels="pipe=int"),
    _field(1091, "PROF_PCIE_TX_BYTES_TOTAL", "PCICTX", PCIE_OUT),
    _field(1092, "PROF_PCIE_RX_BYTES_TOTAL", "PCICRX", PCIE_IN),
    _field(1201, "NVLINK_TX_BYTES_TOTAL NVLINK_COUNT_TX_BYTES", "NLXMITB", LINK_OUT),
    _field(1203, "NVLINK_RX_BYTES_TOTAL NVLINK_COUNT_RX_BYTES", "NLRCVB", LINK_IN),
    _link(1204, "NVLINK_RX_PACKET_MALFORMED_TOTAL NVLINK_COUNT_RX_MALFORMED_PACKET_ERRORS", "NLMALP", "malformed"),
    _link(1205, "NVLINK_RX_PACKET_DROPPED_TOTAL NVLINK_COUNT_RX_BUFFER_OVERRUN_ERRORS", "NLBUFO", "overrun"),
    _link(1206, "NVLINK_RX_ERROR_TOTAL NVLINK_COUNT_RX_ERRORS", "NLRCVE", "receive"),
    _link(1207, "NVLINK_RX_REMOTE_ERROR_TOTAL NVLINK_COUNT_RX_REMOTE_ERRORS", "NLRCVRE", "remote"),
    _link(1208, "NVLINK_RX_GENERAL_ERROR_TOTAL NVLINK_COUNT_RX_GENERAL_ERRORS", "NLRCVGE", "general"),
    _link(1209, "NVLINK_INTEGRITY_ERROR_TOTAL NVLINK_COUNT_LOCAL_LINK_INTEGRITY_ERRORS", "NLLLIE", "integrity"),
    _link(1210, "NVLINK_COUNT_TX_DISCARDS", "NLXMITD", "discard"),
    _field(1211, "NVLINK_RECOVERY_SUCCESSFUL_TOTAL NVLINK_COUNT_LINK_RECOVERY_SUCCESSFUL_EVENTS",
           "NLLRS", RECOVERED, labels="result=successful"),
    _field(1212, "NVLINK_RECOVERY_FAILED_TOTAL NVLINK_COUNT_LINK_RECOVERY_FAILED_EVENTS",
           "NLLRF", RECOVERED, labels="result=failed"),
    _link(1214, "NVLINK_RX_SYMBOL_ERROR_TOTAL NVLINK_COUNT_RX_SYMBOL_ERRORS", "NLSYME", "symbol"),
    _field(1216, "NVLINK_SYMBOL_BER_RATIO NVLINK_COUNT_SYMBOL_BER_FLOAT", "NLSYMBF", BER, labels="kind=symbol"),
    _field(1218, "NVLINK_EFFECTIVE_BER_RATIO NVLINK_COUNT_EFFECTIVE_BER_FLOAT", "NLEFBF", BER, labels="kind=effective"),
    _link(1219, "NVLINK_EFFECTIVE_ERROR_TOTAL NVLINK_COUNT_EFFECTIVE_ERRORS", "NLEFE", "effective"),
    _link(1220, "NVLINK_ECC_ERROR_TOTAL NVLINK_ECC_DATA_ERROR_COUNT_TOTAL", "NLEDECT", "ecc"),
    _held(1420, "CLOCKS_EVENT_REASON_SW_POWER_CAP_NS", "CLKPCNS", "sw_power_cap"),
    _held(1421, "CLOCKS_EVENT_REASON_SYNC_BOOST_NS", "CLKBSTNS", "sync_boost"),
    _held(1422, "CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN_NS", "CLKSWTHNS", "sw_thermal"),
    _held(1423, "CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN_NS", "CLKHWTHNS", "hw_thermal"),
    _held(1424, "CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN_NS", "CLKEPBSNS", "hw_power_brake"),
    _field(1501, "PCIE_CORRECTABLE_ERROR_TOTAL PCIE_COUNT_CORRECTABLE_ERRORS",
           "PCIECOER", "skewscope_gpu_pcie_errors_total", labels="error=correctable"),
    _field(1523, "GPU_RECOVERY_ACTION GET_GPU_RECOVERY_ACTION", "GPURECOV", *ASKED),
)
# fmt: on
BY_NUMBER = {field.number: field for field in FIELDS}
BY_NAME = {name: field for field in FIELDS for name in field.names}
BY_HEAD = {field.head: field for field in FIELDS}
OF_ONE_LINK = re.compile(r"DCGM_FI_DEV_NVLINK_(CRC_FLIT|CRC_DATA|REPLAY|RECOVERY)_ERROR(?:_COUNT)?_L(\d+)(?:_TOTAL)?")
PER_LINK = re.compile(r"DCGM_FI_DEV_NVLINK_(CRC_FLIT|CRC_DATA|REPLAY|RECOVERY)_ERROR_PER_LINK_TOTAL")


def link_of(name: str, link: str = "") -> Field | None:
    """Return the field for errors of one NVLink, which has its number in the name or in the label `nvlink`.

    >>> link_of("DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_L3").meanings[0].labels
    'link=3,error=replay'
    """
    hit = OF_ONE_LINK.fullmatch(name)
    if hit:
        return Field(0, (name,), "", (Meaning(ONE_LINK, f"link={hit[2]},error={hit[1].lower()}"),))
    hit = PER_LINK.fullmatch(name)
    if hit and link.isdecimal():
        return Field(0, (name,), "", (Meaning(ONE_LINK, f"link={link},error={hit[1].lower()}"),))
    known = BY_NAME.get(name)
    if known and link.isdecimal() and known.meanings[0].metric == LINKS:
        return Field(0, (name,), "", (Meaning(ONE_LINK, f"link={link},{known.meanings[0].labels}"),))
    return None


def series(field: Field, gpu: str, node: str) -> tuple[Series, ...]:
    """Return what a field of one GPU means."""
    return tuple(Series(meaning, f"gpu{gpu}", node=node, order=field.order, blanks=True) for meaning in field.meanings)
