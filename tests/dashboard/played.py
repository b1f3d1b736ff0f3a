"""What does a dashboard show that is worth a look? A small run of its own, its faults, and its server."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.client import NoSupervisor, ask
from tests.e2e.lab import Lab, gpt

FAULTS = (("kill", 1), ("exception", 0), ("nan", 1), ("stop", 1))
"""drills and ranks: two that cost a step, one that is rolled back, one that hangs"""
STEP_S = 0.1
LEARNED = 45
"""steps after which there are good checkpoints, and times and losses to compare with"""
WITHIN_S = 300.0
"""for what takes seconds on a machine of its own"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A run that goes on, and where its dashboard is."""

    lab: Lab
    run: str
    url: str


@contextmanager
def serving(home: Path) -> Iterator[str]:
    """A dashboard of a state folder; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-P", "-m", "orchestrator.api", "--home", str(home), "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        heard(url)
        yield url
    finally:
        server.terminate()
        server.wait(10.0)


def heard(url: str) -> dict[str, Any]:
    """The answer of a server that begins to listen soon."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/api/session", timeout=10.0) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens on {url}"
            time.sleep(0.1)


def supervised(home: Path) -> None:
    """A supervisor listens; a busy machine takes longer to start one than a command waits for it."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            ask(home, {"ask": "ping"}, start=True)
            return
        except NoSupervisor:
            if time.monotonic() > deadline:
                raise


@contextmanager
def played(folder: Path, faults: tuple[tuple[str, int], ...] = FAULTS) -> Iterator[Played]:
    """A run that has survived these faults, one after the other, and trains on."""
    lab = Lab(folder)
    try:
        command = gpt(folder, "--step-s", str(STEP_S), steps=100_000)
        supervised(lab.home)
        run = lab.submit(command, name="gpt", checkpoint={"every_steps": 20, "probation_steps": 10, "keep": 4})
        for drill, rank in faults:
            trained = lab.reach(run, lab.status(run)["step"] + LEARNED, within_s=WITHIN_S)
            lab.drill(run, drill, rank)
            lab.wait(run, lambda now, old=trained["world"]: now["world"] > old, within_s=WITHIN_S)  # type: ignore[misc]
        lab.reach(run, lab.status(run)["step"] + LEARNED, within_s=WITHIN_S)
        with serving(lab.home) as url:
            yield Played(lab=lab, run=run, url=url)
    finally:
        lab.close()
