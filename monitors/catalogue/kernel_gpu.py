"""What does a line of NVIDIA's drivers say: Xid, SXid, and what they print without a number?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from monitors.catalogue.kernel_rows import GONE, PCI, Fault, Finding, Row, address, finding, row
from monitors.catalogue.sxid import COOLED, SXid
from monitors.catalogue.xid import DETAILS, HARMLESS_NVLINK5, NVLINK5, Xid

# `(0000:03:00)`, `(PCI:0000:01:00)`, `(PCI:0000:01:00 GPU-I:05 GPU-CI:00)`; the name may hold anything.
_XID = re.compile(rf"\bXid \((?:PCI:)?(?P<pci>{PCI})[^)]{{0,64}}\):\s*(?P<xid>\d{{1,5}})(?!\w)(?P<rest>.*)", re.DOTALL)
_PID = re.compile(r"pid='?(?P<pid>\d{1,10})")
_SXID = re.compile(rf"\bSXid \((?:PCI:)?(?P<pci>{PCI})\):\s*(?P<sxid>\d{{1,6}})(?!\w)\s*,?\s*(?P<rest>.*)", re.DOTALL)
_GUEST = re.compile(r"\bXID (?P<xid>\d{1,4}) detected on physical_chid")

_VERDICT = re.compile(r"\bto 0x(?P<code>[0-9a-fA-F]+) \((?P<words>[^)]*)\)[^)]*$")
_VERDICT_WORDS = (
    ("reboot", "reboot_node", "fatal"),
    ("imex", "restart_fabric_manager", "error"),
    ("reset", "reset_gpu", "error"),
    ("drain", "reset_gpu", "error"),
)
_VERDICT_CODES = {1: "reset", 2: "reboot", 3: "drain", 4: "reset", 5: "imex", 6: "reset", 7: "reboot"}
"""as NVML's NVML_FI_DEV_GET_GPU_RECOVERY_ACTION counts them, for words that we do not know"""

_WORD = re.compile(r"(?P<unit>[A-Z][A-Z0-9_]*)?\s*\b(?P<word>[Nn]on-?[Ff]atal|(?:[Ll]ink )?[Ff]atal)\b")
_REGISTERS = re.compile(r"\(0x[0-9a-fA-F]+[, ]+0x(?P<status>[0-9a-fA-F]+)")
_GRADE = re.compile(r"(?P<word>Fatal|Non-?[Ff]atal|Correctable)\b")


def read_xid(text: str, xids: Mapping[int, Xid], faults: Mapping[str, Fault]) -> Finding | None:
    """The finding of a Xid line; None when it is none, or has no number."""
    match = _XID.search(text)
    if match is None:
        guest = _GUEST.search(text)
        return None if guest is None else _by_number(int(guest["xid"]), text, "", xids, faults)
    found = _by_number(int(match["xid"]), text, match["rest"], xids, faults)
    pid = _PID.search(match["rest"])
    return replace(found, pci=address(match["pci"]), pid=int(pid["pid"]) if pid else None)


def _by_number(code: int, text: str, rest: str, xids: Mapping[int, Xid], faults: Mapping[str, Fault]) -> Finding:
    xid = xids.get(code, Xid(code=code, name="", meaning=""))
    found = replace(finding(xid.fault, text, faults), xid=code)
    if xid.action:
        found = replace(found, action=xid.action)
    if code == 154:
        return _verdict(found, rest)
    if code in NVLINK5 and xid.fault == "nvlink_error":
        return _nvlink5(found, rest, faults)
    if code in DETAILS or xid.fault == "gpu_sympathetic":
        return replace(found, cascade=True)
    if code == 94 and "RST: Yes" in rest.replace("D-RST", ""):
        return replace(found, action="reset_gpu")
    return found


def _verdict(found: Finding, rest: str) -> Finding:
    """Xid 154: the words in the last parentheses are what the GPU needs now; None takes back what was asked for."""
    match = _VERDICT.search(rest)
    if match is None:
        return found
    words = match["words"].lower()
    code = int(match["code"], 16)
    if words == "none" or (not words and code == 0):
        return replace(found, fault=None, action="none", severity="info", clears="gpu_recovery_action")
    known = [row for row in _VERDICT_WORDS if row[0] in words or row[0] == _VERDICT_CODES.get(code)]
    return replace(found, action=known[0][1], severity=known[0][2]) if known else found


def _nvlink5(found: Finding, rest: str, faults: Mapping[str, Fault]) -> Finding:
    """Xid 144 to 150: the printed word decides. Without one, somebody has to look."""
    words = list(_WORD.finditer(rest))
    if not words:
        return replace(found, action="observe")
    match = words[-1]  # the name of a process stands before the text
    unit = match["unit"] or ""
    if match["word"].lower().startswith("non"):
        registers = _REGISTERS.search(rest)
        status = int(registers["status"], 16) if registers else 0
        harmless = bool(status) and not status & ~HARMLESS_NVLINK5.get(unit, 0)
        action = "none" if harmless else faults["nvlink_nonfatal"].action
        return replace(found, fault="nvlink_nonfatal", action=action, severity=faults["nvlink_nonfatal"].severity)
    if unit.startswith(("NETIR_LINK", "NETIR_INT")):
        down = faults["nvlink_down"]
        return replace(found, fault="nvlink_down", action=down.action, severity=down.severity)
    return found


def read_sxid(text: str, sxids: Mapping[int, SXid], faults: Mapping[str, Fault]) -> Finding | None:
    """The finding of an SXid line; None when it is none, or only details an event that has a line of its own."""
    match = _SXID.search(text)
    if match is None or match["rest"].startswith(("Severity ", "Data {")):
        return None
    code, rest = int(match["sxid"]), match["rest"]
    known = sxids.get(code, SXid(code=code, grade="no", meaning=""))
    word = _GRADE.match(rest)
    fatal = word["word"] == "Fatal" if word else known.grade != "no" or "Shutting Down" in rest
    found = finding("nvswitch_fatal" if fatal else "nvswitch_nonfatal", text, faults)
    if code in COOLED and word is None:
        found = replace(found, fault=None, action="none", severity="info", clears="nvswitch_nonfatal")
    return replace(found, sxid=code, pci=address(match["pci"]))


_AT = rf"(?:GPU (?:at )?(?:PCI:)?(?P<pci>{PCI})\b.*?)?"

ROWS: tuple[Row, ...] = (
    # nv.c, osapi.c and osinit.c of the open driver; the second form stands in three records without a Xid.
    row("gpu_lost", "fallen off the bus", rf"NVRM: (?:The NVIDIA )?{_AT}.*?fallen off the bus"),
    row("gpu_lost", "NV_ERR_GPU_IS_LOST|status 0x0000000f|status=0x0000000f|(0x0000000F)", r"NVRM: "),
    row("gpu_lost", "power state", rf"^nvidia (?P<pci>{PCI}): {GONE}"),
    row("gpu_reset_required", "NV_ERR_RESET_REQUIRED|status 0x00000062|status=0x00000062|(0x00000062)", r"NVRM: "),
    row("gpu_reset_required", "requiring os reboot|requiring OS reboot", r"global fatal error", "reboot_node"),
    row("gpu_pmu_halt", "PMU has halted|PmuHalted", r"NVRM: "),
    row("gpu_gsp_timeout", "Rate limiting GSP RPC", rf"NVRM: .*?Rate limiting GSP RPC error prints (?:for )?{_AT}"),
    row("gpu_gsp_timeout", "GSP", r"NVRM: .*Timeout (?:after \d+m?s of )?waiting for RPC (?:response )?from"),
    row("gpu_gsp_timeout", "GSP", r"NVRM: .*\*{8,} ?GSP[\w -]* (?:Timeout|Failure|Report)"),
    row("gpu_gsp_timeout", "timedout for fn|eartbeat timed out", r"NVRM: .*(?:rpcRecvPoll|[Hh]eartbeat).* ?timed ?out"),
    row(
        "gpu_gsp_timeout",
        "GSP",
        r"NVRM: .*GSP(?:-RM|-LIBOS|-RISCV)?\b.*\b(?:crashed|halted|task exception|unresponsive)",
    ),
    row("gpu_init_error", "RmInitAdapter|RmInitNvDevice", rf"NVRM: {_AT}RmInit(?:Adapter|NvDevice)\b.*\bfailed"),
    row(
        "gpu_init_error",
        "rm_init_adapter|rm_init_private_state",
        rf"NVRM: {_AT}rm_init_\w+(?:\([^)]{{0,20}}\))? failed",
    ),
    row("gpu_init_error", "Cannot attach", r"NVRM: .*\*\*\* Cannot attach (?:bc )?gpu"),
    row("gpu_init_error", "probe routine", r"NVRM: .*probe routine (?:failed|was not called) for \d+"),
    row("gpu_init_error", "None of the NVIDIA|No NVIDIA", r"NVRM: (?:None of the NVIDIA|No NVIDIA (?:dev|GPU|graph))"),
    row("gpu_init_error", "vbios|VBIOS", rf"NVRM: {_AT}[Ff]ailed to copy vbios"),
    row("gpu_init_error", "I/O region assigned|failed to map registers", r"NVRM: .*(?:is invalid|map registers)"),
    row(
        "gpu_init_error",
        "Cannot initialize GSP|Failed to initialize GSP|GSP boot",
        r"NVRM: .*(?:[Ii]nitiali[sz]e|failed)",
    ),
    row("gpu_init_error", "not supported by the", r"NVRM: .*not supported by the (?:NVIDIA )?\S+ driver release"),
    row("gpu_init_error", "probe", rf"^nvidia (?P<pci>{PCI}): probe with driver nvidia failed with error -\d+"),
    row("gpu_init_error", "probe of", rf"^nvidia: probe of (?P<pci>{PCI}) failed with error -\d+"),
    row("gpu_init_error", "Device start failed", rf"NVRM: Device start failed for (?P<pci>{PCI})"),
    row("gpu_init_error", "FSP", r"NVRM: .*FSP .*(?:timed out|failed)"),
    row("gpu_stopped", "probably locked", r"NVRM: .*RC watchdog: GPU is probably locked"),
    row("nvlink_error", "LinkMask failed|Rx Detect Link mask", r"NVRM: .*(?:LinkMask failed|Failed to update Rx)"),
    row("nvlink_error", "NV_ERR_NVLINK_", r"NVRM: .*NV_ERR_NVLINK_(?:TRAINING|MINION|INIT|CLOCK|FABRIC_FAILURE)"),
    row("nvlink_error", "Link training failed|ailed to train link", r"NVRM: .*NVLink: "),
    row(
        "gpu_ecc_uncorrectable",
        "ncorrectable|ncorrected",
        r"NVRM: .*\b[Uu]ncorrect(?:able|ed) (?:double bit|ECC|[DS]RAM)",
    ),
    row("gpu_driver_error", "API mismatch", r"NVRM: API mismatch:(?:.*\(pid (?P<pid>\d+)\))?", "observe"),
    row("peermem_error", "ERROR", r"nvidia[-_]peermem.*\bERROR\b"),
    row("peermem_error", "nv_get_p2p_free_callback", r"nv_get_p2p_free_callback.*(?:invalid|error)"),
    # Fabric manager's own log, and systemd's of it.
    row(None, "NV_WARN_NOTHING_TO_DO", ""),
    row(
        "nvswitch_fatal",
        "detected NVSwitch fatal error",
        rf"fatal error (?P<sxid>\d+)(?:.*?bus id (?P<pci>{PCI}))?",
    ),
    row("nvswitch_nonfatal", "detected NVSwitch non-fatal", rf"error (?P<sxid>\d+)(?:.*?bus id (?P<pci>{PCI}))?"),
    row("fabric_manager_error", "[ERROR]", r"^\[ERROR\] \[tid \d+\]"),
    row("fabric_manager_error", "failed to find the GPU handle", ""),
    row("fabric_manager_error", "fabricmanager", r"nv-fabricmanager(?:\[\d+\])?: .*(?:[Ff]ail|[Ee]rror|[Aa]bort)"),
    row("fabric_manager_error", "Failed to start", r"Failed to start .*\b(?:[Ff]abric ?[Mm]anager|nvidia-fabric)"),
    row(
        "fabric_manager_error", "nvidia-fabricmanager.service", r"\.service: (?:Failed with result|Main process exited)"
    ),
)
