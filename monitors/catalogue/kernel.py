"""What does one line of the kernel's log say of the hardware and the host?

First Xid and SXid, by their tables; then the rows of `kernel_gpu`, `kernel_links`, `kernel_storage` and `kernel_host`,
the first that fits. A line that no row fits is innocent. Formats from the sources of Linux 3.x to 6.x and of the open
driver 595, and from what older ones printed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from monitors.catalogue import kernel_gpu, kernel_host, kernel_links, kernel_storage
from monitors.catalogue.kernel_prefix import bare
from monitors.catalogue.kernel_rows import FAULTS, Fault, Finding, Row, address, finding
from monitors.catalogue.sxid import SXIDS, SXid
from monitors.catalogue.wrapping import HOST
from monitors.catalogue.xid import XIDS, Xid

ROWS: tuple[Row, ...] = (*kernel_gpu.ROWS, *kernel_links.ROWS, *kernel_storage.ROWS, *kernel_host.ROWS)

_NEEDLES: tuple[tuple[str, tuple[int, ...]], ...] = tuple(
    (needle, tuple(number for number, one in enumerate(ROWS) if needle in one.needles))
    for needle in sorted({needle for one in ROWS for needle in one.needles})
)
"""each needle with the rows that have it: most lines are innocent, and hold none"""
_CHOICES = {
    "action": frozenset(fault.action for fault in FAULTS.values()),
    "severity": frozenset(fault.severity for fault in FAULTS.values()),
    "fault": frozenset(FAULTS),
    "grade": frozenset({"always", "may", "no"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Everything that is known of kernel lines, with what a site changed."""

    faults: Mapping[str, Fault] = field(default_factory=lambda: FAULTS)
    xids: Mapping[int, Xid] = field(default_factory=lambda: XIDS)
    sxids: Mapping[int, SXid] = field(default_factory=lambda: SXIDS)

    def read(self, line: str) -> Finding | None:
        """The finding of a line in any form that logs have; None when it is innocent. Never raises."""
        text = bare(line)
        found = self._read(text)
        if found is None and (host := HOST.match(text)) is not None:  # or a disk, a card: those are tried first
            found = self._read(bare(text[host.end() :]))
        return found

    def _read(self, text: str) -> Finding | None:
        if "Xid" in text or "XID" in text:
            if found := kernel_gpu.read_xid(text, self.xids, self.faults):
                return found
            if "SXid (" in text:
                return kernel_gpu.read_sxid(text, self.sxids, self.faults)
        for special in (kernel_links.read_status, kernel_host.read_bank):
            if found := special(text, self.faults):
                return found
        for number in sorted({number for needle, numbers in _NEEDLES if needle in text for number in numbers}):
            if match := ROWS[number].pattern.search(text):
                return self._found(ROWS[number], text, match.groupdict())
        return None

    def action(self, xid: Xid) -> str:
        """What a Xid asks for: its own action, else that of its class."""
        return xid.action or self.faults[xid.fault].action

    def _found(self, known: Row, text: str, said: Mapping[str, str | None]) -> Finding | None:
        if known.fault is None and not known.clears:
            return None
        found = finding(known.fault or known.clears, text, self.faults)
        if known.fault is None:
            found = replace(found, fault=None, action="none", severity="info", clears=known.clears)
        return replace(
            found,
            action=known.action or found.action,
            severity=known.severity or found.severity,
            pci=address(said.get("pci")),
            pid=_number(said.get("pid")),
            sxid=_number(said.get("sxid")),
            subject=(said.get("subject") or "").strip()[:80],
        )

    def with_overrides(self, text: str) -> Catalogue:
        """The catalogue as a site wants it, from JSON: `{"faults": {"nvme_timeout": {"action": "isolate_node"}},
        "xids": {"63": {"action": "none"}}, "sxids": {"12028": {"grade": "always"}}}`.

        Raises ValueError that names the place: not JSON, a name, a number, a field or a class that there is not.
        """
        body = json.loads(text)
        if not isinstance(body, dict) or not set(body) <= {"faults", "xids", "sxids"}:
            raise ValueError("an override is an object with faults, xids and sxids")
        return Catalogue(
            faults=_overridden("faults", self.faults, body, str),
            xids=_overridden("xids", self.xids, body, int, Xid(code=0, name="", meaning="")),
            sxids=_overridden("sxids", self.sxids, body, int, SXid(code=0, grade="no", meaning="")),
        )


K = TypeVar("K", str, int)
V = TypeVar("V", Fault, Xid, SXid)


def _overridden(
    table: str, known: Mapping[K, V], body: Mapping[str, Any], key: Callable[[str], K], unknown: V | None = None
) -> dict[K, V]:
    """The table with the changes of a site; a key that the table lacks begins as `unknown`, if there may be one."""
    changed = dict(known)
    for name, changes in _object(body.get(table, {}), table).items():
        where = f"{table}.{name}"
        try:
            before = changed.get(key(name), unknown)
        except ValueError:
            raise ValueError(f"{where}: is no number") from None
        if before is None:
            raise ValueError(f"{where}: there is no such class")
        changed[key(name)] = _changed(before, _object(changes, where), where)
    return changed


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: is no object")
    return value


def _changed(value: V, changes: dict[str, Any], where: str) -> V:
    known = {one.name for one in fields(value)} - {"code"}
    for name, chosen in changes.items():
        if name not in known or not isinstance(chosen, str):
            raise ValueError(f"{where}.{name}: may be {', '.join(sorted(known))}, each a text")
        if name in _CHOICES and chosen not in _CHOICES[name]:
            raise ValueError(f"{where}.{name}: {chosen} is not one of {', '.join(sorted(_CHOICES[name]))}")
    return replace(value, **changes)


def _number(text: str | None) -> int | None:
    return int(text) if text else None


read = Catalogue().read
"""The finding of a line by the catalogue as it comes."""
