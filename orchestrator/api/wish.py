"""Where does a person want the dashboard, and where is it? Two small files of the state folder.

`dashboard.json` is there while it is wanted; `dashboard.address` says where it listens, written by the server itself.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.home import Home

PORT = 7117
"""unless it is taken, or another one is asked for"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How it is to be reached."""

    host: str = "127.0.0.1"
    port: int | None = None
    """None: PORT, or any when that is taken"""
    names: tuple[str, ...] = ()
    """hosts that browsers call it by, beside loopback's"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where it listens."""

    url: str
    pid: int
    wish: Wish


def read(home: Home) -> Wish | None:
    """The wish; None: no dashboard is wanted, or the file says nothing sensible."""
    body = _body(home.root / "dashboard.json")
    return None if body is None else _wish(body)


def write(home: Home, wish: Wish) -> None:
    """Want it."""
    _replace(home.root / "dashboard.json", asdict(wish))


def forget(home: Home) -> bool:
    """Want none any more; whether one was wanted."""
    path = home.root / "dashboard.json"
    there = path.exists()
    path.unlink(missing_ok=True)
    return there


def publish(home: Home, address: Address) -> None:
    """It listens there."""
    _replace(home.root / "dashboard.address", asdict(address))


def address(home: Home) -> Address | None:
    """Where it listens; None: nowhere, or the process that did is gone."""
    body = _body(home.root / "dashboard.address")
    wish = _wish(body.get("wish")) if body is not None else None
    if body is None or wish is None or not _is_ours(body.get("pid")):
        return None
    return Address(url=str(body.get("url")), pid=int(body["pid"]), wish=wish)


def _is_ours(pid: Any) -> bool:
    """A number in a file says nothing by itself: another program may have it by now."""
    try:
        words = Path(f"/proc/{int(pid)}/cmdline").read_bytes().split(b"\0")
        return any(word.startswith((b"orchestrator.companion", b"orchestrator.api")) for word in words)
    except (OSError, TypeError, ValueError):
        return False


def _wish(body: Any) -> Wish | None:
    try:
        return Wish(host=str(body["host"]), port=body["port"], names=tuple(map(str, body["names"])))
    except (KeyError, TypeError):
        return None


def _body(path: Path) -> dict[str, Any] | None:
    try:
        body = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return body if isinstance(body, dict) else None


def _replace(path: Path, body: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(body, file)
    os.replace(draft, path)
