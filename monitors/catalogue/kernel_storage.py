"""What does the kernel say of disks, file systems, RAIDs and file servers?"""

from __future__ import annotations

from monitors.catalogue.kernel_rows import GONE, PCI, Row, row

_NVME = rf"\bnvme (?P<subject>nvme\d+\w*|{PCI}): "

_EXT = (
    r"(?:I/O error|corrupt|[Cc]hecksum|error count|error at time|Delayed block allocation failed|Data will be lost|"
    r"potential data loss|unable to read superblock|mounting fs with errors)"
)
_XFS = r"(?:[Cc]orrupt|CRC error|I/O [Ee]rror|[Ss]hut(?:ting)? ?down|force_shutdown|writeback error|async write)"
_BTRFS = r"(?:csum|checksum|[Ii]/[Oo]) (?:failed|error)"

ROWS: tuple[Row, ...] = (
    # drivers/nvme/host/pci.c, core.c, multipath.c, fabrics
    row("nvme_reset", "nvme", _NVME + r"I/O .*timeout, reset controller"),
    row(
        "nvme_reset", "nvme", _NVME + r"(?:controller is down; will reset|frozen state error|Failed status: \w+, reset)"
    ),
    row("nvme_reset", "nvme", _NVME + r"(?:resetting controller|starting error recovery|Reconnecting in \d+ seconds)"),
    row("nvme_timeout", "nvme", _NVME + r"I/O .*timeout, (?:aborting|completion polled)"),
    row("nvme_lost", "nvme", _NVME + r"(?:Removing after probe failure|Disabling device after reset failure)"),
    row("nvme_lost", "nvme", _NVME + r"Device not ready; aborting (?:reset|initiali[sz]ation)"),
    row(
        "nvme_lost",
        "nvme",
        _NVME + r"(?:Device shutdown incomplete|Identify Controller failed|failed to mark controller)",
    ),
    row(
        "nvme_lost",
        "nvme",
        _NVME + r"(?:reset failure|Failed to reconnect|failed to reset|Removing (?:ctrl|controller))",
    ),
    row("nvme_lost", "nvme", _NVME + r"(?:I/O .*timeout, disable controller|Could not set queue count)"),
    row("nvme_lost", "power state", _NVME + GONE),
    row("nvme_lost", "capacity change", r"(?P<subject>nvme\d+n\d+): detected capacity change from [1-9]\d* to 0\b"),
    row("nvme_lost", "nvme", r"^(?:nvme: probe of \S+ failed|nvme \S+: probe with driver nvme failed)"),
    row("nvme_lost", "path - ", r"block (?P<subject>nvme\S+): no (?:available|usable) path - "),
    row("disk_io_error", "nvme", r"(?P<subject>nvme\d+n\d+): .*@ LBA .*(?:[Ee]rror|[Ff]ault).*\(sct 0x"),
    # block/blk-core.c from "end_request" to "I/O error, dev"; fs/buffer.c; drivers/scsi; drivers/ata
    row(None, "error, dev|Buffer I/O error", r"\bdev(?:ice)? (?:fd|sr)\d"),  # an empty drive
    row(None, "operation not supported error", ""),  # a disk without discard or zeroing
    row("disk_io_error", "error, dev", r"error, dev (?P<subject>\w[\w-]*)"),
    row("disk_io_error", "Buffer I/O error", r"Buffer I/O error on dev(?:ice)? (?P<subject>[\w-]+)"),
    row(
        "disk_io_error",
        "lost page write|lost async page write",
        r"lost (?:async )?page write due to I/O error on (?P<subject>\S+)",
    ),
    row("disk_io_error", "beyond end of device", r"attempt to access beyond end of device"),
    row(
        "disk_io_error",
        "Medium Error|Hardware Error",
        r"^sd \S+ \[(?P<subject>\w+)\] .*Sense Key : (?:Medium|Hardware) Error",
    ),
    row("disk_io_error", "FAILED Result", r"^sd \S+ \[(?P<subject>\w+)\] .*FAILED Result: hostbyte=(?!DID_OK)\w+"),
    row(
        "disk_io_error",
        "offline",
        r"^sd \S+ (?:\[(?P<subject>\w+)\] )?(?:rejecting I/O to offline device|Device offlined - )",
    ),
    row(
        "disk_io_error",
        "Add. Sense",
        r"^sd \S+ \[(?P<subject>\w+)\] .*Add\. Sense: (?:Unrecovered|Write error|Peripheral device write|Internal tar)",
    ),
    row("disk_io_error", "error: {", r"^ata[\d.]+: error: \{[^}]*\b(?:UNC|IDNF|AMNF)\b"),
    row("disk_io_error", "failed command", r"^ata[\d.]+: failed command: (?:READ|WRITE|FLUSH)"),
    # drivers/md
    row("raid_failure", "md", r"\bmd(?:/raid\w*)?:(?P<subject>\w+)?:? Disk failure on \w+"),
    row("raid_failure", "md", r"\bmd/raid\w*:(?P<subject>\w+): Operation continuing on \d+ devices"),
    row(
        "raid_failure",
        "md",
        r"\bmd/raid\w*:(?P<subject>\w+): (?:not enough operational|Cannot continue|too many failed)",
    ),
    row(
        "raid_failure",
        "md",
        r"\bmd: (?:super_written gets error|kicking \S+ \w+ from array|\w+ still in use, can't|.*unable to run)",
    ),
    row(None, "active with", r"active with (\d+) out of \1 (?:mirrors|devices)"),
    row(
        "raid_failure",
        "active with",
        r"\bmd/raid\w*:(?P<subject>\w+): .*active with \d+ out of \d+ (?:mirrors|devices)",
    ),
    row("raid_failure", "DEGRADED|OFFLINE", r"^mega\w*_sas .*VD \S+ is now (?:DEGRADED|OFFLINE|PARTIALLY DEGRADED)"),
    # fs/ext4, fs/jbd2, fs/xfs, fs/btrfs
    row(
        "fs_readonly",
        "ead-only|readonly",
        r"[Rr]emounting (?:filesystem )?read-only|forced readonly|[Ss]witching to read-only",
    ),
    row("fs_error", "EXT", r"\bEXT[234]-fs error \(device (?P<subject>[^)]+)\)"),
    row("fs_error", "EXT", rf"\bEXT[234]-fs (?:warning )?\((?:device )?(?P<subject>[^)]+)\): .*{_EXT}"),
    row("fs_error", "JBD", r"\bJBD2?: .*(?:[Ee]rror|[Ii]nvalid checksum)"),
    row("fs_error", "Aborting journal", r"Aborting journal on device (?P<subject>\S+?)\.?$"),
    row("fs_error", "XFS", rf"\bXFS \((?P<subject>[^)]+)\): .*(?:{_XFS}|log mount/recovery failed)"),
    row("fs_error", "BTRFS", r"\bBTRFS:? (?:critical|error) \(device (?P<subject>[^):]+)"),
    row("fs_error", "BTRFS", rf"\bBTRFS warning \(device (?P<subject>[^):]+).*{_BTRFS}"),
    row("fs_error", "has encountered an uncorrectable I/O failure", r"\bPool '(?P<subject>[^']+)'"),
    # net/sunrpc/clnt.c, fs/lockd, fs/nfs; other file servers' clients that say the same
    row(None, " OK", r"^(?:nfs|lockd): server (?P<subject>\S+) OK$", clears="nfs_stall"),
    row(
        "nfs_stall",
        "not responding",
        r"^(?:nfs|lockd|rpc): server (?P<subject>\S+?) not responding, (?:still trying|timed out)",
    ),
    row("nfs_stall", "has not responded in", r"^CIFS: VFS: (?P<subject>\S+) has not responded in \d+ seconds"),
    row("nfs_stall", "was lost; in progress operations", r"^Lustre: .*Connection to (?P<subject>\S+) .*was lost"),
    row("nfs_stall", "LustreError", r"^LustreError: .*operation \w+ to node \S+ failed: rc = -\d"),
    row("nfs_stall", "Request sent has", r"^Lustre: .*Request sent has (?:timed out|failed)"),
    row("nfs_lock_lost", "was evicted by", r"^LustreError: .*This client was evicted by (?P<subject>[^;\s]+)"),
    row(None, "Connection restored to", r"^Lustre: .*Connection restored to (?P<subject>\S+)", clears="nfs_stall"),
    row("nfs_stall", "ceph", r"^(?:lib)?ceph: .*(?:mds\d+ hung|socket closed|session lost|osd\d+ down)"),
    row("nfs_lock_lost", "reclaim", r"(?:Lock reclaim failed|failed to reclaim lock|reclaim_\w+: unhandled error)"),
)
