"""What kind of fault is it that the driver of a GPU tells of: by its verdict, its Xids, its events, its errors?"""

from __future__ import annotations

from dataclasses import dataclass, replace

from monitors.catalogue.kernel import Catalogue
from monitors.catalogue.xid import DETAILS, NVLINK5, SYMPATHETIC, Xid
from monitors.hardware import GpuEvent, KernelSaw
from monitors.incidents import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One thing that the driver told, as a fault."""

    kind: Kind
    confidence: float
    sentence: str


VERDICTS: dict[int, tuple[Kind, str]] = {
    1: (Kind.GPU_FAULT, "it needs a reset"),
    2: (Kind.GPU_LOST, "its node needs a reboot"),
    3: (Kind.LINK_FAULT, "traffic with its peers has to be drained"),
    4: (Kind.GPU_FAULT, "it has to be drained and reset"),
    5: (Kind.LINK_FAULT, "its IMEX domain has to be recovered"),
    6: (Kind.GPU_FAULT, "its bus needs a reset"),
    7: (Kind.GPU_LOST, "the system needs a reboot"),
}
"""by NVML_GPU_RECOVERY_ACTION_*; 0 is none"""

CLASSES: dict[str, Kind] = {
    "gpu_lost": Kind.GPU_LOST,
    "pcie_uncorrectable": Kind.GPU_LOST,
    "gpu_ctxsw_timeout": Kind.GPU_FAULT,
    "gpu_gsp_timeout": Kind.GPU_FAULT,
    "gpu_init_error": Kind.GPU_FAULT,
    "gpu_pmu_halt": Kind.GPU_FAULT,
    "gpu_reset_required": Kind.GPU_FAULT,
    "gpu_stopped": Kind.GPU_FAULT,
    "gpu_ecc_contained": Kind.GPU_MEMORY,
    "gpu_ecc_uncontained": Kind.GPU_MEMORY,
    "gpu_ecc_uncorrectable": Kind.GPU_MEMORY,
    "gpu_row_remap_failure": Kind.GPU_MEMORY,
    "nvlink_down": Kind.LINK_FAULT,
    "nvlink_error": Kind.LINK_FAULT,
    "nvswitch_fatal": Kind.LINK_FAULT,
    "fabric_manager_error": Kind.LINK_FAULT,
}
"""classes of the catalogue that are a fault of the GPU or its links, and not of the program on it"""
_NOTHING = frozenset({"none", "observe"})

VERDICT = "gpu_recovery_action"
"""class of the kernel's line that prints the verdict"""
ACTIONS = {"reset_gpu": Kind.GPU_FAULT, "reboot_node": Kind.GPU_LOST, "isolate_node": Kind.GPU_LOST}
"""what the verdict asks for"""

ERRORS: dict[str, Told] = {
    "lost": Told(kind=Kind.GPU_LOST, confidence=1.0, sentence="the driver says that it is lost (GPU_IS_LOST)"),
    "reset_required": Told(
        kind=Kind.GPU_FAULT, confidence=1.0, sentence="the driver refuses it until it was reset (RESET_REQUIRED)"
    ),
    "no_answer": Told(kind=Kind.GPU_LOST, confidence=0.85, sentence="a call of its driver about it does not return"),
}
"""by `GpuFailed.error`; any other is worth a word when it stays"""

EVENTS: dict[str, Told] = {
    "ecc_uncorrected": Told(
        kind=Kind.GPU_MEMORY, confidence=0.95, sentence="the driver tells of a memory error that ECC could not correct"
    ),
    "page_retirement_failed": Told(
        kind=Kind.GPU_MEMORY, confidence=0.9, sentence="the driver could not retire a broken page of its memory"
    ),
    "poison": Told(kind=Kind.GPU_MEMORY, confidence=0.95, sentence="the driver tells of poisoned data, fatal"),
    "poison_contained": Told(
        kind=Kind.GPU_MEMORY, confidence=0.8, sentence="the driver tells of poisoned data, contained"
    ),
    "unavailable": Told(kind=Kind.GPU_LOST, confidence=0.95, sentence="the driver tells that it is not available"),
}
"""by `GpuEvent.event`; those that are not here are no fault by themselves"""


def of_verdict(action: int) -> Told | None:
    """The driver's own word on what the GPU needs; None when that is nothing."""
    if action == 0:
        return None
    kind, words = VERDICTS.get(action, (Kind.GPU_FAULT, "something that this version does not know"))
    return Told(kind=kind, confidence=1.0, sentence=f"its driver's verdict is that {words} (recovery action {action})")


def read_xid(event: GpuEvent, catalogue: Catalogue) -> Xid:
    """The Xid as the node that heard it judges it (its site may know better), else as the catalogue does."""
    xid = catalogue.xids.get(event.data) or Xid(code=event.data, name="", meaning="")
    return replace(xid, fault=event.fault or xid.fault, action=event.action or catalogue.action(xid))


def of_xid(xid: Xid, *, after_another: bool) -> Told | None:
    """The fault of the GPU that a Xid tells of; None when it is a program's, a consequence, or nothing."""
    kind = CLASSES.get(xid.fault)
    # Whether an NVLink 5 error is fatal stands only in the kernel's line; the verdict follows a fatal one.
    if kind is None or (xid.code in NVLINK5 and xid.fault == "nvlink_error") or xid.code in DETAILS:
        return None
    if (after_another and xid.code in SYMPATHETIC) or xid.action in _NOTHING:
        return None
    return Told(kind=kind, confidence=0.95, sentence=_xid_sentence(xid))


def of_line(saw: KernelSaw) -> Told | None:
    """The fault of a GPU or its links that a line of the kernel tells of; None when it is a program's, or nothing."""
    kind = ACTIONS.get(saw.action) if saw.fault == VERDICT else CLASSES.get(saw.fault)
    if kind is None or saw.cascade or saw.action in _NOTHING:
        return None
    if saw.fault == "pcie_uncorrectable" and saw.device is None:
        return None  # of some other card: the host's
    return Told(kind=kind, confidence=0.95, sentence=f"the kernel says: {saw.text}")


def _xid_sentence(xid: Xid) -> str:
    advice = f"; NVIDIA advises {xid.immediate}" if xid.immediate else ""
    meaning = f" ({xid.meaning})" if xid.meaning else ""
    return f"the driver told of Xid {xid.code}{meaning}{advice}"
