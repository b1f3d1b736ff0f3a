"""Which rank died first, and of what?

One rank's death makes every other rank fail: its peers say "connection closed by peer" and die too. So last words
that point elsewhere wait a moment for the rank they point at, and one world yields one incident.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitors.catalogue.faults import FAULTS
from monitors.detect.failures import SIGABRT, SIGTERM, WORDS_MAX, Death, fingerprint, read, suspect
from monitors.incidents import Blame, Incident, Kind, Subject
from monitors.signals import RankExited, RankSaid, Signal

SAID_MAX = 4096
"""words of ranks kept for one world: eight classes from each of 512 ranks"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitsConfig:
    """How long to wait for the culprit."""

    cascade_wait_s: float = 0.5
    """a gloo peer notices a death within 60 ms and the agents' links add little; measured, facts/recovery section 4"""


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

    def __init__(self, config: ExitsConfig | None = None) -> None:
        self.config = config or ExitsConfig()
        self.world_began(0)

    def world_began(self, world: int) -> None:
        """Deaths in older worlds are history."""
        self._world = world
        self._concluded = False
        self._said: list[RankSaid] = []
        self._victims: list[Death] = []
        self._waits_until: float | None = None

    @property
    def deadline(self) -> float | None:
        """When the wait for the culprit ends."""
        return self._waits_until

    def see(self, signal: Signal) -> list[Incident]:
        """A root is concluded at once; a victim waits for its root."""
        if isinstance(signal, RankSaid) and signal.world == self._world and len(self._said) < SAID_MAX:
            self._said.append(signal)
        if not isinstance(signal, RankExited) or self._concluded or signal.world != self._world:
            return []
        if signal.ordered or signal.code == 0:
            return []
        death = read(signal, self._said)
        if death.is_sure:
            return self._conclude(death, at=signal.at)
        self._victims.append(death)
        if self._waits_until is None:
            self._waits_until = signal.at + self.config.cascade_wait_s
        return []

    def silent(self, now: float) -> list[Incident]:
        """No root came: who said why it fails and only has not ended yet, else the first to die, stands for it."""
        if self._waits_until is None or now < self._waits_until:
            return []
        earliest = min(self._victims, key=lambda death: (death.cascade is not None, death.at))
        speaker = suspect(self._said, self._victims, now, earliest.exited.step)
        if speaker is not None and earliest.cascade is not None:
            return self._accuse(speaker, earliest, at=now)
        return self._conclude(earliest, at=now)

    def _conclude(self, culprit: Death, at: float) -> list[Incident]:
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
            blame=_blame(culprit),
            fingerprint=culprit.fingerprint,
            retryable=culprit.retryable or culprit.cascade is not None,
            evidence=(*_evidence(culprit), *self._folded(culprit)),
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
        self._concluded, self._waits_until, self._victims, self._said = True, None, [], []


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
