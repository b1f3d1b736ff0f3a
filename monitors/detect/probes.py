"""Whose device should be probed, and what does the probe say of the rank that is slow?

A rank that was named for being slow, or a GPU that its driver calls slow, is a suspect: it and up to three peers of it
are measured, one device of a node at a time, in the world that it was named in. The naming waits for nothing. What
comes of it is an incident only where the device is slow or fails; else it is a note.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from monitors.detect.straggler_probe import Verdict, Word, confirmed
from monitors.hardware import GpuLooked, ProbeDone
from monitors.incidents import Blame, Incident, Kind, Subject
from monitors.placement import RankOf, by_convention
from monitors.signals import RankExited, Signal, WorldStopped

SUSPICIOUS = frozenset({Kind.STRAGGLER, Kind.GPU_DEGRADED})
SENSE = "probe"
_Place = tuple[int, str | None]
"""node and GPU; None: a core of the node"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbesConfig:
    """How much may be measured while a run trains."""

    peers: int = 3
    """enough for a median that one odd peer cannot move"""
    rounds: int = 4
    """in `window_s`, of the whole run: with 4 devices and 5 s each, 2 % of the time"""
    window_s: float = 3600.0
    patience_s: float = 60.0
    """without any answer: twice the deadline of one probe"""
    free_bytes: int = 3 << 30
    """of a GPU's memory: three times what a probe takes with its context, for the rank there may want more too"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeWanted:
    """A device that somebody should measure now (the order `Probe`)."""

    world: int
    node: int
    device: str | None
    about: str
    """the suspect, whom it is measured for"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something that asks for no action was learned."""

    at: float
    world: int
    sentence: str
    proof: bool = False
    """a recovery is shown to have brought the run back as it was"""


@dataclass(slots=True)
class _Round:
    """One suspect, and who is measured beside it."""

    incident: Incident
    about: str
    places: tuple[_Place, ...]
    """the suspect's first"""
    heard_at: float
    """when it began, or the last answer came"""
    answers: dict[_Place, ProbeDone] = field(default_factory=dict)


class Probes:
    """One for a run."""

    def __init__(
        self, config: ProbesConfig | None = None, *, nodes: int, ranks_per_node: int, rank_of: RankOf | None = None
    ) -> None:
        """GPU i of a node belongs to the node's rank i unless `rank_of` knows better."""
        self.config = config or ProbesConfig()
        self._nodes = nodes
        self._per_node = max(1, ranks_per_node)
        self._rank_of = rank_of or by_convention(self._per_node)
        self._gpus: dict[tuple[int, int], GpuLooked] = {}
        """by node and index: another board in its place takes it over"""
        self._began: deque[float] = deque(maxlen=self.config.rounds)
        """when the newest rounds of the run were asked for"""
        self.world_began(0)

    def world_began(self, world: int) -> None:
        """Who was slow in the last one may not be in this one: nobody is measured for what is over."""
        self._world = world
        self._over = False
        self._rounds: deque[_Round] = deque()
        self._asked: set[_Place] = set()
        self.untold: list[Note] = []
        """what `notes` will tell"""

    @property
    def deadline(self) -> float | None:
        """When no more answers of this round are waited for."""
        return self._rounds[0].heard_at + self.config.patience_s if self._rounds else None

    @property
    def running(self) -> bool:
        """Something is measured now, and steps take longer for it."""
        return bool(self._rounds)

    @property
    def wanted(self) -> tuple[ProbeWanted, ...]:
        """What should be measured now: the same until it is answered, one device of a node."""
        if not self._rounds:
            return ()
        first = self._rounds[0]
        left = [place for place in first.places if place not in first.answers]
        of_node = dict(reversed(left))
        return tuple(
            ProbeWanted(world=self._world, node=node, device=device, about=first.about)
            for node, device in sorted(of_node.items())
        )

    def notes(self) -> list[Note]:
        """What was learned since this was last asked."""
        notes, self.untold = self.untold, []
        return notes

    def suspect(self, incident: Incident) -> None:
        """Somebody concluded something: is it to be looked into?"""
        if incident.kind not in SUSPICIOUS or SENSE in incident.senses or self._over or incident.world != self._world:
            return
        place = self._place(incident)
        if place is None or place in self._asked:
            return
        recent = [at for at in self._began if incident.at - at < self.config.window_s]
        if len(recent) >= self.config.rounds:
            return
        self._asked.add(place)
        if not self._has_room(place[1]):
            said = f"{_name(incident, place)} is not probed: the rank there may need the memory that is left"
            self._note(incident.at, said)
            return
        self._began.append(incident.at)
        about = place[1] or f"node {place[0]}"
        places = (place, *self._peers(place))
        self._rounds.append(_Round(incident=incident, about=about, places=places, heard_at=incident.at))

    def see(self, signal: Signal) -> list[Incident]:
        """A GPU was looked at, a probe ended, or the world does."""
        match signal:
            case GpuLooked():
                self.looked(signal)
            case ProbeDone():
                return self._answered(signal)
            case RankExited() | WorldStopped():
                self._over = True
                self._rounds.clear()
            case _:
                pass
        return []

    def looked(self, signal: GpuLooked) -> None:
        """A GPU was looked at."""
        self._gpus[signal.node, signal.index] = signal

    def silent(self, now: float) -> list[Incident]:
        """Who has not answered by now will not."""
        deadline = self.deadline
        return self._judge(now) if deadline is not None and now >= deadline else []

    def _answered(self, signal: ProbeDone) -> list[Incident]:
        place = signal.node, signal.device
        first = self._rounds[0] if self._rounds else None
        if first is None or signal.about != first.about or place not in first.places or place in first.answers:
            return []
        first.answers[place] = signal
        first.heard_at = max(first.heard_at, signal.at)
        # A suspect that cannot be measured needs no peers.
        done = len(first.answers) == len(first.places) or (place == first.places[0] and signal.unable)
        return self._judge(signal.at) if done else []

    def _judge(self, now: float) -> list[Incident]:
        first = self._rounds.popleft()
        if self._rounds:
            self._rounds[0].heard_at = now
        place, *peers = first.places
        name = _name(first.incident, place)
        suspect = first.answers.get(place)
        if suspect is None:
            self._note(now, f"the probe of {name} was asked for, and no answer came")
            return []
        others = [first.answers[peer] for peer in peers if peer in first.answers]
        verdict = confirmed(suspect, others, name=name)
        if verdict.word in (Word.SLOW, Word.FAILED):
            return [self._incident(first.incident, place, verdict, now)]
        advice = _ADVICE[first.incident.kind, place[1] is not None] if verdict.word is Word.SOUND else ""
        self._note(now, verdict.sentence + advice)
        return []

    def _incident(self, named: Incident, place: _Place, verdict: Verdict, now: float) -> Incident:
        """What the probe says and why it was asked for, as one: two senses agree."""
        node, device = place
        failed = verdict.word is Word.FAILED
        return Incident(
            kind=Kind.HOST_DEGRADED if device is None else Kind.GPU_DEGRADED,
            at=now,
            onset=min(named.onset, now),
            world=self._world,
            subject=Subject(node=node, rank=named.subject.rank, device=device),
            step=named.step,
            confidence=1.0 - (1.0 - named.confidence) * (0.3 if failed else 0.1),
            blame=Blame.HOST if device is None else Blame.HARDWARE,
            fingerprint=f"probe:{device or node}",
            evidence=(verdict.sentence, *named.evidence),
            senses=tuple(dict.fromkeys((SENSE, *(named.senses or (named.kind,))))),
            next_best=named.next_best,
        )

    def _note(self, at: float, sentence: str) -> None:
        self.untold.append(Note(at=at, world=self._world, sentence=sentence))

    def _place(self, incident: Incident) -> _Place | None:
        """Where the suspect works: its GPU, and where there is none, its host. None: not to be measured."""
        subject = incident.subject
        node = subject.node
        if node is None and subject.rank is not None:
            node = subject.rank // self._per_node
        if node is None or not 0 <= node < self._nodes:
            return None
        if subject.device is not None:
            return node, subject.device
        if incident.kind is Kind.GPU_DEGRADED:
            return None  # several at once: no bad GPU, and nobody to compare them with
        own = (look.device for (on, index), look in self._gpus.items() if subject.rank == self._rank_of(on, index))
        return node, None if subject.rank is None else next(own, None)

    def _peers(self, place: _Place) -> list[_Place]:
        """Of the same kind: beside it, else on the nodes that come after its own."""
        node, device = place
        nodes = [(node + further) % self._nodes for further in range(1, self._nodes)]
        if device is None:
            return [(other, None) for other in nodes[: self.config.peers]]
        own = self._look(device)
        alike = {
            where: look.device
            for where, look in sorted(self._gpus.items())
            if own is not None and look.name == own.name and look.device != device
            if self._rank_of(*where) is not None and self._has_room(look.device)
        }
        beside = [(n, gpu) for (n, _), gpu in alike.items() if n == node]
        elsewhere = [(n, gpu) for other in nodes for (n, _), gpu in alike.items() if n == other]
        return list((beside or elsewhere)[: self.config.peers])

    def _look(self, device: str) -> GpuLooked | None:
        return next((look for look in self._gpus.values() if look.device == device), None)

    def _has_room(self, device: str | None) -> bool:
        """A probe must not take the memory that the rank beside it asks for next. Not known: the probe will see."""
        look = None if device is None else self._look(device)
        if look is None or look.memory_bytes is None or look.memory_used_bytes is None:
            return True
        return look.memory_bytes - look.memory_used_bytes >= self.config.free_bytes


_ADVICE = {
    (Kind.STRAGGLER, True): ": look at its rank's code, its data, its host",
    (Kind.STRAGGLER, False): ": look at the code and the data of its ranks",
    (Kind.GPU_DEGRADED, True): ": what its driver says does not show in a short measurement",
}


def _name(incident: Incident, place: _Place) -> str:
    node, device = place
    if device is None:
        return f"the host of node {node}"
    rank = incident.subject.rank
    return f"GPU {device}" if rank is None else f"rank {rank}'s GPU ({device})"
