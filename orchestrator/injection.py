"""How is a fault injected on purpose? Asked of the supervisor, but for the three that no agent can do."""

from __future__ import annotations

import json
import os
import select
import signal
from pathlib import Path
from typing import Any

from jobs import registry
from monitors.clock import SystemClock
from orchestrator.client import ask
from orchestrator.contract import checkpoints
from orchestrator.drills import DRILLS

READ_S = 10.0
"""for the newest save to be read back: of one that is larger than can be read by then, the save before is damaged"""
LOOK_EVERY_S = 0.02
TOLD_S = 2.0
"""for an agent's word that a rank is there to arrive, which may be under way when somebody sees the rank"""


def inject(home: Path, run: str, name: str, rank: int = 0, *, by: str = "a person") -> str:
    """Inject the fault; returns a sentence saying what was done.

    Raises KeyError for an unknown drill and LookupError when the supervisor refuses or there is nothing to injure.
    """
    drill = DRILLS[name]
    request: dict[str, Any] = {"ask": "drill", "run": run, "drill": name, "by": by}
    request["rank"] = rank if drill.by_agent else None
    agent = _agent_pid(home, run) if name == "agent" else None
    _ask(home, request)
    match name:
        case "flip":
            return flip(home, run)
        case "supervisor":
            return _kill(int(json.loads((home / "supervisor.json").read_text())["pid"]), "the supervisor")
        case "agent":
            assert agent is not None
            return _kill(agent, "the agent of node 0")
        case _:
            return f"{drill.does}: rank {rank}"


def _ask(home: Path, request: dict[str, Any]) -> None:
    clock = SystemClock()
    deadline = clock.now() + TOLD_S
    while not (answer := ask(home, request, start=False))["ok"]:
        if answer.get("code") != "not_yet" or clock.now() > deadline:
            raise LookupError(str(answer["error"]))
        select.select([], [], [], LOOK_EVERY_S)


def _kill(pid: int, who: str) -> str:
    os.kill(pid, signal.SIGKILL)
    return f"SIGKILL of {who}, process {pid}"


def _agent_pid(home: Path, run: str) -> int:
    newest = max((home / "runs" / run / "attempts").glob("[0-9]*/node0/agent.json"), default=None)
    if newest is None:
        raise LookupError(f"{run} has no agent yet: ask again once it is RUNNING (lastgood status {run})")
    agent = json.loads(newest.read_text())
    if not registry.alive(int(agent["pid"]), agent["started_at"]):
        raise LookupError(f"the agent of node 0 of {run} is gone already (process {agent['pid']})")
    return int(agent["pid"])


def flip(home: Path, run: str) -> str:
    """Damage what the next world will restore: the newest save, once it is read back, for it passes all older ones.

    Raises LookupError when there is none.
    """
    from jobs.checkpoint import damage

    clock = SystemClock()
    deadline = clock.now() + READ_S
    while (newest := _newest(home, run, "committed", "verified", "good")) is not None:
        if newest["state"] != "committed" or clock.now() > deadline:
            break
        select.select([], [], [], LOOK_EVERY_S)
    restored = _newest(home, run, "verified", "good")
    if restored is None:
        raise LookupError(f"{run} has no verified checkpoint yet: see `lastgood ckpt ls {run}`")
    done = damage.damage(restored["path"], seed=restored["step"], kind="flip")
    return f"{restored['name']}: {done}"


def _newest(home: Path, run: str, *states: str) -> dict[str, Any] | None:
    """Of the run's own saves: what it began from is another run's."""
    saves = (c for c in checkpoints(home, run)["checkpoints"] if c["state"] in states and c["world"] > 0)
    return max(saves, key=lambda c: (c["step"], c["world"]), default=None)
