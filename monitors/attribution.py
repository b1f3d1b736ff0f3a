"""What did a rank really die of, or wait for? The deepest cause that the senses saw, told once.

A broken GPU, port or disk shows twice: in the words of the kernel or the driver, and as a rank that fails or stands
still. Whichever is heard first, both become one incident of the deeper kind, with the evidence of each sense, and with
the rank as the next best suspect. What only one sense saw stays what it is.

Order of trust: the driver and the kernel, then the rank that failed first, then the flight recorder, then power. Last
words that point at another rank never decide.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from monitors.incidents import DEPTH, SURFACE, Incident, Kind, Subject

BEFORE_S = 60.0
"""a fault this long before the rank's failure may be its cause: NCCL and file systems wait and retry for that long"""
AFTER_S = 10.0
"""the kernel's line may be read, or a poll of the driver come, this long after the rank is dead"""
SURE = 0.9
"""confidence from which the word of the ranks about where the fault sits outweighs another node's hardware"""

VICTIM = 0.5
"""confidence below which a failure names a rank only because none other was found: its words point elsewhere"""

CONFINED = frozenset({Kind.GPU_FAULT, Kind.GPU_MEMORY})
"""they strike the program on that GPU, and others only in that these wait for it; a lost GPU or a broken link takes
the collectives of the whole node along"""
FELT_AFAR = frozenset({Kind.GPU_LOST, Kind.GPU_FAULT, Kind.GPU_MEMORY, Kind.LINK_FAULT, Kind.NIC_FAULT})
"""ranks of other nodes fail of these too: they wait for that GPU, or their connections end at that port"""
ALONE = frozenset({Kind.GPU_LOST, Kind.GPU_FAULT, Kind.GPU_MEMORY})
"""one sense is enough for these: they ended the world that they were seen in"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """A witness that names nobody's fault by itself: a power outlier."""

    at: float
    subject: Subject
    sentence: str
    sense: str = "power"


class Attribution:
    """Refines what the detectors conclude; one for a run."""

    def __init__(self) -> None:
        self._causes: deque[Incident] = deque(maxlen=64)
        self._failed: Incident | None = None
        """the newest failure of a rank that nothing explains yet"""
        self._suspicions: deque[Suspicion] = deque(maxlen=64)

    def world_began(self, world: int) -> None:  # noqa: ARG002 - every part of the watch has it
        """A new world has new ranks. What ended the last one is told again if it is still wrong; what was only noted
        may yet be the cause of something."""
        self._failed = None
        self._causes = deque((c for c in self._causes if c.kind not in ALONE and c.witnesses < 2), maxlen=64)

    def suspect(self, suspicions: Iterable[Suspicion]) -> None:
        """Keep what witnesses say for the next failure."""
        self._suspicions.extend(suspicions)

    def judge(self, incidents: Iterable[Incident]) -> list[Incident]:
        """The same incidents, each told as what it is."""
        return [told for incident in incidents if (told := self._judged(incident)) is not None]

    def _judged(self, incident: Incident) -> Incident | None:
        if incident.kind in DEPTH:
            told = self._explains_a_failure(incident)
            if told is incident:
                self._causes.append(incident)
            # A rank that the kernel has killed ends within milliseconds: both are told then, as one.
            return None if told is incident and _is_a_death(incident) else told
        if incident.kind in SURFACE:
            return self._explained(incident)
        return incident

    def _explains_a_failure(self, cause: Incident) -> Incident:
        failed = self._failed
        if failed is None or cause.at - failed.at > AFTER_S or not _reaches(cause, failed):
            return cause
        self._failed = None
        return merged(cause, failed)

    def _explained(self, failed: Incident) -> Incident:
        causes = [c for c in self._causes if c.onset >= failed.onset - BEFORE_S and _reaches(c, failed)]
        if causes:
            cause = min(causes, key=lambda c: (*_distance(c, failed), _is_elsewhere(c), DEPTH.index(c.kind), -c.at))
            self._causes.remove(cause)  # one cause, one incident
            return merged(cause, failed)
        self._failed = failed
        return self._suspected(failed)

    def _suspected(self, failed: Incident) -> Incident:
        fresh = [s for s in self._suspicions if failed.onset - BEFORE_S <= s.at <= failed.at + AFTER_S]
        if not fresh or failed.confidence >= SURE or fresh[-1].subject == failed.subject:
            return failed
        suspicion = fresh[-1]
        evidence = (*failed.evidence, suspicion.sentence)
        senses = tuple(dict.fromkeys((*(failed.senses or (failed.kind,)), suspicion.sense)))
        return replace(failed, evidence=evidence, senses=senses, next_best=suspicion.subject)


def _is_a_death(cause: Incident) -> bool:
    return cause.kind is Kind.HOST_OOM and cause.subject.rank is not None


def _reaches(cause: Incident, failed: Incident) -> bool:
    """Can this fault be why that rank failed?"""
    if _is_a_death(cause):
        return cause.subject.rank == failed.subject.rank
    if cause.subject.node == failed.subject.node or cause.subject.node is None:
        # Another rank's GPU: a rank that surely failed of its own did not fail of that.
        return cause.kind not in CONFINED or not _is_anothers(cause, failed) or failed.confidence < SURE
    # On another node: only for a rank that waited for it, or whose last words point elsewhere.
    return failed.confidence < SURE and cause.kind in FELT_AFAR


def _is_anothers(cause: Incident, failed: Incident) -> bool:
    """The fault sits at a rank, and another one failed."""
    return None not in (cause.subject.rank, failed.subject.rank) and cause.subject.rank != failed.subject.rank


def _is_elsewhere(cause: Incident) -> bool:
    """The kernel ended a stranger for want of memory: that may be felt, and other things are felt more surely."""
    return cause.kind is Kind.HOST_OOM and cause.subject.rank is None


def _distance(cause: Incident, failed: Incident) -> tuple[bool, bool]:
    """The rank's own first, then the same node's: what happened there needs no network to do harm."""
    return cause.subject.node != failed.subject.node, _is_anothers(cause, failed)


def merged(cause: Incident, failed: Incident) -> Incident:
    """One incident of both: the cause's kind, and everybody's evidence."""
    same_node = cause.subject.node in (None, failed.subject.node)
    rank = cause.subject.rank
    if rank is None and same_node and cause.subject.device is None and failed.confidence >= VICTIM:
        rank = failed.subject.rank
    subject = replace(cause.subject, rank=rank, node=failed.subject.node if same_node else cause.subject.node)
    doubt = (1.0 - cause.confidence) * (1.0 - failed.confidence)
    return replace(
        cause,
        at=max(cause.at, failed.at),
        onset=min(cause.onset, failed.onset),
        world=failed.world,
        step=max(cause.step, failed.step),
        subject=subject,
        confidence=1.0 - doubt,
        evidence=(*cause.evidence, *failed.evidence),
        senses=tuple(dict.fromkeys((*(cause.senses or (cause.kind,)), *(failed.senses or (failed.kind,))))),
        next_best=failed.subject if failed.subject.rank != rank else failed.next_best,
    )
