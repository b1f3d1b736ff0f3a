"""What does the kernel say of its own host: memory, processors, processes, itself?"""

from __future__ import annotations

import re
from collections.abc import Mapping

from monitors.catalogue.kernel_rows import Fault, Finding, Row, finding, row

_KILLED = (
    r"(?:Out of|Memory cgroup out of) memory[^:]{0,80}: "
    r"Kill(?:ed)? process (?P<pid>\d+),? (?:UID \d+,? )?\((?P<subject>.*?)\)"
)
_BANK = re.compile(
    r"\[Hardware Error\]: CPU \d+: Machine Check(?: Exception)?: [0-9a-f]+ Bank \d+: (?P<status>[0-9a-f]{16})"
)
_VALID, _UNCORRECTED, _CORRUPT = 1 << 63, 1 << 61, 1 << 57
"""bits of MCi_STATUS (Intel SDM volume 3, 17.3.2.2): the register holds an error, it was not corrected, and the
processor cannot go on"""


def read_bank(text: str, faults: Mapping[str, Fault]) -> Finding | None:
    """The finding of a machine check, by its status register: x86 prints the same words for every severity."""
    match = _BANK.search(text)
    if match is None:
        return None
    status = int(match["status"], 16)
    if not (status & _VALID and status & _UNCORRECTED):
        return finding("host_mce", text, faults)
    # 0000 0000 1MMM CCCC is a memory controller's error code, 0000 0001 in bits 7 to 15 a cache's
    memory = status & 0xFF80 == 0x80
    return finding("host_memory_ue" if memory and not status & _CORRUPT else "host_mce_fatal", text, faults)


ROWS: tuple[Row, ...] = (
    # mm/oom_kill.c from 3.x on. "invoked" names who asked for memory, not who dies.
    row("kernel_panic", "Kernel panic", r"Kernel panic - not syncing"),
    row("host_oom", "Out of memory|out of memory", _KILLED),
    row(
        "host_oom",
        "Killed process",
        r"^Killed process (?P<pid>\d+),? (?:\([^)]*\) )?\(?(?P<subject>[^)]*)\)?.*total-vm",
    ),
    row("host_oom", "invoked oom-killer", "", severity="warning"),
    row("host_oom", "oom-kill:constraint", r"task=(?P<subject>.*?),pid=(?P<pid>\d+),uid="),
    row("host_oom", "oom-kill:constraint", ""),
    row("host_oom", "oom_reaper: reaped", r"reaped process (?P<pid>\d+) \((?P<subject>.*?)\)", severity="warning"),
    row("host_oom", "oom_reaper: unable to reap", r"reap pid:(?P<pid>\d+) \((?P<subject>.*?)\)", severity="warning"),
    row("host_oom", "killed by the OOM killer", r"A process of this unit has been killed by the OOM killer"),
    row("host_oom", "as a result of limit of", r"^Task in \S+ killed as a result of limit of", severity="warning"),
    row("host_oom", "no killable processes", r"[Oo]ut of memory and no killable processes"),
    row("host_oom", "due to memory.oom.group", ""),
    # kernel/hung_task.c, kernel/watchdog.c, kernel/rcu/tree_stall.h, kernel/workqueue.c
    row(
        "hung_task",
        "blocked",
        r"INFO: task (?P<subject>.+):(?P<pid>\d+) (?:is )?blocked (?:.{1,80} )?for more than \d+ sec",
    ),
    row(
        "soft_lockup",
        "soft lockup",
        r"BUG: soft lockup - CPU#\d+ stuck for \d+s!(?: \[(?P<subject>.*):(?P<pid>\d+)\])?",
    ),
    row("soft_lockup", "LOCKUP", r"(?:Watchdog )?(?:detected hard|CPU:? ?\d+ (?:detected )?Hard) LOCKUP"),
    row("soft_lockup", "rcu", r"INFO: rcu\w* (?:self-detected stall|detected (?:expedited )?stalls?) on CPU"),
    row("soft_lockup", "kthread starved", r"\brcu\w* kthread starved for \d+ jiffies"),
    row("soft_lockup", "workqueue lockup", r"BUG: workqueue lockup - pool"),
    # arch/*/mm/fault.c, die()
    row(
        "kernel_oops",
        "BUG: unable to handle|BUG: kernel NULL pointer",
        r"BUG: (?:unable to handle|kernel NULL pointer)",
    ),
    row("kernel_oops", "Unable to handle kernel", ""),
    row("kernel_oops", "kernel BUG at", r"kernel BUG at \S+:\d+!"),
    row("kernel_oops", "Oops", r"\bOops.{1,160}\[#\d+\]"),
    row("kernel_oops", "Internal error:", r"Internal error: .*\[#\d+\]"),
    row(
        "kernel_oops",
        "[#",
        r"^(?:general protection fault|divide error|invalid opcode|stack segment|double fault).*\[#\d+\]",
    ),
    row("kernel_oops", "BUG: Bad page", r"BUG: Bad page (?:state|map) in"),
    row("host_fd_limit", "file-max limit", r"VFS: file-max limit \d+ reached"),
    row("kernel_net_leak", "unregister_netdevice", r"unregister_netdevice: waiting for \S+ to become free"),
    # Only a crash inside NCCL is told: of another one the exit status of the rank says more.
    row(
        "nccl_segfault",
        "in libnccl",
        r"^(?:traps: )?(?P<subject>.+?)\[(?P<pid>\d+)\]:? (?:segfault|general prot|trap).* in libnccl",
    ),
    # drivers/firmware/efi/cper.c: the severity of a whole report of the firmware, then its details.
    row("host_mce_fatal", "[Hardware Error]", r"\[Hardware Error\]: (?:event severity: fatal|.*\btype: fatal)"),
    row(
        "host_memory_ue",
        "[Hardware Error]",
        r"\[Hardware Error\]: (?:event severity: recoverable|.*\btype: recoverable)",
    ),
    row("host_mce_fatal", "[Hardware Error]", r"\[Hardware Error\]: .*Processor context corrupt"),
    row(
        "host_mce_fatal",
        "[Hardware Error]",
        r"\[Hardware Error\]: (?:Uncorrected(?: error|, software)|(?:System )?Fatal)",
    ),
    row("host_memory_ue", "ardware memory error", r"(?:mce: )?Uncorrected hardware memory error in user-access"),
    row(
        "host_memory_ue",
        "due to hardware memory corruption",
        r"(?:to|ing) (?P<subject>[^:]+):(?P<pid>\d+) due to hardware memory",
    ),
    row("host_memory_ue", "Memory failure:", r"Memory failure: 0x[0-9a-f]+: (?:recovery action|.*unhandlable)"),
    row("host_memory_ce", "oft-offlin|soft offlin", r"(?:RAS: |CEC: ?|mce: )*(?:Soft-offlining|soft offlining) pfn"),
    row("host_mce", "[Hardware Error]:", r"\[Hardware Error\]: {1,8}\S"),
    row("host_mce", "CMCI storm detected", ""),
    # drivers/edac/edac_mc.c, before and since 3.5
    row("host_memory_ue", "EDAC", r"^EDAC (?:\w+ )?(?:MC|DEVICE|PCI)(?P<subject>\d+)\S*: (?:\d+ )?UE\b"),
    row("host_memory_ce", "EDAC", r"^EDAC (?:\w+ )?(?:MC|DEVICE|PCI)(?P<subject>\d+)\S*: (?:\d+ )?CE\b"),
    row("host_mce", "EDAC", r"^EDAC \w+ MC\d+: HANDLING MCE MEMORY ERROR"),
    # arch/x86/kernel/cpu/mce/therm_throt.c
    row("host_thermal", "throttled", r"CPU\d+: \w+ temperature (?:is )?above threshold"),
    row("host_thermal", "critical temperature reached", r"^thermal "),
    row(None, "temperature/speed normal", r"CPU\d+: \w+ temperature/speed normal", clears="host_thermal"),
)
