"""Failed saves and corrupt checkpoints."""

from __future__ import annotations

import errno

from monitors.detect.saves import Saves
from monitors.incidents import Blame, Kind
from monitors.signals import CheckpointRefused, RankExited, SaveCommitted, SaveFailed


def failed(step: int, number: int | None = errno.ENOSPC, rank: int = 0) -> SaveFailed:
    why = "[Errno 28] No space left on device: '/mnt/x'"
    return SaveFailed(at=float(step), node=0, world=2, rank=rank, step=step, why=why, errno=number)


def committed(step: int) -> SaveCommitted:
    return SaveCommitted(
        at=float(step), node=0, world=2, checkpoint=f"step-{step:08}.a1w2", step=step, bytes=1, saved_at=float(step)
    )


def test_one_incident_for_each_streak() -> None:
    saves = Saves()
    (incident,) = saves.see(failed(50))
    assert (incident.kind, incident.blame, incident.step, incident.world) == (
        Kind.SAVE_FAILED,
        Blame.STORAGE,
        50,
        2,
    )
    assert "free space there" in " ".join(incident.evidence)
    assert saves.see(failed(50, rank=1)) == saves.see(failed(100)) == []
    assert saves.see(committed(150)) == []
    assert len(saves.see(failed(200))) == 1


def test_a_failure_without_an_error_of_the_storage_waits_for_the_rank_that_explains_it() -> None:
    saves = Saves()
    assert saves.see(failed(50, number=None)) == []
    assert saves.deadline == 55.0
    assert saves.silent(54.9) == []
    (incident,) = saves.silent(55.0)
    assert (incident.onset, incident.at, saves.deadline) == (50.0, 55.0, None)
    dying = Saves()
    dying.see(failed(50, number=None))
    dying.see(RankExited(at=50.1, node=0, world=2, rank=1, code=None, signal=9, step=50))
    assert dying.silent(99.0) == []


def test_a_corrupt_checkpoint_is_told_once_whoever_refused_it() -> None:
    saves = Saves()
    refused = [
        CheckpointRefused(at=9.0, node=0, checkpoint="step-00000040.a1w1", why="__1_0.distcp: digest", rank=rank)
        for rank in (1, 0, None)
    ]
    (incident,) = [one for signal in refused for one in saves.see(signal, world=3, step=57)]
    assert (incident.kind, incident.checkpoint, incident.world) == (
        Kind.CHECKPOINT_CORRUPT,
        "step-00000040.a1w1",
        3,
    )
    assert incident.subject.rank is None
    assert incident.evidence[0] == "rank 1 refused step-00000040.a1w1: __1_0.distcp: digest"
