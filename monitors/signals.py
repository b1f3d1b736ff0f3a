"""What did a sensor see? Facts with a time and a place, and no opinion.

`at`: epoch seconds on the clock of the host that saw it. `node` and `world` count within the attempt, `rank` is global.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from monitors.hardware import GpuEvent, GpuFailed, GpuLooked, HostLooked, KernelSaw, PowerCapped, ProbeDone
from monitors.values import quick


class Phase(StrEnum):
    """What a rank says it is doing; limits for silence are learned per phase."""

    STARTING = "starting"
    """the process exists, the training loop was not entered yet"""
    RESTORING = "restoring"
    STEP = "step"
    SAVE = "save"
    """the part of a save that the step waits for"""
    EVAL = "eval"
    DATA = "data"
    """waiting for the next batch"""
    DONE = "done"


PHASES: tuple[Phase, ...] = tuple(Phase)
"""The order is the wire format of the progress file: append only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a rank ended, in its own words, written by the exception hook before the process ends."""

    kind: str
    """qualified name of the exception's class"""
    message: str
    traceback: str
    raised_at: float
    fingerprint: str
    """same code, same place, same exception: equal (line numbers in user files count, addresses do not)"""


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class RankStarted:
    """A worker process holds a rank."""

    at: float
    node: int
    world: int
    rank: int
    pid: int
    gpu: str | None = None
    """its own, as CUDA_VISIBLE_DEVICES names it: index, UUID or its start, MIG-...; empty: none; None: not known"""
    gpus: tuple[str, ...] | None = None
    """all that the ranks of its node may see, named in the same way; None: every GPU of the node"""
    gpu_order: str = ""
    """CUDA_DEVICE_ORDER, by which indices count; empty: not set"""


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class RankEntered:
    """The rank reached its training loop (imports done, process group up) and begins to restore."""

    at: float
    node: int
    world: int
    rank: int
    until: int | None = None
    """step after which it is complete; None: an older SDK, which did not say"""


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class RankRestored:
    """The rank holds the state of a checkpoint, or of a copy in memory, or else a fresh one."""

    at: float
    node: int
    world: int
    rank: int
    checkpoint: str | None
    step: int
    copied_in: int | None = None
    """world that made the copy in memory; None: it was none"""
    from_peer: bool = False
    """the copy was brought from another node"""


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class RankProgress:
    """Where a rank stands now. Sent when it changed, and at least every `SEEN_EVERY_S` when it did not."""

    at: float
    """when the agent looked"""
    node: int
    world: int
    rank: int
    step: int
    """last finished step; 0 before the first"""
    phase: Phase
    moved_at: float
    """when the rank last moved: a new step, a new phase, or (unmodified scripts) output or CPU use"""
    spent_s: tuple[float, ...] = ()
    """seconds this process spent in each phase so far, in the order of PHASES"""
    longest_s: float = 0.0
    """of the steps since it was sent last the longest, with all that was done in it"""
    glanced_at: float = 0.0
    """when the agent had seen before, at a glance, that it moved"""
    speaks: bool = False
    """it uses the SDK: until it tells that it has done a step it has done none"""


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class StepReported:
    """One finished step as the training code reported it."""

    at: float
    node: int
    world: int
    rank: int
    step: int
    loss: float | None = None
    grad_norm: float | None = None
    lr: float | None = None
    tokens: float | None = None
    data_index: int | None = None
    step_s: float | None = None
    loss_scale: float | None = None
    """of half-precision training, where a scaler looks for it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RanksReported:
    """One finished step as each rank of a node saw it alone, before anything was averaged over the ranks.

    Of a selection of the steps, the same on all nodes. A column is empty when nobody told it, or all told the same.
    """

    at: float
    """when the last of them finished it"""
    node: int
    world: int
    step: int
    ranks: tuple[int, ...]
    losses: tuple[float | None, ...] = ()
    grad_norms: tuple[float | None, ...] = ()
    own_s: tuple[float, ...] = ()
    """seconds of the step, but for those in which the rank waited for its device"""


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class RankExited:
    """A worker process ended, seen through its pidfd."""

    at: float
    node: int
    world: int
    rank: int
    code: int | None
    """exit status, None when a signal ended it"""
    signal: int | None
    step: int
    """last finished step"""
    failure: Failure | None = None
    ordered: bool = False
    """the agent ended it on an order: not a fault"""
    recording: tuple[int, ...] = ()
    """ranks of its node whose flight recorders wrote by themselves, or began to: a `CollectivesLooked` each follows"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLooked:
    """What the kernel says of a worker: taken when a rank has not moved for a while."""

    at: float
    node: int
    world: int
    rank: int
    state: str
    """letter of /proc/PID/stat: R, S, D, T, Z"""
    cpu_s: float
    stack: tuple[str, ...] = ()
    """innermost frame last, one line each; empty when nothing could read it"""


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class SaveCommitted:
    """A checkpoint is whole on durable storage: all shards, manifest, fsync, one rename."""

    at: float
    node: int
    world: int
    checkpoint: str
    """directory name: `step-00000040.a1w3`"""
    step: int
    bytes: int
    saved_at: float
    """when the state was copied, which is what decides whether a fault is inside it"""
    stall_s: float = 0.0
    """what the step paid"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveFailed:
    """A save did not become a checkpoint; training goes on."""

    at: float
    node: int
    world: int
    rank: int
    step: int
    why: str
    errno: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointVerified:
    """Every byte was read back and matches the manifest."""

    at: float
    node: int
    checkpoint: str
    took_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRefused:
    """A checkpoint does not match its manifest (or has none): nothing of it reached the model."""

    at: float
    node: int
    checkpoint: str
    why: str
    rank: int | None = None
    """the rank that refused it while restoring; None when the verifier did"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointDeleted:
    """A checkpoint is gone from storage because it was ordered gone."""

    at: float
    node: int
    checkpoint: str


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSeen:
    """The agent of a node is there and looked at its ranks: without this, silence means nothing."""

    at: float
    node: int
    world: int
    """0 when no world was started yet"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldStarted:
    """Every worker of this node for this world was started."""

    at: float
    node: int
    world: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldStopped:
    """No worker of this node for this world is left; sent once for each world, whatever ended it."""

    at: float
    node: int
    world: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupStatus:
    """Where one rank stands in one process group, from the flight recorder."""

    group: str
    """name of the process group; unique in a world"""
    desc: str = ""
    ranks: tuple[int, ...] = ()
    """global ranks of its members; empty: not known"""
    enqueued: int = -1
    """sequence number of the last collective this rank enqueued; -1: none"""
    started: int = -1
    completed: int = -1
    op: str = ""
    """the last collective: its name, and (below) what it was called with"""
    sizes: str = ""
    dtypes: str = ""
    frames: tuple[str, ...] = ()
    """where it was called, innermost last"""
    arrivals: tuple[tuple[int, float], ...] = ()
    """sequence number and time (seconds since the epoch) of the newest collectives as this rank came to them"""
    calls: tuple[tuple[int, str], ...] = ()
    """sequence number of the collectives around the oldest unfinished one, and what they were called with: only what
    must be equal on all ranks, `all_reduce(1024 Float)`"""
    peers: tuple[int, ...] = ()
    """global ranks whose part in a send or receive this rank waits for"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectivesLooked:
    """What one rank's flight recorder says, asked for when a rank is silent or slow."""

    at: float
    node: int
    world: int
    rank: int
    groups: tuple[GroupStatus, ...]
    said: tuple[str, ...] = ()
    """it did not answer, and this is what its communication library said of it, in sentences"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSaid:
    """A rank wrote something that the catalogue of signatures knows."""

    at: float
    node: int
    world: int
    rank: int
    fault: str
    """class of the catalogue: `nccl_timeout`, `disk_full`..."""
    role: str
    """root, symptom, cascade"""
    retryable: bool
    text: str
    """the line, cut"""
    step: int = 0
    """last step that the rank had finished when it was heard: a rank that goes on got over it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blind:
    """A sense cannot see: unknown is not healthy."""

    at: float
    node: int
    sense: str
    """nvml, kernel, host, store..."""
    why: str
    """empty: it sees again"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillDone:
    """A fault was injected on purpose."""

    at: float
    node: int
    world: int
    drill: str
    rank: int | None = None


Signal = (
    RankStarted
    | RankEntered
    | RankRestored
    | RankProgress
    | StepReported
    | RanksReported
    | RankExited
    | ProcessLooked
    | SaveCommitted
    | SaveFailed
    | CheckpointVerified
    | CheckpointRefused
    | CheckpointDeleted
    | NodeSeen
    | WorldStarted
    | WorldStopped
    | KernelSaw
    | GpuEvent
    | GpuFailed
    | GpuLooked
    | HostLooked
    | PowerCapped
    | ProbeDone
    | CollectivesLooked
    | RankSaid
    | Blind
    | DrillDone
)

SEEN_EVERY_S = 0.25
"""how often an agent says that it looked: a quarter of the 1 s floor of the hang limits"""
