"""What must be remembered about a run? One frozen value; the journal's snapshots are this."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from monitors.incidents import Incident, Kind
from monitors.values import quick
from orchestrator.core.actions import Action
from orchestrator.core.capping import Capping
from orchestrator.core.events import Plan
from orchestrator.core.history import History
from orchestrator.core.limits import Limits
from orchestrator.core.meter import Meter
from orchestrator.core.policy import Policy, Rung


class Phase(StrEnum):
    """Where a run stands. The comment says what it waits for."""

    LAUNCHING = "launching"
    """agents to join"""
    STARTING = "starting"
    """the first step of a world"""
    TRAINING = "training"
    """more steps"""
    STOPPING_WORLD = "stopping_world"
    """no worker of the world left, to start the next one"""
    BACKING_OFF = "backing_off"
    """the wait before the next world"""
    RELAUNCHING = "relaunching"
    """no process of the attempt left, to launch the next one"""
    FINISHING = "finishing"
    """no process of the attempt left, the run being complete"""
    STOPPING = "stopping"
    """the world to save and end, or nothing left, because a person said so"""
    PAUSING = "pausing"
    """the same, to go on later"""
    HOLDING = "holding"
    """no process of the attempt left, to hold"""
    HELD = "held"
    """a person"""
    PAUSED = "paused"
    """whoever paused it"""
    SUCCEEDED = "succeeded"
    STOPPED = "stopped"


ENDED = frozenset({Phase.HELD, Phase.PAUSED, Phase.SUCCEEDED, Phase.STOPPED})
"""No process is left and nothing is outstanding."""


class CheckpointState(StrEnum):
    """How far a save is trusted."""

    COMMITTED = "committed"
    VERIFIED = "verified"
    GOOD = "good"
    TAINTED = "tainted"
    CORRUPT = "corrupt"


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One durable save."""

    name: str
    step: int
    world: int
    saved_at: float
    bytes: int
    path: str
    state: CheckpointState = CheckpointState.COMMITTED
    pinned: bool = False
    """a person wants it kept"""
    given_up: bool = False
    """its deletion was ordered"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """Saves of `world` or older ones from `step` on (or after `onset`, when steps mean nothing) are suspect."""

    world: int
    onset: float
    step: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """One incident that cost something, for ladder and budget."""

    at: float
    kind: Kind
    step: int
    fingerprint: str
    best_step: int
    """progress to this step forgives; 0: forgiven for good"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An incident that is not over."""

    id: str
    incident: Incident
    rung: Rung
    until_step: int = 0
    """over once the run's best step reaches this"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What happens once the world is gone."""

    rung: Rung
    backoff_s: float = 0.0
    good_only: bool = False
    """a crash may resume from any verified checkpoint, a doubt about the numbers only from a good one"""
    below_step: int | None = None
    """only checkpoints of an earlier step"""
    further_back: int = 0
    """newest candidates left out, while older ones exist: the first rewind was too short"""
    from_disk: bool = False
    """copies in memory may hold what the fault spoiled"""
    copied: bool = False
    """the world that ended trained, and left copies in memory"""
    asked: bool = False
    """a person lets the run go on: nothing failed, and there is time to read the newest save back"""
    in_process: bool = False
    """processes that nobody suspects may go on into the next world"""
    culprits: tuple[int, ...] = ()
    """ranks whose processes may not"""
    saving: bool = False
    """the world is asked to save and to end by itself, not ended at once"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cordon:
    """A host that gets no ranks of this run."""

    host: str
    at: float
    by: str
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class State:
    """Everything the core remembers about one run. Without slots: so large a value is copied faster as a dict."""

    run: str
    plan: Plan
    policy: Policy
    phase: Phase
    reason: str
    """one sentence: why the run is where it is"""
    since: float
    """when the phase began"""
    now: float = 0.0
    """latest time of any event so far"""
    attempt: int = 0
    world: int = 0
    """newest world ordered; numbers never repeat within a run"""
    joined: tuple[int, ...] = ()
    """nodes of this attempt whose agent has dialled"""
    hosts: tuple[tuple[int, str], ...] = ()
    """(node, host) of those that ever did"""
    cordons: tuple[Cordon, ...] = ()
    """hosts that get no ranks until they are let back in"""
    stopped: tuple[int, ...] = ()
    """nodes with no worker of the newest world left"""
    finished: tuple[int, ...] = ()
    """ranks of the newest world that ended by themselves with status 0"""
    candidates: tuple[str, ...] = ()
    """what the newest world may restore: every node is told the same, however late"""
    unread: tuple[str, ...] = ()
    """the newest of them, which a world that went on from memory did not read, and nobody since"""
    memory_since: int = 1
    """first world whose copies in memory it may restore: nobody doubts the numbers in those"""
    fresh: bool = True
    """it may begin from scratch when it finds nothing to restore"""
    in_process: bool = False
    """processes that outlived the world before may be its ranks"""
    entered: bool = False
    """a world of this run spoke through the SDK, so its checkpoints are ours"""
    step: int = 0
    """last step that every rank of the newest world finished"""
    best_step: int = 0
    """furthest step that any world finished, on the current line of data"""
    heard: float = 0.0
    """when progress was last heard"""
    restarts: int = 0
    """worlds started after the first, for a fault"""
    save_every: int = 0
    """steps between durable saves; 0: not known"""
    save_why: str = ""
    stalls_s: tuple[float, ...] = ()
    """what a step paid for each of the last saves, and `writes_s`: until each was durable"""
    writes_s: tuple[float, ...] = ()
    step_s: float | None = None
    """median seconds of a step lately"""
    trained_s: float = 0.0
    """in all worlds"""
    durable_restarts: int = 0
    """of `restarts` those that had to go back to a durable save"""
    checkpoints: tuple[Checkpoint, ...] = ()
    """oldest first"""
    parents: tuple[tuple[int, int, int], ...] = ()
    """(world, world and step of the save that it went on from), as far as saves are left of them"""
    taints: tuple[Taint, ...] = ()
    skips: tuple[tuple[int, int], ...] = ()
    open: tuple[Opened, ...] = ()
    incidents: int = 0
    """ever, to number them"""
    strikes: tuple[Strike, ...] = ()
    recovery: Recovery | None = None
    hold_kind: Kind | None = None
    """why the run is held, as a kind; None when it is not, or a budget or a person did it"""
    paused_by: str = ""
    """who paused it, as long as it is"""
    paused_why: str = ""
    revision: int = 0
    """of the spec; 0: as it was submitted"""
    meter: Meter = field(default_factory=Meter)
    """what it took until now"""
    history: History = field(default_factory=History)
    target: int | None = None
    """step at which it is complete; None: nobody said"""
    limits: Limits | None = None
    """what it may take, as a person said last; None: no limit was ever set"""
    told: tuple[str, ...] = ()
    """thresholds of `limits` of which people were told"""
    watts: float | None = None
    """that all GPUs may draw together; None: as much as they can"""
    capping: Capping = field(default_factory=Capping)
    out_of: str = ""
    """the budget that is spent, for which the run is held, or about to be"""
    deadline: float | None = None
    """when silence becomes an event"""
    nagged: int = 0
    """how often the present wait ran out"""


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the core makes of one event."""

    state: State
    actions: tuple[Action, ...] = ()
    reason: str = ""
    """one sentence; empty when there was nothing to decide"""
    opened: tuple[Opened, ...] = ()
    closed: tuple[str, ...] = field(default=())
    """ids of incidents that are over"""
