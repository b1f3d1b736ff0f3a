"""What can happen to a run? Past tense, `at` in seconds since the epoch, everything the core needs inside.

Journal format: fields are only ever added, with defaults.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitors.incidents import Incident
from monitors.values import quick
from orchestrator.core.asked import (
    CheckpointPinned,
    DrillRequested,
    HostCordoned,
    IncidentAcknowledged,
    IncidentJudged,
    IncidentNoted,
    IncidentResolved,
    PauseRequested,
    RestartRequested,
    ResumeRequested,
    SpecRevised,
    StopRequested,
)
from orchestrator.core.plan import Plan
from orchestrator.core.policy import Policy
from orchestrator.core.rationed import BudgetChanged, PowerBudgetChanged, PowerCapped

__all__ = [
    "AgentGone",
    "AgentJoined",
    "AttemptEnded",
    "BudgetChanged",
    "CheckpointCommitted",
    "CheckpointDeleted",
    "CheckpointPinned",
    "CheckpointRefused",
    "CheckpointVerified",
    "DeviceProbed",
    "DrillDone",
    "DrillRequested",
    "EnergyRead",
    "Event",
    "HostCordoned",
    "IncidentAcknowledged",
    "IncidentDetected",
    "IncidentJudged",
    "IncidentNoted",
    "IncidentResolved",
    "LaunchFailed",
    "Launched",
    "NodeStopped",
    "PauseRequested",
    "Plan",
    "PolicyChanged",
    "PowerBudgetChanged",
    "PowerCapped",
    "Progressed",
    "RankFinished",
    "RecoveryProved",
    "RestartRequested",
    "ResumeRequested",
    "RunSubmitted",
    "SpecRevised",
    "StopRequested",
    "SupervisorStarted",
    "TimePassed",
    "WorldEntered",
    "WorldRestored",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSubmitted:
    """A person handed a run in."""

    at: float
    run: str
    plan: Plan
    policy: Policy
    origin: CheckpointCommitted | None = None
    """checkpoint of another run that this one begins from: `origin.WORLD`, its path for a name"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChanged:
    """The runbooks differ from those the run was decided with so far."""

    at: float
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorStarted:
    """A supervisor took the run over (again)."""

    at: float
    pid: int
    last_alive: float | None = None
    """when the one before was last known alive; None for the first"""
    left: bool = False
    """the one before ended in good order: a person ended it, or nothing was left to do"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """The scheduler took the attempt."""

    at: float
    attempt: int
    handle: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchFailed:
    """The scheduler refused the attempt, or could not be asked."""

    at: float
    attempt: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentJoined:
    """The agent of a node dialled (again)."""

    at: float
    attempt: int
    node: int
    host: str
    world: int = 0
    """newest world the agent knows of"""
    alive: bool = False
    """workers of that world are running"""
    clock_offset_s: float = 0.0
    """how far its clock is behind the supervisor's (negative: ahead), when that is worth a word"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentGone:
    """The agent of a node is dead, on two independent witnesses; its workers are dead too."""

    at: float
    attempt: int
    node: int
    witnesses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded:
    """No process of the attempt is left anywhere."""

    at: float
    attempt: int
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldEntered:
    """Every rank reached its training loop."""

    at: float
    world: int
    until: int | None = None
    """step at which it will be complete, where the script says so"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldRestored:
    """Every rank holds its state."""

    at: float
    world: int
    checkpoint: str | None
    step: int
    copied_in: int | None = None
    """world that made the copies in memory which they took; None: they took the checkpoint, or began fresh"""
    from_peer: int = 0
    """ranks whose copies were brought from another node"""


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyRead:
    """What the GPUs' own counters say, added up by one supervisor: totals that only grow; the next one begins anew."""

    since: float
    """when adding up began: it tells the totals of one supervisor from those of the next"""
    until: float
    """newest reading in them"""
    joules: float
    gpu_s: float
    """GPU-seconds that they were spent in; what was not read is in neither"""
    step_j: float = 0.0
    """of steps that were read as a whole, and not trained before as far as this supervisor knows"""
    steps: int = 0
    token_j: float = 0.0
    """of steps whose tokens are known"""
    tokens: float = 0.0


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """The world finished steps: the first one, then about once a second, and before it ends."""

    at: float
    world: int
    step: int
    """last step that every rank finished"""
    spent_s: dict[str, float] | None = None
    """seconds that the slowest rank of this world has spent per phase (`monitors.signals.Phase`) since it started"""
    step_s: float | None = None
    """median seconds of a step lately"""
    suspect_since: int | None = None
    """the loss detector is not sure yet about steps from here on"""
    energy: EnergyRead | None = None
    """None: no GPU was read"""
    own_s: tuple[float, float] | None = None
    """median and longest over the ranks of the seconds of a step, but for those in which a rank waited for others"""
    slowest_s: float | None = None
    """seconds from one step to the next, of the slowest rank"""
    temperature_c: float | None = None
    """of the hottest GPU"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFinished:
    """A rank ended with status 0 by itself."""

    at: float
    world: int
    rank: int


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStopped:
    """No worker of this world is left on this node."""

    at: float
    world: int
    node: int
    energy: EnergyRead | None = None
    """as in `Progressed`: what was spent from the last progress to here"""


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointCommitted:
    """A save is whole on durable storage."""

    at: float
    checkpoint: str
    step: int
    world: int
    saved_at: float
    bytes: int
    path: str
    stall_s: float = 0.0
    write_s: float | None = None
    """from the copy of the state until it was durable"""


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointVerified:
    """It was read back, and matches its manifest."""

    at: float
    checkpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRefused:
    """Its bytes do not match its manifest."""

    at: float
    checkpoint: str
    why: str


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointDeleted:
    """Retention took it."""

    at: float
    checkpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentDetected:
    """A detector concluded something."""

    at: float
    incident: Incident


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillDone:
    """The fault that a person asked for was injected: from here on what looks like it probably is it."""

    at: float
    world: int
    drill: str
    rank: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProbed:
    """The device of a slow rank was measured, and is not what makes it slow, or nothing tells."""

    at: float
    world: int
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryProved:
    """Step time, loss and data position of a world match those from before the fault."""

    at: float
    world: int
    sentence: str


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class TimePassed:
    """Silence until the deadline."""

    at: float


Event = (
    RunSubmitted
    | PolicyChanged
    | SupervisorStarted
    | Launched
    | LaunchFailed
    | AgentJoined
    | AgentGone
    | AttemptEnded
    | WorldEntered
    | WorldRestored
    | Progressed
    | RankFinished
    | NodeStopped
    | CheckpointCommitted
    | CheckpointVerified
    | CheckpointRefused
    | CheckpointDeleted
    | IncidentDetected
    | StopRequested
    | PauseRequested
    | ResumeRequested
    | RestartRequested
    | SpecRevised
    | HostCordoned
    | IncidentAcknowledged
    | IncidentResolved
    | IncidentNoted
    | IncidentJudged
    | CheckpointPinned
    | BudgetChanged
    | PowerBudgetChanged
    | PowerCapped
    | DrillRequested
    | DrillDone
    | DeviceProbed
    | RecoveryProved
    | TimePassed
)
