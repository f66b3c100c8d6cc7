"""What lines of the kernel log tell of trouble: one table for the agent, which counts them, and for recorded logs.

The first entry that fits a line counts. A refused read of a register (ACCESS_REG) of a restricted adapter is harmless.
"""

from __future__ import annotations

import re

# GPU: address of the PCI device, code; in the address of a slice of a GPU more stands behind it.
XID = re.compile(rb"NVRM: Xid \((?:PCI:)?([0-9a-fA-F]+):([0-9a-fA-F]+):([0-9a-fA-F]+)[^)]*\): (\d{1,4})")

# A word that lines of the category hold (looking for it is cheap), the category, and what the line must be like.
TROUBLE = tuple(
    (word, category, re.compile(pattern))
    for word, category, pattern in (
        (b"SXid", "nvswitch_sxid", rb"\bSXid \(PCI:[^)]*\): \d+"),
        (b"mlx5_core", "nic_firmware", rb"timeout\. Will cause a leak|mlx5_cmd\w*\b(?!.*ACCESS_REG).* failed|fw_fatal|"
         rb"unrecoverable|[Ff]irmware (?:internal )?error|[Tt]imeout waiting for (?:the )?(?:FW|firmware)"),
        (b"mlx5_core", "nic_health", rb"health compromised|[Ff]atal error \d+ detected|[Hh]ealth poll failed|"
         rb"insufficient power|High Temperature|Cable error"),
        (b"NETDEV WATCHDOG", "nic_health", rb"NETDEV WATCHDOG:"),
        (b"PCIe Bus Error", "pcie", rb"PCIe Bus Error: severity="),
        (b"DPC:", "pcie", rb"DPC: containment event"),
        (b"pciehp", "pcie", rb"pciehp: Slot\([^)]*\): (?:Link Down|Card not present)"),
        (b" blocked ", "hung_task", rb"task \S.* blocked (?:in I/O wait )?for more than \d+ seconds"),
        (b"lockup", "soft_lockup", rb"BUG: soft lockup"),
        (b"LOCKUP", "soft_lockup", rb"hard LOCKUP on cpu"),
        (b"rcu", "soft_lockup", rb"self-detected stall|detected stalls"),
        (b"read", "readonly_fs", rb"[Rr]emounting filesystem read-only|forced readonly"),
        (b"Shutting down", "readonly_fs", rb"Shutting down filesystem"),
        (b"nfs", "nfs", rb"nfs: server \S+ not responding"),
        (b"ut of memory", "oom", rb"ut of memory: Kill"),
        (b"Machine check", "mce", rb"Machine check events logged"),
        (b"EDAC", "mce", rb"EDAC MC\d+: \d+ [CU]E "),
        (b"APEI", "mce", rb"Hardware error from APEI"),
    )
)  # fmt: skip
CATEGORIES = tuple(dict.fromkeys(category for _, category, _ in TROUBLE))


def trouble(line: bytes) -> str:
    """Return the category of a line, "" for one that tells of no trouble; XIDs are apart.

    >>> trouble(b"nfs: server store not responding, still trying"), trouble(b"nfs: server store OK")
    ('nfs', '')
    """
    for word, category, pattern in TROUBLE:
        if word in line and pattern.search(line):
            return category
    return ""
