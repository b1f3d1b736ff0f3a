"""What is our whole contact with the world? One page of Protocols.

A port never raises into the loop and never blocks it: what the world refuses comes back as an event. Every order is
safe to give twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from orchestrator.core import actions
from orchestrator.core.events import Event

Answer = Callable[[Event], None]
"""Where a port puts what came of an order; safe to call from the loop's thread only."""


class Scheduler(Protocol):
    """Attempts: TorchX and what it started."""

    def launch(self, order: actions.Launch, answer: Answer) -> None:
        """Submit; answers Launched or LaunchFailed."""

    def end_attempt(self, order: actions.EndAttempt, answer: Answer) -> None:
        """End every process; answers AttemptEnded once none is left."""


class Agents(Protocol):
    """Worlds: the agents of the nodes. What they see arrives as signals through the inbox."""

    def start_world(self, order: actions.StartWorld) -> None:
        """Start the ranks on every node that is connected; the others are told when they dial."""

    def stop_world(self, order: actions.StopWorld) -> None:
        """End the ranks."""

    def save_every(self, order: actions.SaveEvery) -> None:
        """Let the ranks save more often, or more seldom."""

    def stop_after_step(self, order: actions.StopAfterStep) -> None:
        """Let the ranks save and end soon."""

    def cap_power(self, order: actions.CapPower) -> None:
        """Limit the power of every GPU, or put the limits back."""

    def inject(self, order: actions.InjectFault) -> None:
        """A drill."""


class Storage(Protocol):
    """Checkpoints on durable storage."""

    def verify(self, order: actions.VerifyCheckpoint, answer: Answer) -> None:
        """Answers CheckpointVerified or CheckpointRefused."""

    def delete(self, order: actions.DeleteCheckpoint, answer: Answer) -> None:
        """Answers CheckpointDeleted."""


class Notifier(Protocol):
    """People."""

    def alert(self, run: str, order: actions.Alert) -> None:
        """Tell them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """All of the above, for one run."""

    scheduler: Scheduler
    agents: Agents
    storage: Storage
    notifier: Notifier


def perform(run: str, action: actions.Action, ports: Ports, answer: Answer) -> None:
    """Hand an action to the port it belongs to."""
    match action:
        case actions.Launch():
            ports.scheduler.launch(action, answer)
        case actions.EndAttempt():
            ports.scheduler.end_attempt(action, answer)
        case actions.StartWorld():
            ports.agents.start_world(action)
        case actions.StopWorld():
            ports.agents.stop_world(action)
        case actions.SaveEvery():
            ports.agents.save_every(action)
        case actions.StopAfterStep():
            ports.agents.stop_after_step(action)
        case actions.CapPower():
            ports.agents.cap_power(action)
        case actions.InjectFault():
            ports.agents.inject(action)
        case actions.VerifyCheckpoint():
            ports.storage.verify(action, answer)
        case actions.DeleteCheckpoint():
            ports.storage.delete(action, answer)
        case actions.Alert():
            ports.notifier.alert(run, action)
