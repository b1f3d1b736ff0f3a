"""What did a detector conclude? The vocabulary of everything that can go wrong with a run.

Each kind has a runbook `runbooks/KIND.md` whose front matter is the policy for it, and a drill that provokes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """One member per runbook; the value is the runbook's file name."""

    WORKER_KILLED = "worker_killed"
    """a signal ended a rank: SIGKILL, SIGSEGV, the OOM killer"""
    WORKER_EXCEPTION = "worker_exception"
    """a rank raised, or exited with a status that is not 0"""
    CRASH_LOOP = "crash_loop"
    """the same failure at the same step again: it would happen for ever"""
    HANG = "hang"
    """a rank stopped moving: stopped, spinning, or waiting for somebody"""
    START_STALLED = "start_stalled"
    """a world was started and never came to its first step"""
    LAUNCH_FAILED = "launch_failed"
    """the scheduler refused, or its agents never came"""
    AGENT_LOST = "agent_lost"
    """the agent of a node is dead, on two witnesses"""
    NODE_UNSEEN = "node_unseen"
    """nobody hears the agent of a node; it may well be training"""
    NONFINITE_LOSS = "nonfinite_loss"
    LOSS_SPIKE = "loss_spike"
    """the loss jumped and stayed up"""
    LOSS_DIVERGENCE = "loss_divergence"
    """the loss drifts up and does not come back"""
    LOSS_TRANSIENT = "loss_transient"
    """a spike that recovered by itself: noted, not punished"""
    CHECKPOINT_CORRUPT = "checkpoint_corrupt"
    SAVE_FAILED = "save_failed"
    """disk full, dying disk, no rights: the run goes on, its safety net does not"""
    SUPERVISOR_RESTARTED = "supervisor_restarted"
    GPU_LOST = "gpu_lost"
    """a GPU fell off the bus, or does not answer its driver any more"""
    GPU_FAULT = "gpu_fault"
    """a GPU, or its firmware, works only after a reset"""
    GPU_MEMORY = "gpu_memory"
    """memory of a GPU returned wrong bits that could not be corrected, or has no spare rows left"""
    GPU_DEGRADED = "gpu_degraded"
    """a GPU works, and slower than its peers: hot, capped, a narrow bus"""
    LINK_FAULT = "link_fault"
    """NVLink or NVSwitch"""
    NIC_FAULT = "nic_fault"
    """a network card or its port"""
    HOST_FAULT = "host_fault"
    """processor, memory, bus or kernel of a node"""
    HOST_OOM = "host_oom"
    """a node ran out of memory, or is about to"""
    HOST_DEGRADED = "host_degraded"
    """a node works, and slower or less surely than it should"""
    STORAGE_FAULT = "storage_fault"
    """a disk, a file system or a file server"""
    DISK_FULL = "disk_full"
    """no space, or no inodes, are left, or soon will not be"""
    STRAGGLER = "straggler"
    """one rank is slower than its peers and holds up every step"""
    POWER_DROP = "power_drop"
    """GPUs draw far less power than the work they should be doing needs"""
    CODE_DIVERGENCE = "code_divergence"
    """ranks call different collectives: the code took different ways"""
    RESUME_MISMATCH = "resume_mismatch"
    """after a restart the learning rate is not what it was at this step before"""
    RECOVERY_WRONG = "recovery_wrong"
    """after a recovery the data, or the loss on the same data, are not those from before the fault"""
    RECOVERY_SLOW = "recovery_slow"
    """after a recovery every step takes longer than before the fault"""
    LOSS_TOO_GOOD = "loss_too_good"
    """the loss falls too well: repeated data, most often"""
    GRADIENT_SHIFT = "gradient_shift"
    """gradients are several times as large since some step, and the loss shows nothing: a broken rank, perhaps"""


SURFACE = frozenset({Kind.WORKER_KILLED, Kind.WORKER_EXCEPTION, Kind.HANG, Kind.START_STALLED})
"""a rank failed or stands still: either by itself, or of something deeper"""
DEPTH = (
    Kind.GPU_LOST,
    Kind.GPU_FAULT,
    Kind.GPU_MEMORY,
    Kind.LINK_FAULT,
    Kind.HOST_OOM,
    Kind.HOST_FAULT,
    Kind.STORAGE_FAULT,
    Kind.NIC_FAULT,
)
"""what a rank can fail of, most telling first"""


class Blame(StrEnum):
    """Whose fault, as far as the evidence goes."""

    HARDWARE = "hardware"
    NETWORK = "network"
    USER_CODE = "user_code"
    DATA = "data"
    STORAGE = "storage"
    HOST = "host"
    SCHEDULER = "scheduler"
    NUMERICS = "numerics"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Where the fault sits, as precisely as it is known."""

    node: int | None = None
    rank: int | None = None
    device: str | None = None
    """GPU UUID"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One conclusion: what, where, since when, and why we think so."""

    kind: Kind
    at: float
    """when it was concluded"""
    onset: float
    """when the fault began, as far back as the evidence goes"""
    world: int
    subject: Subject = Subject()
    onset_step: int | None = None
    """first step that the fault may have touched; None when steps mean nothing for it"""
    step: int = 0
    """last finished step of the world when it was concluded"""
    confidence: float = 1.0
    blame: Blame | None = None
    """overrides the runbook's when the evidence knows better"""
    fingerprint: str = ""
    """equal for two incidents that are the same failure again"""
    retryable: bool = True
    """False: what failed is certain to fail again, unless a person changes something"""
    checkpoint: str | None = None
    """the checkpoint it is about"""
    evidence: tuple[str, ...] = ()
    """sentences a person can check, strongest first"""
    senses: tuple[str, ...] = ()
    """the independent ones that agree: exit, progress, kernel, nvml, collectives...; empty: one each sentence"""
    next_best: Subject | None = None
    """whom to suspect when the subject turns out to be innocent"""

    @property
    def witnesses(self) -> int:
        """How many independent senses agree."""
        return len(set(self.senses or self.evidence))

    def __post_init__(self) -> None:
        assert self.onset <= self.at, f"onset {self.onset} after conclusion {self.at}"
        assert 0.0 <= self.confidence <= 1.0, f"confidence {self.confidence}"
