"""What does the kernel write about what breaks? Lines as drivers print them, for the real catalogue to read."""

from __future__ import annotations

from collections.abc import Callable

Lines = tuple[str, ...]
Maker = Callable[[str, int], Lines]
"""PCI address and pid to lines"""


def xid(number: int, pci: str, pid: int | str, words: str) -> str:
    """The driver's line."""
    return f"NVRM: Xid (PCI:{pci}): {number}, pid={pid}, name=python, {words}"


def lost(pci: str, pid: int) -> Lines:
    """A GPU is gone; what used it is cleaned up."""
    return (
        xid(79, pci, pid, "GPU has fallen off the bus."),
        f"NVRM: GPU {pci}.0: GPU has fallen off the bus.",
        xid(45, pci, pid, "Ch 00000010"),
    )


def gsp(pci: str, pid: int) -> Lines:
    """The GPU's firmware does not answer."""
    words = "Timeout after 6s of waiting for RPC response from GPU0 GSP! Expected function 76 (GSP_RM_CONTROL)"
    return (xid(119, pci, pid, f"{words} (0x2080a0d7 0x108)."),)


def verdict(pci: str, action: int) -> Lines:
    """What the driver says that the GPU needs."""
    words = {1: "GPU Reset Required", 2: "Node Reboot Required", 3: "Drain P2P"}[action]
    changed = f"GPU recovery action changed from 0x0 (None) to 0x{action} ({words})"
    return (xid(154, pci, "'<unknown>'", changed),)


def nvlink(pci: str, pid: int) -> Lines:
    """A link is gone for good."""
    words = "NVLink: fatal error detected on link 4(0x10000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)"
    return (xid(74, pci, pid, words), xid(45, pci, pid, "Ch 00000012"))


def oom(pid: int) -> Lines:
    """The victim of a need for memory."""
    needed = "gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0, oom_score_adj=0"
    sizes = "total-vm:91234567kB, anon-rss:60123456kB, file-rss:4096kB, shmem-rss:0kB, UID:1000 pgtables:120000kB"
    killed = f"Out of memory: Killed process {pid} (python) {sizes} oom_score_adj:0"
    return (f"python invoked oom-killer: {needed}", killed)


def _contained(pci: str, pid: int) -> Lines:
    return (xid(94, pci, pid, "Contained: CE User Channel (0x9). RST: No, D-RST: No"), xid(43, pci, pid, "Ch 00000009"))


def _uncontained(pci: str, pid: int) -> Lines:
    first = xid(95, pci, pid, "Uncontained: LTC TAG (0x2,0x0). RST: Yes, D-RST: No")
    return (first, xid(45, pci, pid, "Ch 00000009"), *verdict(pci, 1))


def _double_bit(pci: str, pid: int) -> Lines:
    first = xid(48, pci, pid, "DBE (double bit error) ECC Error in L2 Cache slice 3")
    marked = "Row Remapper: New row (0x1234) marked for remapping, reset gpu to activate."
    return (first, xid(63, pci, pid, marked), xid(45, pci, pid, "Ch 00000009"), *verdict(pci, 1))


def _page_fault(pci: str, pid: int) -> Lines:
    where = "ENGINE GRAPHICS GPCCLIENT_T1_0 faulted @ 0x7f15_2a400000. Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_READ"
    return (xid(31, pci, pid, f"Ch 00000010, intr 00000000. MMU Fault: {where}"), xid(43, pci, pid, "Ch 00000010"))


def _exception(pci: str, pid: int) -> Lines:
    words = "Graphics SM Warp Exception on (GPC 0, TPC 1, SM 0): Out Of Range Address"
    return (xid(13, pci, pid, words), xid(43, pci, pid, "Ch 00000010"))


MEMORY: dict[str, Maker] = {"contained": _contained, "uncontained": _uncontained, "double_bit": _double_bit}
PROGRAMS: tuple[Maker, ...] = (_page_fault, _exception)
"""a program's own faults"""
CARD: Lines = ("mlx5_core 0000:5e:00.0: health_recovery_work:425:(pid 12): unrecoverable hardware error.",)
CABLE: Lines = ("mlx5_core 0000:5e:00.0: Port module event: module 0, Cable unplugged",)
MACHINE_CHECK: Lines = (
    "mce: [Hardware Error]: CPU 12: Machine Check Exception: 5 Bank 7: be00000000800400",
    "mce: [Hardware Error]: Machine check: Processor context corrupt",
)
READ_ONLY: Lines = (
    "EXT4-fs error (device nvme0n1p2): ext4_journal_check_start:83: comm python: Detected aborted journal",
    "EXT4-fs (nvme0n1p2): Remounting filesystem read-only",
)
NFS_AWAY: Lines = ("nfs: server filer not responding, still trying",)
NFS_BACK: Lines = ("nfs: server filer OK",)
CORRECTED: Lines = ("EDAC MC0: 1 CE memory read error on CPU_SrcID#0_MC#0_Chan#0_DIMM#0",)
