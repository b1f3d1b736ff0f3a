"""What does a fault class of the kernel's log mean, and what is one row of the tables that find it?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One class: what it asks for where its row does not say otherwise."""

    action: str
    """none, observe, restart_app, reset_gpu_when_idle, reset_gpu, restart_fabric_manager, check_storage, reboot_node,
    isolate_node"""
    severity: str
    """info, warning, error, fatal"""
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Lines of one form and what they say. Named groups of the pattern: pci, pid, sxid, subject."""

    fault: str | None
    """class of FAULTS; None: the line is innocent, and no later row is asked"""
    needles: tuple[str, ...]
    """one of them stands in every such line: a cheap test before the pattern"""
    pattern: re.Pattern[str]
    action: str = ""
    """empty: that of the class"""
    severity: str = ""
    clears: str = ""
    """the class whose earlier finding is over with this line; `fault` is None"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one line of the kernel's log says."""

    fault: str | None
    """class of FAULTS; None only for a line that clears an earlier one"""
    action: str
    severity: str
    text: str
    """the line without its prefix, cut"""
    cascade: bool = False
    """it only follows or details another event: it never decides"""
    xid: int | None = None
    sxid: int | None = None
    pci: str | None = None
    """lower case, domain of four digits: `0000:3b:00`, or with a function"""
    pid: int | None = None
    subject: str = ""
    """what else the line names: a disk, a server, a port, the name of the victim"""
    clears: str = ""
    """the class that is over with this line"""


TEXT_CHARS = 300
"""kept of a line"""

PCI = r"(?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?"

GONE = r"(?:.*power state.*inaccessible|Refused to change power state, currently in D3)"
"""what the kernel says of a device whose registers read as all ones, since and before Linux 5.15"""

FAULTS: dict[str, Fault] = {
    name: Fault(action=action, severity=severity, meaning=meaning)
    for name, action, severity, meaning in (
        ("app_gpu_error", "restart_app", "warning", "a program's kernel failed on the GPU, which itself is well"),
        ("disk_io_error", "isolate_node", "error", "a disk did not read or write a block"),
        ("fabric_manager_error", "restart_fabric_manager", "error", "the manager of the NVSwitches failed"),
        ("fs_error", "isolate_node", "fatal", "a file system is damaged or cannot reach its disk"),
        ("fs_readonly", "isolate_node", "fatal", "a file system was set read-only after errors"),
        ("gpu_ctxsw_timeout", "reset_gpu", "error", "the GPU did not switch from one program to another in time"),
        ("gpu_driver_error", "restart_app", "warning", "the GPU's own programs or its driver failed"),
        ("gpu_ecc_contained", "restart_app", "error", "broken GPU memory; only the program that used it is hurt"),
        ("gpu_ecc_corrected", "observe", "warning", "GPU memory errors that were corrected, too many of them"),
        ("gpu_ecc_uncontained", "reset_gpu", "error", "broken GPU memory; every program on the GPU is hurt"),
        ("gpu_ecc_uncorrectable", "reset_gpu", "error", "broken GPU memory that could not be corrected"),
        ("gpu_gsp_timeout", "reset_gpu", "fatal", "the GPU's own processor (GSP) does not answer"),
        ("gpu_init_error", "reboot_node", "fatal", "the driver could not start the GPU"),
        ("gpu_lost", "reboot_node", "fatal", "the GPU left the PCIe bus"),
        ("gpu_pmu_halt", "reset_gpu", "fatal", "the GPU's power controller stopped"),
        ("gpu_power", "observe", "warning", "the GPU's power supply or its smoothing is impaired"),
        ("gpu_recovery_action", "observe", "error", "the driver's own verdict on what the GPU needs"),
        ("gpu_reset_required", "reset_gpu", "fatal", "the driver refuses the GPU until it was reset"),
        ("gpu_row_remap", "reset_gpu_when_idle", "warning", "a spare row takes the place of a broken one at a reset"),
        ("gpu_row_remap_failure", "isolate_node", "fatal", "GPU memory is broken and no spare row is left"),
        ("gpu_stopped", "reset_gpu", "error", "the GPU stopped working"),
        ("gpu_sympathetic", "none", "warning", "cleaned up after another event on the GPU"),
        ("gpu_unknown_xid", "none", "warning", "a number for which no action is published"),
        ("host_fd_limit", "restart_app", "error", "the limit of open files of the host is reached"),
        ("host_mce", "observe", "warning", "the host reported a hardware error that it survived"),
        ("host_mce_fatal", "isolate_node", "fatal", "the host reported a hardware error that it cannot survive"),
        ("host_memory_ce", "observe", "warning", "host memory errors that were corrected"),
        ("host_memory_ue", "isolate_node", "fatal", "broken host memory"),
        ("host_oom", "restart_app", "error", "the host or a container ran out of memory and killed a process"),
        ("host_thermal", "observe", "warning", "a processor of the host is too hot and slowed down"),
        ("hung_task", "observe", "error", "a process waits in the kernel, mostly for storage"),
        ("kernel_net_leak", "observe", "warning", "a network device cannot be removed"),
        ("kernel_oops", "reboot_node", "fatal", "the kernel failed and went on, damaged"),
        ("kernel_panic", "reboot_node", "fatal", "the kernel stopped"),
        ("nccl_segfault", "restart_app", "error", "a process crashed inside NCCL"),
        ("nfs_lock_lost", "check_storage", "error", "locks on the file server were lost"),
        ("nfs_stall", "check_storage", "error", "a file server does not answer"),
        ("nic_access_reg_noise", "none", "info", "somebody read a counter that the network card does not have"),
        ("nic_firmware", "reboot_node", "fatal", "the network card's firmware does not answer or failed"),
        ("nic_hardware", "isolate_node", "fatal", "the network card is broken"),
        ("nic_init", "isolate_node", "fatal", "the driver could not start the network card"),
        ("nic_link_down", "isolate_node", "error", "a network link is down"),
        ("nic_overtemp", "observe", "warning", "the network card or its module is too hot"),
        ("nic_power", "isolate_node", "warning", "the network card gets too little power"),
        ("nic_tx_timeout", "observe", "warning", "a queue of the network card stood still; the driver restarts it"),
        ("nvlink_app_error", "restart_app", "warning", "a program used memory of a peer GPU that is gone"),
        ("nvlink_down", "reset_gpu", "fatal", "an NVLink went down"),
        ("nvlink_error", "reset_gpu", "fatal", "an NVLink failed"),
        ("nvlink_nonfatal", "observe", "warning", "an NVLink error that the hardware survived"),
        ("nvme_lost", "isolate_node", "fatal", "an NVMe disk is gone"),
        ("nvme_reset", "isolate_node", "error", "an NVMe disk had to be reset"),
        ("nvme_timeout", "observe", "warning", "an NVMe command took too long"),
        ("nvswitch_fatal", "reset_gpu", "fatal", "an NVSwitch failed"),
        ("nvswitch_nonfatal", "observe", "warning", "an NVSwitch error that the fabric survived"),
        ("pcie_corrected", "observe", "info", "a PCIe transfer was repeated"),
        ("pcie_uncorrectable", "reboot_node", "fatal", "a PCIe transfer was lost"),
        ("peermem_error", "restart_app", "warning", "direct transfers between network card and GPU were torn down"),
        ("raid_failure", "isolate_node", "error", "a disk of a RAID failed"),
        ("soft_lockup", "reboot_node", "error", "a processor of the host did not leave the kernel for seconds"),
    )
}
"""Every class that the tables below can name."""


def row(
    fault: str | None, needles: str, pattern: str, action: str = "", *, severity: str = "", clears: str = ""
) -> Row:
    """A row of a table; `needles` are parted by `|`, a pattern that is empty asks for the needle alone."""
    asked = pattern or "|".join(map(re.escape, needles.split("|")))
    return Row(
        fault=fault,
        needles=tuple(needles.split("|")),
        pattern=re.compile(asked, re.DOTALL),  # a record may hold several lines
        action=action,
        severity=severity,
        clears=clears,
    )


def address(text: str | None) -> str | None:
    """A PCI address as the kernel writes it: lower case, domain of four digits (NVML's has eight)."""
    if not text:
        return None
    *domain, bus, place = text.lower().split(":")
    return f"{int(domain[0] if domain else '0', 16):04x}:{bus}:{place}"


def slot(pci: str | None) -> str | None:
    """The address without its function: what a Xid names, and what two senses can agree on."""
    whole = address(pci)
    return None if whole is None else whole.partition(".")[0]


def finding(fault: str, text: str, faults: Mapping[str, Fault]) -> Finding:
    """A finding of a class with what the class asks for."""
    return Finding(fault=fault, action=faults[fault].action, severity=faults[fault].severity, text=text[:TEXT_CHARS])
