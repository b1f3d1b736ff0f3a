"""Does the run's safety net hold? Saves that failed, and checkpoints whose bytes are wrong."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from monitors.incidents import Blame, Incident, Kind, Subject
from monitors.signals import CheckpointRefused, RankExited, SaveCommitted, SaveFailed, Signal

ADVICE: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("no space left on the device", "free space there, or keep fewer checkpoints"),
    errno.EDQUOT: ("the disk quota is used up", "raise the quota, or keep fewer checkpoints"),
    errno.EIO: ("the device failed to write", "look at the kernel log of the node: the disk may be dying"),
    errno.EROFS: ("the file system is read-only", "Linux remounts so after disk errors: look at the kernel log"),
    errno.EACCES: ("permission denied", "give the user of the run the right to write there"),
    errno.EPERM: ("operation not permitted", "give the user of the run the right to write there"),
    errno.ENOENT: ("the folder is gone", "somebody removed it, or the file system is not mounted"),
    errno.ESTALE: ("the file server forgot the folder", "remount the file system on the node"),
    errno.EMFILE: ("too many open files", "raise `ulimit -n` on the node"),
    errno.ENOMEM: ("the node has no memory left", "see what else uses the node's memory"),
    errno.ETIMEDOUT: ("the file server did not answer in time", "see whether the file server is reachable"),
    errno.EFBIG: ("the file is larger than allowed", "raise `ulimit -f` on the node"),
    errno.ENAMETOOLONG: ("the path is too long", "choose a shorter checkpoint folder"),
}
"""errno: what it means for a save, and what a person can do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavesConfig:
    """How long a failure may be another fault's doing."""

    settle_s: float = 5.0
    """a save that failed without an error of the storage may have lost a rank: its end is then about to be seen"""


class Saves:
    """One incident for each streak of failed saves, one for each corrupt checkpoint."""

    def __init__(self, config: SavesConfig | None = None) -> None:
        self.config = config or SavesConfig()
        self._failing = False
        self._refused: set[str] = set()
        self._unsettled: SaveFailed | None = None

    @property
    def deadline(self) -> float | None:
        """When a failure that nothing else explains is concluded."""
        return None if self._unsettled is None else self._unsettled.at + self.config.settle_s

    def world_began(self) -> None:
        """The failure was the end of the world before."""
        self._unsettled = None

    def resolved(self) -> None:
        """A person called the failure over: one that comes again is news."""
        self._failing = False

    def see(self, signal: Signal, *, world: int = 0, step: int = 0) -> list[Incident]:
        """What the signal makes known. `world` and `step` are where the run stands, for signals that do not say."""
        match signal:
            case SaveCommitted():
                self._failing = False
                return []
            case SaveFailed(errno=None):
                self._unsettled = self._unsettled or signal
                return []
            case SaveFailed():
                return self._failed(signal)
            case RankExited():
                self._unsettled = None
                return []
            case CheckpointRefused():
                return self._refuse(signal, world, step)
            case _:
                return []

    def silent(self, now: float) -> list[Incident]:
        """A failure that no end of a rank came to explain."""
        failed, deadline = self._unsettled, self.deadline
        if failed is None or deadline is None or now < deadline:
            return []
        self._unsettled = None
        return self._failed(failed, concluded=now)

    def _failed(self, signal: SaveFailed, *, concluded: float | None = None) -> list[Incident]:
        if self._failing:
            return []
        self._failing = True
        return [
            Incident(
                kind=Kind.SAVE_FAILED,
                at=signal.at if concluded is None else concluded,
                onset=signal.at,
                world=signal.world,
                subject=Subject(node=signal.node, rank=signal.rank),
                step=signal.step,
                blame=Blame.STORAGE,
                fingerprint=f"save:{signal.errno}",
                evidence=_evidence(signal),
            )
        ]

    def _refuse(self, signal: CheckpointRefused, world: int, step: int) -> list[Incident]:
        if signal.checkpoint in self._refused:
            return []
        self._refused.add(signal.checkpoint)
        who = "the verifier" if signal.rank is None else f"rank {signal.rank}"
        return [
            Incident(
                kind=Kind.CHECKPOINT_CORRUPT,
                at=signal.at,
                onset=signal.at,
                world=world,
                step=step,
                blame=Blame.STORAGE,
                fingerprint=f"corrupt:{signal.checkpoint}",
                checkpoint=signal.checkpoint,
                evidence=(
                    f"{who} refused {signal.checkpoint}: {signal.why}",
                    "none of its bytes reached the model",
                ),
            )
        ]


def _evidence(signal: SaveFailed) -> tuple[str, ...]:
    said = f"the save after step {signal.step} failed on rank {signal.rank}: {signal.why}"
    advice = ADVICE.get(signal.errno) if signal.errno is not None else None
    if advice is None:
        return (said, "training goes on; the checkpoints before it are untouched")
    meaning, remedy = advice
    return (
        said,
        f"errno {signal.errno}: {meaning}; {remedy}",
        "training goes on; the checkpoints before it are untouched",
    )
