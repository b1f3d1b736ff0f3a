"""What does the kernel say of PCIe links and of network cards?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from monitors.catalogue.kernel_rows import GONE, PCI, Fault, Finding, Row, address, finding, row

_AT = rf"(?:^|\s)[\w-]+ (?P<pci>{PCI}): "
_FROM = rf"(?:message )?received(?::| from)? ?(?P<pci>{PCI})?"
# drivers/pci/pcie/aer.c: the short names, and before 5.x the long ones
_CORRECTED = (
    r"(?:RxErr|BadTLP|BadDLLP|Rollover|Timeout|NonFatalErr|CorrIntErr|HeaderOF|Receiver Error|Bad TLP|"
    r"Bad DLLP|RELAY_NUM Rollover|Replay Timer Timeout|Advisory Non-Fatal|Corrected Internal|Header Log Overflow)\b"
)
_UNCORRECTED = (
    r"(?:DLP|SDES|TLP|FCP|CmpltTO|CmpltAbrt|UnxCmplt|RxOF|MalfTLP|ECRC|UnsupReq|ACSViol|UncorrIntErr|"
    r"BlockedTLP|AtomicOpBlocked|TLPBlockedErr|PoisonTLPBlocked|DMWrReqBlocked|IDECheck|MisIDETLP|PCRC_CHECK|"
    r"TLPXlatBlocked|Undefined|Data Link Protocol|Surprise Down|Poisoned TLP|Flow Control Protocol|Completion Timeout|"
    r"Completer Abort|Unexpected Completion|Receiver Overflow|Malformed TLP|Unsupported Request|ACS Violation|"
    r"Uncorrectable Internal|MC Blocked|AtomicOp Egress|TLP Prefix)\b"
)
_MLX = rf"\bmlx[45]\w*:?(?: (?P<pci>{PCI}))?"
_SERVER_NICS = (
    r"(?:mlx[45]_\w+|bnxt_en|ice|i40e|iavf|ixgbe|igb|tg3|qede|cxgb4|ionic|enic|be2net|sfc|ena|hns3|irdma|hfi1|atlantic|"
    r"e1000e|igc|idpf|gve|mana|fm10k|nfp|bnx2x)"
)

_BNXT = r"(?:Error \(timeout: \d+\) msg|Resp cmpl intr err msg|Firmware fatal reset event)"
_STUCK = (
    r"(?:TX timeout (?:detected|on queue)|tx_timeout: VSI|tx_timeout recovery level|Detected (?:Tx|Hardware) Unit Hang|"
    r"transmit timed out, resetting|.*lost tx completions is above the threshold|Keep alive watchdog timeout|"
    r"Found a Tx that wasn't completed on time)"
)
_STUCK_WORDS = "TX timeout|tx_timeout|Unit Hang|transmit timed out|tx completions|Keep alive|Found a Tx"
_SICK = "synd 0x|Health issue observed"
_SYNDROME = r"\b(?:synd 0x[0-9a-f]+: |Health issue observed, )"

_STATUS = re.compile(rf"{_AT}.*error status/mask=(?P<status>[0-9a-f]{{8}})/(?P<mask>[0-9a-f]{{8}})")
_ONLY_CORRECTED, _EITHER, _ADVISORY = 0x1C0, 0xF001, 0x2000


def read_status(text: str, faults: Mapping[str, Fault]) -> Finding | None:
    """The finding of a line with AER's registers, which does not say whether they are of corrected errors.

    Bits 6 to 8 exist only for corrected errors, 4, 5 and 16 up only for the others (PCIe 6.0, 7.8.4). The bits that
    both have are told apart by the mask: that of corrected errors has the advisory bit set at reset, none below it.
    """
    match = _STATUS.search(text)
    if match is None:
        return None
    status, mask = int(match["status"], 16), int(match["mask"], 16)
    advisory = bool(mask & _ADVISORY) and not mask & (_ADVISORY - 1)
    corrected = bool(status & _ONLY_CORRECTED) or status == 1 or (not status & ~_EITHER and advisory)
    found = finding("pcie_corrected" if corrected else "pcie_uncorrectable", text, faults)
    return replace(found, pci=address(match["pci"]))


def _mlx(fault: str, phrases: str, pattern: str = "") -> Row:
    """A row of Mellanox's drivers: one of the phrases, or the pattern, after the name of the driver."""
    return row(fault, phrases, rf"{_MLX}.*(?:{pattern or '|'.join(map(re.escape, phrases.split('|')))})")


ROWS: tuple[Row, ...] = (
    row("pcie_corrected", "severity=Correct", rf"(?:{_AT})?.*severity=Correct(?:ed|able)\b"),
    row("pcie_uncorrectable", "severity=Uncorrect", rf"(?:{_AT})?.*severity=Uncorrect(?:ed|able)\b"),
    row("pcie_corrected", "AER: ", rf"AER: (?:Multiple )?Correct(?:ed|able) error {_FROM}"),
    row("pcie_uncorrectable", "AER: ", rf"AER: (?:Multiple )?Uncorrect(?:ed|able) \((?:Non-)?Fatal\) error {_FROM}"),
    row(
        "pcie_uncorrectable",
        "AER: ",
        rf"(?:{_AT})?AER: (?:device recovery failed|subordinate device reset failed|can't recover)",
    ),
    row("pcie_corrected", "] ", rf"{_AT}(?:AER: )?\s*\[\s*\d+\] {_CORRECTED}"),
    row("pcie_uncorrectable", "] ", rf"{_AT}(?:AER: )?\s*\[\s*\d+\] {_UNCORRECTED}"),
    row(
        "pcie_uncorrectable",
        "DPC: ",
        rf"(?:{_AT})?DPC: (?:containment event|ERR_|unmasked uncorrectable|RP PIO|Data Link Layer Link Active not set)",
    ),
    row("pcie_uncorrectable", "giving up", rf"{_AT}not ready \d+ms after [\w -]{{1,40}}; giving up"),
    row("pcie_uncorrectable", "Link Down", rf"(?:{_AT})?pciehp: Slot\([\w-]+\): Link Down"),
    row("pcie_uncorrectable", "SERR", r"^NMI: PCI system error \(SERR\)"),
    row("pcie_uncorrectable", "inaccessible", rf"^(?!nvme|nvidia|mlx){_AT}.*power state.*inaccessible"),
    row("nic_hardware", "power state", rf"^mlx5_core (?P<pci>{PCI}): {GONE}"),
    # mlx5 health.c: the syndrome says what broke, in newer kernels in a sentence; the rest of the report details it
    row("nic_firmware", "Health issue observed", r"Health issue observed, .*severity\([4-7]\)", "observe"),
    row("nic_hardware", _SICK, _SYNDROME + r"(?:unrecoverable hardware|HW fatal|FFSER|ICM fetch PCI)"),
    row("nic_overtemp", _SICK, _SYNDROME + r"High temp"),
    row("nic_firmware", _SICK, _SYNDROME + r"(?!unrecognized|None|no error)\w"),
    _mlx("nic_hardware", "PCI slot is unavailable|PCI reads still not working|unrecoverable hardware error"),
    _mlx(
        "nic_firmware", "Will cause a leak of a command|health compromised|handling bad device here|No done completion"
    ),
    _mlx("nic_firmware", "timed out (go bit not cleared)|device is going to be reset"),
    _mlx(
        "nic_firmware",
        "health recovery failed|health recovery flow aborted|NIC SW reset failed|device is in a bad state",
    ),
    _mlx("nic_firmware", "canceled on out of queue timeout|Internal error detected"),
    _mlx("nic_firmware", "Fatal error ", r"Fatal error \d+ detected"),
    _mlx("nic_init", "init_one|load_one|probe_one|init_hca|init hca|enable_hca|enable hca|mlx5_load:", r"\b[Ff]ailed"),
    _mlx("nic_init", "initializing state", r"Firmware over \d+ MS in .*initializing state"),
    _mlx("nic_init", "ailed initializing command|failed to allocate init pages|ailed to enable PCI|boot_fw failed"),
    row("nic_init", "probe", rf"^{_SERVER_NICS}(?: (?P<pci>{PCI}))?: probe (?:of|with driver) .*failed with error"),
    _mlx("nic_power", "Detected insufficient power on the PCIe slot"),
    _mlx("nic_power", "Power budget exceeded|unadvertised power on the PCIe slot"),
    _mlx("nic_overtemp", "High temperature|High Temperature"),
    _mlx("nic_link_down", "Cable unplugged|Bad or shorted cable|Port module event[error]"),
    row("nic_firmware", "bnxt_en", rf"^bnxt_en (?P<pci>{PCI})(?: \S+)?: {_BNXT}"),
    row("nic_access_reg_noise", "ACCESS_REG", r"mlx.*ACCESS_REG\(0x[0-9a-f]+\).*(?:failed|status)"),
    row("nic_tx_timeout", "NETDEV WATCHDOG", r"NETDEV WATCHDOG: .*transmit queue \d+ timed out"),
    row("nic_tx_timeout", _STUCK_WORDS, rf"^{_SERVER_NICS}(?: (?P<pci>{PCI}))?(?::| \S+:)? .{{0,40}}?{_STUCK}"),
    row("nic_tx_timeout", "transmit timeout: latency", r"^(?P<subject>ib\w+): transmit timeout"),
    row(
        "nic_link_down",
        "ink",
        rf"^{_SERVER_NICS}(?: (?P<pci>{PCI}))?:? (?P<subject>.*?)(?:NIC )?[Ll]ink (?:is )?(?:[Dd]own|DOWN)\b",
    ),
    row("nic_link_down", "Link DOWN", r"(?P<subject>\w+): Port: \d+ Link DOWN"),
    row("nic_link_down", "link status definitely down", ""),
    row("nic_hardware", "PCIe link lost|Adapter removed", rf"^{_SERVER_NICS}(?: (?P<pci>{PCI}))?.*"),
)
