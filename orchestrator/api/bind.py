"""Where may the dashboard listen, and who is asked to log in there?"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""what a browser on this machine calls it"""


def refuse_open(host: str, tokens: Sequence[object], names: Iterable[str]) -> str | None:
    """Why this server may not listen there; None: it may."""
    for name in names:
        if not name or len(name) > 253 or any(not (c.isalnum() or c in ".-:") for c in name):
            return f"--name {name!r} is no name of a host"
    if host in LOOPBACK or is_loopback(host):
        return None
    if not tokens:
        return f"{host} can be reached from elsewhere, and there is no token: lastgood dashboard token add NAME"
    return None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
