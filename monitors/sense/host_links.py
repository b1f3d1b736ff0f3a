"""Which network and InfiniBand ports went down, and which count errors?"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from monitors.sense.host_reader import Question, Reader

COUNTERS_EVERY_S = 30.0
"""Reading them makes some firmware write to the kernel's log (gpud#1164), and asks it in any case."""
UP_LEAST_S = 25.0
"""a port that was up for less than that was not up: gpud's rule against flaps"""
NET_COUNTERS = ("rx_errors", "tx_errors", "rx_crc_errors", "tx_carrier_errors")
IB_COUNTERS = frozenset(
    "symbol_error link_error_recovery link_downed port_rcv_errors port_xmit_discards local_link_integrity_errors"  # noqa: SIM905
    " excessive_buffer_overrun_errors rnr_nak_retry_err local_ack_timeout_err roce_slow_restart".split()
)
_IFF_UP = 1

Rate = tuple[str, str, float]
"""port, counter, growth a second"""


class Links:
    """Ports with hardware behind them: what a container engine makes and removes is nobody's fault."""

    def __init__(self, root: Path, reader: Reader) -> None:
        self._net = root / "sys/class/net"
        self._ib = root / "sys/class/infiniband"
        self._reader = reader
        self._up_since: dict[str, float] = {}
        self._known: set[str] = set()
        """was up for long enough to count"""
        self._down: set[str] = set()
        self._counted: dict[str, tuple[float, dict[str, int]]] = {}
        self._rates: dict[str, list[Rate]] = {}
        self._asked_at = float("-inf")

    def look(self, now: float) -> tuple[tuple[str, ...], tuple[Rate, ...]]:
        """Ports that were up and are not, and counters that grow, a second."""
        states = {**self._net_states(), **self._ib_states()}
        for port, up in states.items():
            self._note(port, up, now)
        # A network port that is gone was mostly given to a container; an InfiniBand port is not moved by itself.
        gone = {port for port in self._known - states.keys() if ":" in port}
        self._known &= states.keys() | gone
        self._down = {port for port in self._known if not states.get(port, False)}
        self._count(now, [port for port, up in states.items() if up])
        return tuple(sorted(self._down)), tuple(rate for rates in self._rates.values() for rate in rates)

    def close(self) -> None:
        """End the reader."""
        self._reader.close()

    def _note(self, port: str, up: bool, now: float) -> None:
        if not up:
            self._up_since.pop(port, None)
        elif now - self._up_since.setdefault(port, now) >= UP_LEAST_S:
            self._known.add(port)

    def _net_states(self) -> dict[str, bool]:
        return {name: _net_up(self._net / name) for name in _names(self._net) if _is_hardware(self._net / name)}

    def _ib_states(self) -> dict[str, bool]:
        found = {}
        for device in _names(self._ib):
            for port in _names(self._ib / device / "ports"):
                # "4: ACTIVE"; a port that waits for its subnet manager is INIT, and carries nothing.
                found[f"{device}:{port}"] = _text(self._ib / device / "ports" / port / "state").startswith("4")
        return found

    def _count(self, now: float, up: list[str]) -> None:
        if now - self._asked_at >= COUNTERS_EVERY_S:
            self._asked_at = now
            for port in up:
                if ":" not in port:
                    self._grown(port, _net_counters(self._net / port), now)
            questions: list[Question] = [("counters", str(self._port_folder(port))) for port in up if ":" in port]
            self._reader.ask(questions, now)
        for answer in self._reader.answers(now):
            self._take(answer.question[1], answer.value, now)
        self._rates = {port: rates for port, rates in self._rates.items() if port in up}

    def _port_folder(self, port: str) -> Path:
        device, number = port.split(":")
        return self._ib / device / "ports" / number

    def _take(self, folder: str, value: dict[str, Any] | None, now: float) -> None:
        device, _, number = folder.split("/")[-3:]
        port = f"{device}:{number}"
        if value is not None:
            self._grown(port, {name: n for name, n in value.items() if name in IB_COUNTERS}, now)

    def _grown(self, port: str, counts: dict[str, int], now: float) -> None:
        before_at, before = self._counted.get(port, (now, counts))
        self._counted[port] = (now, counts)
        grown = {name: count - before[name] for name, count in counts.items() if name in before}
        seconds = max(1e-3, now - before_at)
        # A counter that fell was reset.
        self._rates[port] = [(port, name, more / seconds) for name, more in grown.items() if more > 0]


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _is_hardware(port: Path) -> bool:
    """A card: no bridge, no end of a container's pair; and not the service processor behind a USB port."""
    if not (port / "device").exists():
        return False
    return not re.search("usb", os.path.basename(os.path.realpath(port / "device/subsystem")))


def _net_up(port: Path) -> bool:
    # Of the files that say so, this one is read without asking the driver. Some drivers only know "unknown".
    state = _text(port / "operstate")
    if state == "unknown":
        with suppress(ValueError):
            return bool(int(_text(port / "flags") or "0", 16) & _IFF_UP)
    return state == "up"


def _net_counters(port: Path) -> dict[str, int]:
    found = {}
    paths = [*(port / "statistics" / name for name in NET_COUNTERS), port / "carrier_changes"]
    for path in paths:
        with suppress(ValueError):
            found[path.name] = int(_text(path))
    return found
