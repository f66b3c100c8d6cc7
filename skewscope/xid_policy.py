"""What each XID of a GPU means and what to do about it: one versioned table, which callers may change.

Public lists disagree about many codes (63, 68, 92, 94 and 109 above all), so this is a policy, not a fact: `POLICY`
holds the defaults, `POLICY.changed(...)` a fleet's own view, and `Xid.disagree` names the lists that judge otherwise.
What the driver itself asks for (`skewscope_gpu_recovery_action`) outranks the code: it knows what happened after the
message, and a node is never drained where it asks for nothing.

Meanings, and what NVIDIA asks for at once and later, follow its catalogue "Analyzing XID" as captured on 2025-10-29.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from .errors import UsageError

VERSION = "2025-10-29.1"  # day of NVIDIA's catalogue, edition of this table
DAY_S = 86_400.0
# What to do, from nothing to new hardware. From "drain_reset" on the node takes no work until it is done.
ACTIONS = (
    "none", "annotate", "notify_owner", "restart_app", "restart_fabric", "reset_when_idle", "validate",
    "replace_when_idle", "drain_reset", "drain_reboot", "replace",
)  # fmt: skip
DRAINS = ("drain_reset", "drain_reboot", "replace")
# What is left to do where the driver asks for no recovery.
MILDER = {"drain_reset": "restart_app", "drain_reboot": "restart_app", "replace": "replace_when_idle"}
KINDS = (
    "app", "app_or_gpu", "driver", "secondary", "gpu_soft", "memory_info", "memory_app", "memory", "link_info", "link",
    "config", "info", "oracle", "unknown", "fatal",
)  # fmt: skip
# What NVML's recovery action (field 230, NVML_GPU_RECOVERY_ACTION_*) means in these words.
RECOVERY = {
    "none": "none", "reset": "drain_reset", "node_reboot": "drain_reboot", "drain_p2p": "restart_app",
    "drain_and_reset": "drain_reset", "recover_imex": "restart_fabric", "bus_reset": "drain_reset",
    "system_reboot": "drain_reboot",
}  # fmt: skip
# Public lists: which codes take a node or GPU out of use, as far as the list speaks of them at all.
_GCM_TOLERATED = frozenset({13, 31, 43, 45, 63, 68, 92, 109})  # facebookresearch/gcm: all others are critical
_AZH_WARNED = frozenset({13, 31, 43, 63, 66, 94, 154})  # Azure/cyclecloud-healthagent: all others are errors
_AZN_FAILED = frozenset({48, *range(56, 60), *range(62, 66), 68, 69, 73, 74, 79, 80, 81, 92, 119, 120})  # Azure NHC
_GPUD_FATAL = frozenset({32, 38, 44, 46, 48, *range(61, 65), 68, 69, 74, 79, 94, 95, 110, 119, 120, 121, 140, 143})
_K8S_SKIPPED = frozenset({13, 31, 43, 45, 68, 109})  # k8s-device-plugin, not verified: others make it unhealthy


@dataclass(frozen=True)
class Xid:
    """One code. `asks` is NVIDIA's (immediate, investigatory) action; `action` is ours for the first burst.

    From `repeats_count` bursts on one GPU within `window_s` on it is `repeated` (0: it never is); what comes within
    `burst_s` of each other is one burst. `condition` is the detector that judges the code, "" where none does.
    """

    code: int
    meaning: str
    kind: str
    action: str
    asks: tuple[str, str] = ("", "")
    condition: str = ""
    repeats_count: int = 0
    repeated: str = ""
    window_s: float = DAY_S
    burst_s: float = 60.0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("kind", self.kind, KINDS), ("action", self.action, ACTIONS), ("repeated", self.repeated, ("", *ACTIONS)),
        ):  # fmt: skip
            if value not in known:
                raise UsageError(f"XID {self.code}: {name} is {value!r}; wanted one of {', '.join(known)}")
        if not (self.window_s > 0 and self.burst_s >= 0 and self.repeats_count >= 0):
            raise UsageError(f"XID {self.code}: window_s must be above 0, burst_s and repeats_count not below")
        if bool(self.repeats_count) != bool(self.repeated):
            raise UsageError(f"XID {self.code}: repeats_count and repeated go together")

    @property
    def disagree(self) -> tuple[str, ...]:
        """Return which public lists judge the code otherwise: drain where this does not, or the other way round."""
        drains = self.action in DRAINS
        return tuple(name for name, said in _said(self.code).items() if said != drains)


@dataclass(frozen=True)
class Verdict:
    """What to do about a GPU and why; `drain` says whether its node must take no more work until then."""

    action: str
    drain: bool
    why: str


@dataclass(frozen=True)
class Policy:
    """A table of codes and what the driver's own recovery actions mean."""

    version: str
    table: Mapping[int, Xid]
    recovery: Mapping[str, str] = field(default_factory=lambda: dict(RECOVERY))

    def of(self, code: int) -> Xid:
        """Return a code's entry; one that is not in the table is worth a note, never a drain.

        >>> POLICY.of(79).action, POLICY.of(9999).action
        ('drain_reboot', 'annotate')
        """
        return self.table.get(code) or Xid(code, "not in NVIDIA's catalogue", "unknown", "annotate")

    def codes(self, condition: str) -> tuple[int, ...]:
        """Return the codes that a detector judges.

        >>> POLICY.codes("gpu-off-bus")
        (54, 79, 167)
        """
        return tuple(sorted(code for code, xid in self.table.items() if xid.condition == condition))

    def verdict(self, code: int, *, bursts: int = 1, recovery: str | None = None) -> Verdict:
        """Return what to do after so many bursts; `recovery` is what the driver asks for, None where it is not known.

        >>> POLICY.verdict(79).drain, POLICY.verdict(79, recovery="none").drain, POLICY.verdict(13, bursts=2).action
        (True, False, 'validate')
        """
        xid = self.of(code)
        again = 0 < xid.repeats_count <= bursts
        action = xid.repeated if again else xid.action
        often = f", {bursts} times within {xid.window_s / 3600:g} h" if again else ""
        return self.weighed(action, f"XID {code}: {xid.meaning}{often}", recovery)

    def weighed(self, action: str, why: str, recovery: str | None = None) -> Verdict:
        """Return the verdict on an action that something else than a code calls for; the driver's word outranks it.

        >>> POLICY.weighed("drain_reset", "5 uncorrectable errors", "none").action
        'restart_app'
        """
        if recovery is None or recovery not in self.recovery:
            return Verdict(action, action in DRAINS, why)
        asked = self.recovery[recovery]
        if recovery != "none":
            return Verdict(asked, asked in DRAINS, f"{why}; the driver asks for {recovery.replace('_', ' ')}")
        mild = MILDER.get(action, action)
        return Verdict(mild, False, f"{why}; the driver asks for no recovery")

    def changed(self, changes: Mapping[int | str, Mapping[str, Any]], version: str = "") -> Policy:
        """Return the policy with fields of some codes replaced, as a settings file gives them.

        Raises UsageError that names the code and what is wrong.

        >>> POLICY.changed({"92": {"action": "validate"}}).verdict(92).action
        'validate'
        """
        table = dict(self.table)
        for key, values in changes.items():
            code = _code(key)
            table[code] = _replaced(table.get(code) or self.of(code), values)
        return replace(self, version=version or f"{self.version}+changed", table=table)


def _code(key: int | str) -> int:
    text = str(key).strip()
    if not text.isdecimal():
        raise UsageError(f"{key!r} is no XID; wanted a whole number, as 79")
    return int(text)


def _replaced(xid: Xid, values: Mapping[str, Any]) -> Xid:
    names = {one.name: one for one in fields(Xid) if one.name != "code"}
    strange = sorted(set(values) - set(names))
    if strange:
        raise UsageError(f"XID {xid.code} has no {strange[0]!r}; it has {', '.join(names)}")
    made: dict[str, Any] = dict(values)
    try:
        if "asks" in made:
            made["asks"] = tuple(made["asks"])
        return replace(xid, **made)
    except TypeError as error:
        raise UsageError(f"XID {xid.code}: {error}") from None


def _said(code: int) -> dict[str, bool]:
    """Return by public list whether a GPU with this code is taken out of use."""
    return {
        "gcm": code not in _GCM_TOLERATED, "healthagent": code not in _AZH_WARNED, "azurehpc": code in _AZN_FAILED,
        "gpud": code in _GPUD_FATAL, "k8s-device-plugin": code not in _K8S_SKIPPED,
    }  # fmt: skip


_APP, _IGNORED, _RESET = ("RESTART_APP", "CHECK_APP"), ("IGNORE", "CONTACT_SUPPORT"), ("RESET_GPU", "CONTACT_SUPPORT")
_FAULT, _STUCK, _ECC, _LINK, _ROW, _GONE = (
    "gpu-app-fault", "gpu-gsp-timeout", "gpu-ecc-uncorrectable", "nvlink-down", "gpu-row-remap", "gpu-off-bus",
)  # fmt: skip
_TWICE: dict[str, Any] = {"repeats_count": 2, "repeated": "validate"}
_TWICE_RESET: dict[str, Any] = {"repeats_count": 2, "repeated": "drain_reset"}
_COPY_ENGINE = (*range(39, 42), *range(70, 73), *range(75, 78), 85, *range(126, 136))
_NVLINK5 = {144: "SAW", 145: "RLW", 146: "TLW", 147: "TREX", 148: "NVLPW", 149: "NETIR", 150: "MSE"}
# fmt: off
_ENTRIES = (
    Xid(8, "GPU stopped processing", "app_or_gpu", "restart_app", ("RESTART_APP", "CONTACT_SUPPORT"), _FAULT, **_TWICE),
    *(Xid(code, "bad push-buffer stream", "app", "notify_owner", _APP, _FAULT, **_TWICE) for code in (11, 25, 32)),
    Xid(13, "graphics engine exception", "app", "notify_owner", ("RESTART_APP", "XID_13_FLOW"), _FAULT, burst_s=15.0,
        **_TWICE),  # NVSentinel: twice on one GPC and TPC within a day is suspect hardware
    Xid(31, "MMU fault", "app", "notify_owner", ("RESTART_APP", "XID_31_FLOW"), _FAULT, burst_s=180.0, **_TWICE),
    *(Xid(code, "firmware or context switch fault", "driver", "annotate", ("IGNORE", "CHECK_APP"))
      for code in (37, 38, 44)),
    *(Xid(code, "copy engine error", "gpu_soft", "restart_app", ("RESTART_APP", "CONTACT_SUPPORT"), _FAULT, **_TWICE)
      for code in _COPY_ENGINE),
    Xid(43, "channel was reset", "app", "none", _IGNORED, _FAULT),
    Xid(45, "preemptive removal of a channel", "secondary", "none", ("XID_45_FLOW", ""), _FAULT),
    Xid(46, "GPU timeout", "fatal", "drain_reset", _RESET, _STUCK),
    Xid(48, "double-bit ECC error", "fatal", "drain_reset", ("XID_48_FLOW", ""), _ECC),
    Xid(54, "auxiliary power is missing", "fatal", "replace", ("CHECK_MECHANICALS", ""), _GONE),
    *(Xid(code, "unused in the current catalogue", "unknown", "annotate", ("", "CONTACT_SUPPORT"))
      for code in (*range(56, 60), 65, 73, 81)),
    Xid(61, "microcontroller breakpoint", "fatal", "drain_reset", ("", "CONTACT_SUPPORT"), _STUCK),
    Xid(62, "power management unit halted", "fatal", "drain_reset", _RESET, _STUCK),
    Xid(63, "row remapping recorded", "memory_info", "reset_when_idle", ("IGNORE", "IGNORE"), _ROW),
    Xid(64, "row remapping failed", "fatal", "replace", _RESET, _ROW),
    *(Xid(code, "illegal access by the driver", "driver", "annotate", ("IGNORE", "UPDATE_SOFTWARE"))
      for code in (66, 67)),
    Xid(68, "video decoder exception", "app", "notify_owner", ("RESTART_APP", "CONTACT_SUPPORT"), _FAULT, **_TWICE),
    Xid(69, "graphics class error", "app", "notify_owner", _APP, _FAULT, **_TWICE),
    Xid(74, "NVLink error", "link", "annotate", ("XID_74_FLOW", "CONTACT_SUPPORT"), _LINK, **_TWICE_RESET),
    Xid(78, "virtual GPU could not start", "config", "notify_owner", ("UPDATE_SOFTWARE", "")),
    Xid(79, "GPU has fallen off the bus", "fatal", "drain_reboot", ("RESTART_BM", "CONTACT_SUPPORT"), _GONE),
    Xid(80, "push-buffer checksum error", "app", "notify_owner", _APP, _FAULT, **_TWICE),  # on repeat look at AER
    Xid(92, "high rate of single-bit ECC errors", "memory_info", "annotate", _IGNORED, "gpu-ecc-sbe-storm"),
    Xid(93, "InfoROM wears out", "info", "none", _IGNORED),
    Xid(94, "contained ECC error", "memory_app", "restart_app", ("RESTART_APP", "IGNORE"), _ECC, repeats_count=2,
        repeated="reset_when_idle"),
    Xid(95, "uncontained ECC error", "fatal", "drain_reset", ("RESET_GPU", "IGNORE"), _ECC),
    Xid(109, "context switch timeout", "app_or_gpu", "restart_app", _RESET, _STUCK, **_TWICE_RESET),
    Xid(110, "security fault", "fatal", "drain_reset", ("RESET_GPU", "UPDATE_SOFTWARE"), _STUCK),
    Xid(119, "call to the GPU's firmware (GSP) timed out", "fatal", "drain_reset", ("RESET_GPU", "UPDATE_SOFTWARE"),
        _STUCK),
    Xid(120, "the GPU's firmware (GSP) failed", "fatal", "drain_reset", ("RESET_GPU", "UPDATE_SOFTWARE"), _STUCK),
    Xid(121, "chip-to-chip link error", "link_info", "annotate", _IGNORED),
    Xid(136, "NVLink training failed", "link", "drain_reset", ("RESET_GPU", "CHECK_LINK"), _LINK),
    Xid(137, "NVLink privilege error", "app", "notify_owner", ("IGNORE", "XID_137_FLOW"), _FAULT, **_TWICE),
    Xid(140, "unrecovered ECC error", "fatal", "drain_reset", _RESET, _ECC),
    Xid(141, "CUDA fast path", "info", "none", _IGNORED),
    Xid(143, "GPU could not be initialised", "fatal", "drain_reset", _RESET, _STUCK),
    *(Xid(code, f"NVLink 5 error ({unit})", "link", "annotate", ("NVLINK5_FLOW", "NVLINK5_FLOW"), _LINK, **_TWICE_RESET)
      for code, unit in _NVLINK5.items()),
    Xid(151, "key rotation failed", "fatal", "drain_reboot", ("RESTART_VM", ""), _STUCK),
    Xid(154, "recovery action changed", "oracle", "none"),
    Xid(155, "NVLink error that software defines", "link", "drain_reset", ("RESET_GPU", ""), _LINK),
    Xid(156, "memory resource retired", "memory", "reset_when_idle", ("RESET_GPU", "IGNORE"), _ROW),
    Xid(157, "memory resource could not be retired", "memory", "reset_when_idle", ("RESET_GPU", "IGNORE"), _ROW),
    Xid(158, "fatal timeout of the GPU", "fatal", "drain_reset", ("RESET_GPU", ""), _STUCK),
    *(Xid(code, f"memory channel {what}", "info", "annotate", ("IGNORE", "UPDATE_SOFTWARE"))
      for code, what in ((160, "retired"), (161, "could not be retired"))),
    *(Xid(code, "power smoothing circuitry", "info", "annotate") for code in range(162, 166)),
    Xid(167, "fatal timeout on PCIe", "fatal", "drain_reboot", ("", ""), _GONE),
    Xid(168, "reduced memory capacity", "memory", "annotate"),
    *(Xid(code, f"uncorrectable ECC error in {where}", "fatal", "drain_reset", ("XID_48_FLOW", ""), _ECC)
      for code, where in ((171, "DRAM"), (172, "SRAM"))),
)
# fmt: on
POLICY = Policy(VERSION, {xid.code: xid for xid in _ENTRIES})
