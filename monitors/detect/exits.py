"""Which rank died first, and of what?

One rank's death makes every other rank fail: its peers say "connection closed by peer" and die too. So last words
that point elsewhere wait a moment for the rank they point at, and one world yields one incident. Where they died of a
collective that timed out, nobody else need have died: then the flight recorders name the rank that never came.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitors.catalogue.faults import FAULTS
from monitors.detect.collectives import Blocked
from monitors.detect.failures import SIGABRT, SIGTERM, WORDS_MAX, Death, fingerprint, read, suspect
from monitors.detect.timeouts import TIMEOUTS, Records
from monitors.incidents import Blame, Incident, Kind, Subject
from monitors.signals import CollectivesLooked, RankExited, RankSaid, Signal, WorldStopped

SAID_MAX = 4096
"""words of ranks kept for one world: eight classes from each of 512 ranks"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitsConfig:
    """How long to wait for the culprit."""

    cascade_wait_s: float = 0.5
    """a gloo peer notices a death within 60 ms and the agents' links add little; measured, facts/recovery section 4"""
    answers_wait_s: float = 2.5
    """after a collective's time-out, for the recorders of the ranks that live: an agent waits 2 s for an answer"""
    dumps_wait_s: float = 62.0
    """for dumps that were begun: an agent waits 60 s for the end of one"""


_UNORDERED = "nobody of ours ordered it"
SIGNALS: dict[int, tuple[str, str, Blame | None]] = {
    2: ("SIGINT", f"{_UNORDERED}: a person interrupted it", None),
    4: ("SIGILL", "it met an instruction that this CPU does not have", Blame.HOST),
    SIGABRT: ("SIGABRT", "native code gave up: a failed check, or NCCL's watchdog for another's fault", None),
    7: ("SIGBUS", "memory behind a mapping was gone: mostly a full /dev/shm or a file that was cut", Blame.HOST),
    8: ("SIGFPE", "native code divided by zero", Blame.USER_CODE),
    9: ("SIGKILL", f"{_UNORDERED}: the kernel's out-of-memory killer, the scheduler or a person", None),
    11: ("SIGSEGV", "it touched memory that is not its own: a bug in native code, or broken memory", None),
    SIGTERM: ("SIGTERM", f"{_UNORDERED}: the scheduler or a person ended it", None),
}
"""Linux' number: name, what the death by it says, whose fault; None: the runbook's blame stays."""


class Exits:
    """Concludes once for each world."""

    def __init__(self, config: ExitsConfig | None = None, *, ranks: int = 0, ranks_per_node: int = 1) -> None:
        """`ranks`: how many a world has; 0: not known, and then none is asked after a time-out."""
        self.config = config or ExitsConfig()
        self._ranks, self._per_node = ranks, ranks_per_node
        self.world_began(0)

    def world_began(self, world: int) -> None:
        """Deaths in older worlds are history."""
        self._world = world
        self._concluded = False
        self._said: list[RankSaid] = []
        self._victims: list[Death] = []
        self._records = Records(ranks=self._ranks, ranks_per_node=self._per_node)
        self.deadline: float | None = None
        """when the wait for the culprit ends"""

    @property
    def looks(self) -> tuple[int, ...]:
        """Ranks that should say where they stand: a collective timed out, and one of them may be why."""
        return self._records.unasked if self._victims and self._is_timeout else ()

    def see(self, signal: Signal) -> list[Incident]:
        """A root is concluded at once; a victim waits for its root."""
        if isinstance(signal, RankSaid) and signal.world == self._world and len(self._said) < SAID_MAX:
            self._said.append(signal)
        if self._concluded or not isinstance(signal, RankExited | CollectivesLooked | WorldStopped):
            return []
        if signal.world != self._world or not (self._victims or isinstance(signal, RankExited)):
            return []
        self._records.see(signal)
        if isinstance(signal, RankExited) and not signal.ordered and signal.code != 0:
            death = read(signal, self._said)
            if death.is_sure:
                return self._conclude(death, at=signal.at)
            self._victims.append(death)
        return self._wait(signal.at) if self._victims else []

    def silent(self, now: float) -> list[Incident]:
        """No root came, and nobody tells more."""
        return [] if self.deadline is None or now < self.deadline else self._decide(now)

    @property
    def _is_timeout(self) -> bool:
        return any(death.fault in TIMEOUTS for death in self._victims) or bool(self._victims and self._records.left)

    def _wait(self, at: float) -> list[Incident]:
        """For as long as somebody may tell more; after a time-out, not a moment longer."""
        wait_s = self.config.cascade_wait_s
        if self._is_timeout and self._ranks:
            if not self._records.coming and not self._records.unasked:
                return self._decide(at)
            wait_s = self.config.dumps_wait_s if self._records.coming else self.config.answers_wait_s
        self.deadline = self._victims[0].exited.at + wait_s
        return []

    def _decide(self, now: float) -> list[Incident]:
        """Who said why it fails and only has not ended yet, else whom all waited for by their records, else the first
        to die."""
        earliest = min(self._victims, key=lambda death: (death.cascade is not None, death.at))
        now = max(now, *(death.exited.at for death in self._victims))
        speaker = suspect(self._said, self._victims, now, earliest.exited.step)
        if speaker is not None and earliest.cascade is not None:
            return self._accuse(speaker, earliest, at=now)
        found = self._records.verdict() if self._is_timeout and earliest.cascade is not None else None
        if found is None:
            return self._conclude(earliest, at=now)
        if found.rank is None:
            return self._conclude(earliest, at=now, found=found)
        return self._waited(found, found.rank, earliest, at=now)

    def _waited(self, found: Blocked, rank: int, victim: Death, at: float) -> list[Incident]:
        """The rank for which the victims waited until their time was up."""
        own = next((death for death in self._victims if death.exited.rank == rank), None)
        kind = Kind.CODE_DIVERGENCE if found.call else Kind.HANG
        other = victim.exited.rank if found.next_best in (None, rank) else found.next_best
        incident = Incident(
            kind=kind,
            at=at,
            onset=victim.at,
            world=victim.exited.world,
            subject=self._records.subject(rank),
            step=victim.exited.step,
            confidence=found.confidence,
            blame=found.blame,
            fingerprint=f"{kind}:{rank}:{found.call or 'timeout'}",
            evidence=(
                *self._records.evidence(found),
                *([] if own is None else [_ended(own.exited)]),
                *self._folded(own),
            ),
            senses=("exit", "collectives"),
            next_best=None if other in (None, rank) else self._records.subject(other),
        )
        self._is_over()
        return [incident]

    def _conclude(self, culprit: Death, at: float, found: Blocked | None = None) -> list[Incident]:
        exited = culprit.exited
        sure = culprit.is_sure
        incident = Incident(
            kind=Kind.WORKER_KILLED if exited.signal is not None else Kind.WORKER_EXCEPTION,
            at=max(at, exited.at),
            onset=culprit.at,
            world=exited.world,
            subject=Subject(node=exited.node, rank=exited.rank),
            step=exited.step,
            confidence=1.0 if sure else 0.6 if culprit.cascade is None else 0.4,
            blame=_blame(culprit) if found is None else found.blame,
            fingerprint=culprit.fingerprint,
            retryable=culprit.retryable or culprit.cascade is not None,
            evidence=(*_evidence(culprit), *(() if found is None else found.evidence), *self._folded(culprit)),
            senses=("exit", "logs") if culprit.words else ("exit",),
        )
        self._is_over()
        return [incident]

    def _accuse(self, speaker: RankSaid, victim: Death, at: float) -> list[Incident]:
        fault = FAULTS[speaker.fault]
        told = f"rank {speaker.rank} on node {speaker.node} said, and has not ended: {speaker.text[:WORDS_MAX]}"
        incident = Incident(
            kind=Kind.WORKER_EXCEPTION,
            at=at,
            onset=min(speaker.at, victim.at),
            world=speaker.world,
            subject=Subject(node=speaker.node, rank=speaker.rank),
            step=victim.exited.step,
            confidence=0.8,
            blame=fault.blame,
            fingerprint=f"said:{fingerprint(speaker.fault, speaker.text)}",
            retryable=speaker.retryable,
            evidence=tuple(one for one in (told, fault.meaning, *self._folded(None)) if one),
            senses=("exit", "logs"),
            next_best=Subject(node=victim.exited.node, rank=victim.exited.rank),
        )
        self._is_over()
        return [incident]

    def _folded(self, culprit: Death | None) -> tuple[str, ...]:
        return tuple(_folded(death) for death in self._victims if death is not culprit)

    def _is_over(self) -> None:
        self._concluded, self.deadline, self._victims, self._said = True, None, [], []


def _blame(culprit: Death) -> Blame | None:
    if culprit.cascade is not None:
        return Blame.UNKNOWN
    by_signal = SIGNALS.get(culprit.exited.signal or 0, ("", "", None))[2]
    if culprit.exited.signal is not None and culprit.blame in (None, Blame.UNKNOWN):
        return by_signal
    return culprit.blame


def _evidence(culprit: Death) -> tuple[str, ...]:
    exited = culprit.exited
    said = [_ended(exited)]
    if culprit.words:
        said.append(f"it said: {culprit.words[:WORDS_MAX]}")
    if culprit.cascade is not None:
        said.append(f"these words point at another rank ({culprit.cascade}), but none was found")
    elif culprit.meaning:
        said.append(culprit.meaning)
    elif exited.signal is not None:
        said.append(SIGNALS.get(exited.signal, ("", _UNORDERED, None))[1])
    return tuple(said)


def _ended(exited: RankExited) -> str:
    place = f"rank {exited.rank} on node {exited.node}"
    after = f"after step {exited.step}"
    if exited.signal is not None:
        return f"{place} was ended by {_signal_name(exited.signal)} {after}"
    if exited.failure is None:
        return f"{place} exited with status {exited.code} {after}, without a traceback"
    return f"{place} raised {exited.failure.kind} {after}: {exited.failure.message[:WORDS_MAX]}"


def _folded(death: Death) -> str:
    return f"{_ended(death.exited)}; {death.cascade or death.meaning}: counted as a victim"


def _signal_name(number: int) -> str:
    return f"{SIGNALS[number][0]} (signal {number})" if number in SIGNALS else f"signal {number}"
