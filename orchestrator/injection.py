"""How is a fault injected on purpose? Asked of the supervisor, but for the three that no agent can do."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from orchestrator.client import ask
from orchestrator.contract import checkpoints
from orchestrator.drills import DRILLS


def inject(home: Path, run: str, name: str, rank: int = 0, *, by: str = "a person") -> str:
    """Inject the fault; returns a sentence saying what was done.

    Raises KeyError for an unknown drill and LookupError when the supervisor refuses or there is nothing to injure.
    """
    drill = DRILLS[name]
    request: dict[str, Any] = {"ask": "drill", "run": run, "drill": name, "by": by}
    request["rank"] = rank if drill.by_agent else None
    answer = ask(home, request, start=False)
    if not answer["ok"]:
        raise LookupError(str(answer["error"]))
    match name:
        case "flip":
            return _flip(home, run)
        case "supervisor":
            return _kill(int(json.loads((home / "supervisor.json").read_text())["pid"]), "the supervisor")
        case "agent":
            return _kill(_agent_pid(home, run), "the agent of node 0")
        case _:
            return f"{drill.does}: rank {rank}"


def _kill(pid: int, who: str) -> str:
    os.kill(pid, signal.SIGKILL)
    return f"SIGKILL of {who}, process {pid}"


def _agent_pid(home: Path, run: str) -> int:
    newest = max((home / "runs" / run / "attempts").glob("[0-9]*/node0/agent.json"))
    return int(json.loads(newest.read_text())["pid"])


def _flip(home: Path, run: str) -> str:
    from jobs.checkpoint import damage

    restorable = [c for c in checkpoints(home, run)["checkpoints"] if c["state"] in ("verified", "good")]
    if not restorable:
        raise LookupError(f"{run} has no verified checkpoint yet: see `lastgood ckpt ls {run}`")
    newest = max(restorable, key=lambda c: (c["step"], c["world"]))
    done = damage.damage(newest["path"], seed=newest["step"], kind="flip")
    return f"{newest['name']}: {done}"
