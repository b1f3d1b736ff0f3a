"""How long must somebody wait after logins that failed? Pure: time comes with the calls.

Each address waits longer and longer, a minute at most. All together are held to a rate, so that many addresses are no
way around it: a wait of that kind is some seconds and ends by itself, so nobody who has a token is locked out for ever,
and whoever is logged in is not touched at all.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from dataclasses import dataclass

FREE = 5
"""failures of an address before it waits"""
FIRST_S = 1.0
MOST_S = 60.0
FORGOTTEN_S = 600.0
ADDRESSES = 4096
ALL_FREE = 60
"""failures of all addresses in a minute"""
ALL_WINDOW_S = 60.0
ALL_WAIT_S = 3.0


@dataclass(slots=True)
class _Failures:
    count: int = 0
    last_at: float = 0.0
    until: float = 0.0


class Throttle:
    """The failed logins of the last minutes."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, _Failures] = OrderedDict()
        self._all: deque[float] = deque(maxlen=ALL_FREE)
        self._next_at = 0.0

    def wait_s(self, address: str, now: float) -> float:
        """Seconds until this address may try; 0: now, and then the try counts."""
        known = self._of.get(_place(address))
        if known is not None and now - known.last_at > FORGOTTEN_S:
            known = None
        own_s = max(0.0, known.until - now) if known else 0.0
        if own_s:
            return own_s
        crowded = len(self._all) == ALL_FREE and now - self._all[0] < ALL_WINDOW_S
        if crowded and now < self._next_at:
            return self._next_at - now
        # While strangers try in crowds one in a few seconds is let in: whoever holds a token comes through.
        self._next_at = now + ALL_WAIT_S if crowded else now
        return 0.0

    def failed(self, address: str, now: float) -> None:
        """A wrong token came from there."""
        place = _place(address)
        known = self._of.pop(place, None)
        if known is None or now - known.last_at > FORGOTTEN_S:
            known = _Failures()
        known.count += 1
        known.last_at = now
        if known.count >= FREE:
            known.until = now + min(MOST_S, FIRST_S * 2 ** min(10, known.count - FREE))
        self._of[place] = known
        if len(self._of) > ADDRESSES:
            self._of.popitem(last=False)
        self._all.append(now)

    def succeeded(self, address: str) -> None:
        """A right one."""
        self._of.pop(_place(address), None)


def _place(address: str) -> str:
    """One household has 2^64 addresses of the sixth version: they count as one."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
