"""What parts does a run have that goes on, and how are they put together?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.spec import Spec
from lastgood.manifest import parse_name
from monitors.clock import Clock
from orchestrator import meaning
from orchestrator.agents import ConnectedAgents
from orchestrator.core.events import NodeStopped, Progressed
from orchestrator.core.state import State
from orchestrator.home import Home
from orchestrator.inbox import Inbox
from orchestrator.journal import Journal
from orchestrator.ports import Notifier, Ports
from orchestrator.scheduler import Spawn, TorchXScheduler
from orchestrator.storage import CheckpointFolder
from orchestrator.supervisor import RunLoop

ROWS_RECALLED = 1000
"""loss rows that the detectors are given back after a restart of the supervisor"""


@dataclass(slots=True)
class LiveRun:
    """A run that is not over, and its parts."""

    spec: Spec
    loop: RunLoop
    agents: ConnectedAgents
    inbox: Inbox
    unseen_since: dict[int, float]

    def missing(self) -> dict[int, float]:
        """Nodes that joined and are not connected, and since when."""
        state = self.loop.state
        joined = () if state is None else state.joined
        return {node: since for node, since in self.unseen_since.items() if node in joined}

    def table(self, now: float) -> dict[str, Any]:
        """How its ranks stand: the answer to `requests.Ranks`, as in docs/dashboard.md."""
        state = self.loop.state
        named = [opened.incident.subject.rank for opened in state.open] if state else []
        hosts = self.agents.hosts
        return {
            "at": now,
            "attempt": state.attempt if state else 0,
            "world": state.world if state else 0,
            "nodes": [
                {
                    "node": node,
                    "host": hosts.get(node),
                    "there": node in hosts,
                    "seen_at": now if node in hosts else since,
                }
                for node, since in (
                    (node, self.unseen_since.get(node)) for node in range(state.plan.nodes if state else 0)
                )
            ],
            "ranks": self.inbox.roster.table(rank for rank in named if rank is not None),
        }

    def readings(self, most: int) -> dict[str, Any]:
        """What its GPUs and senses say: its part of the answer to `requests.Readings`."""
        return self.inbox.readings.table(most) | {"hosts": self.agents.hosts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What a run is looked after with."""

    home: Home
    journal: Journal
    clock: Clock
    notifier: Notifier
    spawn: Spawn


def assembled(run: str, spec: Spec, state: State | None, desk: Desk) -> LiveRun:
    """The parts of a run that stands at `state`; None: it is yet to begin."""
    folder = Path(spec.checkpoint.folder) if spec.checkpoint.folder else desk.home.run(run) / "checkpoints"
    watch = meaning.watch_of(spec)
    watch.recall(desk.journal.rows(run, limit=ROWS_RECALLED))
    inbox = Inbox(
        nodes=spec.nodes,
        ranks_per_node=spec.ranks_per_node,
        watch=watch,
        folder=str(folder),
        energy_until=energy_until(desk.journal, run),
    )
    agents = ConnectedAgents(
        desk.home.run(run) / "attempts",
        str(folder),
        pace=lambda: (inbox.step, inbox.step_s),
        step_of=_step_of,
        nodes=spec.nodes,
        ranks_per_node=spec.ranks_per_node,
    )
    ports = Ports(
        scheduler=TorchXScheduler(desk.home, run, desk.clock, desk.spawn, agents.leave),
        agents=agents,
        storage=CheckpointFolder(folder, desk.clock, desk.spawn),
        notifier=desk.notifier,
    )
    loop = RunLoop(
        run=run,
        state=state,
        inbox=inbox,
        journal=desk.journal,
        ports=ports,
        clock=desk.clock,
        look=agents.look,
        probe=agents.probe,
    )
    unseen_since = dict.fromkeys(range(spec.nodes), desk.clock.now())
    return LiveRun(spec=spec, loop=loop, agents=agents, inbox=inbox, unseen_since=unseen_since)


def energy_until(journal: Journal, run: str) -> float | None:
    """The newest reading of energy that was counted; None: there was none."""
    told = (journal.newest(run, kind) for kind in (Progressed, NodeStopped))
    reads = [event.energy.until for event in told if isinstance(event, Progressed | NodeStopped) and event.energy]
    return max(reads, default=None)


def _step_of(checkpoint: str) -> int:
    name = parse_name(os.path.basename(checkpoint))
    assert name is not None, f"{checkpoint} is not the name of a checkpoint"
    return name.step
