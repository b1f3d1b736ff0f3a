"""What may the core ask of the world? Imperative; each is safe to perform twice, by the numbers in it."""

from __future__ import annotations

from dataclasses import dataclass

from monitors.values import quick
from orchestrator.core.policy import Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Submit the attempt to the scheduler. Answer: Launched or LaunchFailed, then AgentJoined per node."""

    attempt: int
    exclude: tuple[str, ...] = ()
    """hosts that it must not be given"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndAttempt:
    """End every process of the attempt and make sure. Answer: AttemptEnded."""

    attempt: int
    why: str
    grace_s: float = 0.0
    relaunch: bool = False
    """another attempt follows, which may go on from the copies that this one leaves in memory"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartWorld:
    """Start the ranks on every node. Answer: WorldEntered, WorldRestored, Progressed, or an incident."""

    attempt: int
    world: int
    candidates: tuple[str, ...]
    """checkpoints it may restore, newest first; empty: fresh"""
    skips: tuple[tuple[int, int], ...]
    memory_since: int | None = None
    """first world whose copies in memory may be restored in place of an older checkpoint; None: none may"""
    fresh: bool = True
    """it may begin from scratch when it finds nothing to restore"""
    in_process: bool = False
    """processes that outlived the world before may be its ranks"""
    save_every: int = 0
    """steps between durable saves; 0: as the spec says"""
    save_why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopWorld:
    """End the ranks on every node. Answer: NodeStopped per node."""

    attempt: int
    world: int
    grace_s: float = 0.0
    in_process: bool = False
    """processes that leave the world in time may live on, but for those of `culprits`"""
    culprits: tuple[int, ...] = ()
    """ranks"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveEvery:
    """Let the ranks make a durable save every so many steps, from their next one on. No answer: the saves tell."""

    attempt: int
    world: int
    steps: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopAfterStep:
    """Let the ranks finish a step soon, save and end. Answer: RankFinished per rank, NodeStopped per node."""

    attempt: int
    world: int


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyCheckpoint:
    """Answer: CheckpointVerified or CheckpointRefused."""

    checkpoint: str


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteCheckpoint:
    """Answer: CheckpointDeleted."""

    checkpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CapPower:
    """Limit the power of each GPU on every node, or (None) put the limits back. Answer: PowerCapped per node."""

    attempt: int
    watts: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectFault:
    """A drill. Answer: what the fault does."""

    attempt: int
    world: int
    drill: str
    rank: int
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Tell a person; `page` wakes one."""

    severity: Severity
    title: str
    text: str
    incident: str | None = None
    page: bool = False


Action = (
    Launch
    | EndAttempt
    | StartWorld
    | StopWorld
    | SaveEvery
    | StopAfterStep
    | VerifyCheckpoint
    | DeleteCheckpoint
    | CapPower
    | InjectFault
    | Alert
)
