"""Are metrics wanted, where, and how many? `HOME/metrics.yaml`, which `lastgood metrics --port` writes.

Beside it `metrics.json` says where they are served now.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from jobs import document
from jobs.document import Document
from jobs.errors import SpecError
from orchestrator.home import Home

PORT = 9790
"""where nobody else is known to listen: dcgm-exporter has 9400, Prometheus 9090, its exporters 9100 to 9999"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the file says."""

    port: int = PORT
    """0: any that is free"""
    bind: str = "127.0.0.1"
    """address to listen on; any but loopback asks for a token"""
    gpus_max: int = 256
    """of a run with more GPUs only the least, the median and the greatest of each value are told"""
    runs_max: int = 500
    """the newest so many, and all that are held; the others are only counted"""

    @property
    def is_loopback(self) -> bool:
        """Only this machine can reach it."""
        return self.bind == "localhost" or ip_address(self.bind).is_loopback


def path(home: Home) -> Path:
    """The file."""
    return home.root / "metrics.yaml"


def wanted(home: Home, specs: Sequence[object]) -> bool:  # noqa: ARG001 - what every companion is asked with
    """Whether the endpoint should be there."""
    return path(home).exists()


def read(home: Home) -> Settings:
    """What the file says; an empty file: nothing. Raises SpecError, and OSError when it is not there."""
    body = path(home).read_bytes()
    if not body.strip():
        return Settings()
    file = document.read(path(home).name, body)
    known = {name: kind for name, kind in Settings.__annotations__.items() if name != "return"}
    for key, value in file.data.items():
        if key not in known:
            raise SpecError(f"{_at(file, key)}: unknown key; there are: {', '.join(known)}")
        _check(file, key, value, known[key])
    return Settings(**file.data)


def _check(file: Document, key: str, value: Any, kind: str) -> None:
    if kind == "int" and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 65535):
        raise SpecError(f"{_at(file, key)}: {value!r} is not a whole number from 0 to 65535")
    if key == "bind" and value != "localhost":
        try:
            ip_address(str(value))
        except ValueError:
            raise SpecError(f"{_at(file, key)}: {value!r} is no address; 127.0.0.1 is this machine alone") from None


def _at(file: Document, key: str) -> str:
    return f"{file.place((key,)).where}: {key}"


def write(home: Home, port: int) -> None:
    """Serve them at this port from now on; what else the file says stays. Raises SpecError and OSError."""
    known = read(home) if path(home).exists() else Settings()
    said = {"port": port, **{name: getattr(known, name) for name in ("bind", "gpus_max", "runs_max")}}
    draft = path(home).with_suffix(".writing")
    draft.write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in said.items()))
    os.replace(draft, path(home))


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the page is, by whom."""

    host: str
    port: int
    pid: int

    @property
    def url(self) -> str:
        """For a scraper."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/metrics"


def address(home: Home) -> Address | None:
    """Where the page is; None when nobody serves it."""
    try:
        found = Address(**json.loads(_published(home).read_text()))
        os.kill(found.pid, 0)
    except (OSError, ValueError, TypeError):
        return None
    return found


def publish(home: Home, settings: Settings, port: int) -> None:
    """Say where it is."""
    draft = _published(home).with_suffix(".writing")
    draft.write_text(json.dumps({"host": settings.bind, "port": port, "pid": os.getpid()}))
    os.replace(draft, _published(home))


def retract(home: Home) -> None:
    """It is nowhere any more."""
    _published(home).unlink(missing_ok=True)


def _published(home: Home) -> Path:
    return home.root / "metrics.json"
