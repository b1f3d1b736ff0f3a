"""Where does the kernel's text begin in a line of a log, whoever wrote the log?

Raw records of /dev/kmsg, `dmesg` with and without -T, -H, -x and caller ids, journald, syslog of both RFCs, pstore, and
what shippers of logs made of any of them (`wrapping`).
"""

from __future__ import annotations

import re

from monitors.catalogue.wrapping import CLOCK, PLACED, unwrapped, visible

LINE_CHARS = 2048
"""looked at of a line: the kernel writes no more (PRINTK_MESSAGE_MAX), and a pattern must stay harmless"""

_PIECES = re.compile(
    rf"""\s*(?:
      \d{{1,4}},\d{{1,20}},\d{{1,20}},[^;\s]{{1,64}};                              # 6,3964,206764307,-;
    | <\d{{1,4}}>(?:\d\s+)?                                                        # <4>, or <13>1 of RFC 5424
    | \[\s*\+?\d+\.\d+\] | \[\s*[TC]\d+\] | \[\.\.\.\]                             # [  1.25] [ T1946] [...]
    | \[(?:[A-Z][a-z]{{2}}\s+)?[A-Z][a-z]{{2}}\s*\d{{1,2}}\s(?:\d{{4}}\s)?[\d:.,]{{5,18}}(?:\s\d{{4}})?\] # dmesg -T
    | (?:kern|user|daemon|auth|syslog|authpriv|mail|local\d)\s*:\s*[a-z]{{3,6}}\s*:    # kern  :warn  : of dmesg -x
    | \[?\d{{4}}[-/]\d\d[-/]\d\d[T\s]{CLOCK}\]?                                  # ISO 8601
    | (?:stdout|stderr)\s[FP](?=\s)                                              # CRI-O and containerd
    | \[rank\d{{1,7}}\]: | {PLACED.replace(" ", "[ ]")}
    | [A-Z][a-z]{{2}}\s+\d{{1,2}}\s(?:\d{{4}}\s)?{CLOCK}                          # May 19 07:08:57
    | (?:[\w.-]{{1,255}}\s+)?kernel(?:\[\d+\])?:(?=\s)                             # node-17 kernel:
    | [\w.-]{{1,255}}\s+kernel\s-\s-\s(?:-|\[[^\]]*\])                             # host kernel - - -
    )""",
    re.VERBOSE,
)
_BARS_CHARS = 1 << 20
"""a progress bar that overwrites itself may stand before the line, on a serial console"""
_MOST_PIECES, _MOST_WRAPS = 8, 3


def bare(line: str) -> str:
    """The line from where the kernel's own text begins, cut at LINE_CHARS."""
    line = line[:_BARS_CHARS].rstrip("\r\n").rpartition("\r")[2]
    line = visible(line[: 2 * LINE_CHARS]).lstrip("\ufffd")
    for _ in range(_MOST_WRAPS):
        line = unwrapped(line)
        at = _begin(line)
        line = line[at:]
        if not at or not line.lstrip().startswith("{"):
            break
        line = line.lstrip()
    return line[:LINE_CHARS].strip().rstrip("\ufffd")


def _begin(line: str) -> int:
    at = 0
    for _ in range(_MOST_PIECES):
        piece = _PIECES.match(line, at)
        if piece is None:
            break
        at = piece.end()
    return at
