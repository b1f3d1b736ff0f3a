"""The world stands still: who holds it up?

A rank can only wait for ranks that are not ahead of it: whoever finished step 18 has given its part to all that step
18 needed. So the ranks furthest behind are judged, and as long as one of them is within its own limit (a long
evaluation on rank 0) nobody hangs.

Whom to believe, most first: the kernel that a process is stopped, the flight recorder that a rank never came to a
collective, a step that all others are ahead of, who runs on the CPU while all others sleep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from monitors.detect.collectives import Blocked, blocked
from monitors.detect.stacks import grouped
from monitors.incidents import Blame, Kind
from monitors.signals import CollectivesLooked, Phase, ProcessLooked

_ORDER = {Phase.STEP: 1, Phase.DONE: 2}
_BELIEVED = 0.6
"""confidence from which the flight recorder outranks everything but the kernel"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where one rank stands, and for how long it was watched not moving."""

    rank: int
    node: int
    step: int
    phase: Phase
    moved_at: float
    silent_s: float
    over: bool
    """it has been silent for longer than its phase allows"""
    process: ProcessLooked | None = None
    """what the kernel said of it since it last moved"""
    collectives: CollectivesLooked | None = None
    """what its flight recorder said since it last moved"""

    @property
    def position(self) -> tuple[int, int]:
        """Who waits for whom: saving, evaluating and reading data come before the next step's collectives."""
        return self.step, _ORDER.get(self.phase, 0)

    @property
    def state(self) -> str:
        """Letter of /proc/PID/stat, or nothing."""
        return self.process.state if self.process is not None else ""

    @property
    def where(self) -> str:
        """Its innermost frame, when somebody could read it."""
        return f", in {self.process.stack[-1].strip()}" if self.process is not None and self.process.stack else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Who holds up the world, how sure that is, and why."""

    culprit: Standing
    step: int
    """last step that every rank finished"""
    confidence: float
    evidence: tuple[str, ...]
    blame: Blame | None = None
    kind: Kind = Kind.HANG
    next_best: Standing | None = None
    """whom to suspect when the culprit is innocent"""
    senses: tuple[str, ...] = ("progress",)
    call: str = ""
    """what was called where the code took two ways"""


def named(ranks: Sequence[Standing], *, floor_s: float) -> Verdict | None:
    """The verdict on a world, or None while somebody may rightly be waited for."""
    if not ranks:
        return None
    verdict = _named(ranks, floor_s)
    if verdict is None:
        return None
    stacks = {rank.rank: rank.process.stack for rank in ranks if rank.process is not None}
    looked = ("process",) if stacks else ()
    return replace(
        verdict,
        evidence=(*verdict.evidence, *grouped(stacks, verdict.culprit.rank)),
        senses=tuple(dict.fromkeys((*verdict.senses, *looked))),
    )


def _named(ranks: Sequence[Standing], floor_s: float) -> Verdict | None:
    step = min(rank.step for rank in ranks)
    stopped = [rank for rank in ranks if rank.state == "T" and rank.silent_s > floor_s]
    if stopped:
        return _stopped(min(stopped, key=_oldest), step)
    first = min(rank.position for rank in ranks)
    behind = [rank for rank in ranks if rank.position == first]
    if not all(rank.over for rank in behind):
        return None
    seen = _behind(behind[0], ranks, step) if len(behind) == 1 < len(ranks) else _together(behind, step)
    looks = {rank.rank: rank.collectives for rank in ranks if rank.collectives is not None}
    recorded = blocked(looks, [rank.rank for rank in ranks])
    return seen if recorded is None else _recorded(recorded, seen, ranks)


def _recorded(found: Blocked, seen: Verdict, ranks: Sequence[Standing]) -> Verdict:
    """What the flight recorders say, with what is seen from outside beside it."""
    by_rank = {rank.rank: rank for rank in ranks}
    senses = ("progress", "collectives")
    if found.rank is None or found.confidence < _BELIEVED:
        blame = seen.blame or found.blame
        return replace(seen, evidence=(*seen.evidence, *found.evidence), blame=blame, senses=senses)
    culprit = by_rank[found.rank]
    agree = culprit.rank == seen.culprit.rank
    other = None if found.next_best is None else by_rank.get(found.next_best)
    return Verdict(
        culprit=culprit,
        step=seen.step,
        confidence=max(found.confidence, seen.confidence) if agree else found.confidence,
        evidence=(*found.evidence, *(seen.evidence if agree else (_stands(culprit), *_kernel(culprit)))),
        blame=found.blame or (seen.blame if agree else _blame(culprit)),
        kind=Kind.CODE_DIVERGENCE if found.call else Kind.HANG,
        next_best=other if agree else seen.culprit,
        senses=senses,
        call=found.call,
    )


def _stopped(culprit: Standing, step: int) -> Verdict:
    return Verdict(
        culprit=culprit,
        step=step,
        confidence=0.98,
        evidence=(
            f"the kernel says that rank {culprit.rank} is stopped (state T), for {culprit.silent_s:.1f} s",
            _stands(culprit),
        ),
        blame=Blame.HOST,
    )


def _behind(culprit: Standing, ranks: Sequence[Standing], step: int) -> Verdict:
    others = [rank for rank in ranks if rank is not culprit]
    ahead = min(rank.step for rank in others)
    waiting = f"rank {others[0].rank}" if len(others) == 1 else f"all other {len(others)} ranks"
    reached = f"finished step {ahead}" if ahead > culprit.step else f"went on to step {ahead + 1}"
    return Verdict(
        culprit=culprit,
        step=step,
        confidence=0.95,
        evidence=(_stands(culprit), f"{waiting} {reached}, so the world waits for it", *_kernel(culprit)),
        blame=_blame(culprit),
    )


def _together(behind: Sequence[Standing], step: int) -> Verdict:
    """All stand at the same place."""
    awake = [rank for rank in behind if rank.state == "R"]
    asleep = [rank for rank in behind if rank.state in ("S", "D")]
    if len(behind) > 1 and len(awake) == 1 and len(asleep) == len(behind) - 1:
        return _spinning(awake[0], len(asleep), step)
    blocked_in_kernel = [rank for rank in behind if rank.state == "D"]
    if len(behind) > 1 and len(blocked_in_kernel) == 1 and len(asleep) == len(behind):
        return _held(blocked_in_kernel[0], len(behind) - 1, step)
    ordered = sorted(behind, key=_oldest)
    culprit = ordered[0]
    alone = len(ordered) == 1
    evidence = [_stands(culprit), *_kernel(culprit)]
    if not alone:
        lead_s = ordered[1].moved_at - culprit.moved_at
        evidence.insert(0, f"all {len(behind)} ranks stand at the same place, after step {culprit.step}")
        evidence.append(f"rank {culprit.rank} stopped moving first, by {lead_s:.2f} s: a weak hint")
    return Verdict(
        culprit=culprit,
        step=step,
        confidence=0.9 if alone else 0.4,
        evidence=tuple(evidence),
        blame=_blame(culprit),
    )


def _spinning(culprit: Standing, sleeping: int, step: int) -> Verdict:
    return Verdict(
        culprit=culprit,
        step=step,
        confidence=0.9,
        evidence=(
            f"rank {culprit.rank} runs on the CPU{culprit.where}, while the other {sleeping} sleep in a collective",
            _stands(culprit),
        ),
        blame=Blame.USER_CODE,
    )


def _held(culprit: Standing, sleeping: int, step: int) -> Verdict:
    """Who waits for a peer sleeps so that it can be woken; state D is a disk, a file server or a driver."""
    return Verdict(
        culprit=culprit,
        step=step,
        confidence=0.85,
        evidence=(
            f"rank {culprit.rank} is held in the kernel{culprit.where}, while the other {sleeping} sleep",
            _stands(culprit),
            *_kernel(culprit),
        ),
        blame=Blame.STORAGE,
    )


def _stands(rank: Standing) -> str:
    doing = "in a step" if rank.phase is Phase.STEP else f"in phase {rank.phase}"
    return (
        f"rank {rank.rank} on node {rank.node} has not moved for {rank.silent_s:.1f} s, {doing} after step {rank.step}"
    )


def _kernel(rank: Standing) -> tuple[str, ...]:
    states = {"R": "runs on the CPU", "S": "sleeps", "D": "waits for a disk or a file server", "Z": "is a zombie"}
    if rank.state not in states:
        return ()
    return (f"the kernel says that it {states[rank.state]}{rank.where}",)


def _blame(rank: Standing) -> Blame | None:
    if rank.state == "D":
        return Blame.STORAGE
    return Blame.DATA if rank.phase is Phase.DATA else None


def _oldest(rank: Standing) -> tuple[float, int]:
    return rank.moved_at, rank.rank
