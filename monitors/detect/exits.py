"""Which rank died first, and of what?

One rank's death makes every other rank fail: its peers say "connection closed by peer" and die too. So last words
that point elsewhere wait a moment for the rank they point at, and one world yields one incident.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitors.catalogue.blames import blame
from monitors.catalogue.cascades import symptom
from monitors.incidents import Blame, Incident, Kind, Subject
from monitors.signals import RankExited, Signal

WORDS_MAX = 300
"""characters of a message in the evidence; the whole of it lies in the rank's error.json"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitsConfig:
    """How long to wait for the culprit."""

    cascade_wait_s: float = 0.5
    """a gloo peer notices a death within 60 ms and the agents' links add little; measured, facts/recovery section 4"""


_UNORDERED = "nobody of ours ordered it"
SIGABRT = 6
SIGNALS: dict[int, tuple[str, str, Blame | None]] = {
    2: ("SIGINT", f"{_UNORDERED}: a person interrupted it", None),
    4: ("SIGILL", "it met an instruction that this CPU does not have", Blame.HOST),
    SIGABRT: ("SIGABRT", "native code gave up: a failed check, or NCCL's watchdog for another's fault", None),
    7: ("SIGBUS", "memory behind a mapping was gone: mostly a full /dev/shm or a file that was cut", Blame.HOST),
    8: ("SIGFPE", "native code divided by zero", Blame.USER_CODE),
    9: ("SIGKILL", f"{_UNORDERED}: the kernel's out-of-memory killer, the scheduler or a person", None),
    11: ("SIGSEGV", "it touched memory that is not its own: a bug in native code, or broken memory", None),
    15: ("SIGTERM", f"{_UNORDERED}: the scheduler or a person ended it", None),
}
"""Linux' number: name, what the death by it says, whose fault; None: the runbook's blame stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Death:
    """One rank's end, read."""

    exited: RankExited
    at: float
    """when the rank failed, which is before it ended"""
    cascade: str | None
    """why it points at another rank"""


class Exits:
    """Concludes once for each world."""

    def __init__(self, config: ExitsConfig | None = None) -> None:
        self.config = config or ExitsConfig()
        self.world_began(0)

    def world_began(self, world: int) -> None:
        """Deaths in older worlds are history."""
        self._world = world
        self._concluded = False
        self._victims: list[_Death] = []
        self._waits_until: float | None = None

    @property
    def deadline(self) -> float | None:
        """When the wait for the culprit ends."""
        return self._waits_until

    def see(self, signal: Signal) -> list[Incident]:
        """A root is concluded at once; a victim waits for its root."""
        if not isinstance(signal, RankExited) or self._concluded or signal.world != self._world:
            return []
        if signal.ordered or signal.code == 0:
            return []
        death = _read(signal)
        if death.cascade is None:
            return self._conclude(death, at=signal.at)
        self._victims.append(death)
        if self._waits_until is None:
            self._waits_until = signal.at + self.config.cascade_wait_s
        return []

    def silent(self, now: float) -> list[Incident]:
        """No root came: the first victim stands for the unknown one."""
        if self._waits_until is None or now < self._waits_until:
            return []
        return self._conclude(min(self._victims, key=lambda death: death.at), at=now)

    def _conclude(self, culprit: _Death, at: float) -> list[Incident]:
        others = [death for death in self._victims if death is not culprit]
        self._concluded, self._waits_until, self._victims = True, None, []
        exited = culprit.exited
        return [
            Incident(
                kind=Kind.WORKER_KILLED if exited.signal is not None else Kind.WORKER_EXCEPTION,
                at=max(at, exited.at),
                onset=culprit.at,
                world=exited.world,
                subject=Subject(node=exited.node, rank=exited.rank),
                step=exited.step,
                confidence=1.0 if culprit.cascade is None else 0.4,
                blame=_blame(culprit),
                fingerprint=_fingerprint(exited),
                evidence=(*_evidence(culprit), *(_folded(death) for death in others)),
            )
        ]


def _read(exited: RankExited) -> _Death:
    failure = exited.failure
    cascade = None
    if exited.signal == SIGABRT and failure is None:
        cascade = "NCCL's watchdog ends a rank so when a collective failed elsewhere"
    elif exited.signal is None and failure is not None:
        cascade = symptom(failure.kind, failure.message)
    raised_at = exited.at if failure is None else failure.raised_at
    # A raised_at that is no number compares False, too.
    return _Death(exited=exited, at=raised_at if raised_at <= exited.at else exited.at, cascade=cascade)


def _blame(culprit: _Death) -> Blame | None:
    if culprit.cascade is not None:
        return Blame.UNKNOWN
    exited = culprit.exited
    if exited.signal is not None:
        return SIGNALS.get(exited.signal, ("", "", None))[2]
    if exited.failure is None:
        return None
    return blame(exited.failure.kind, exited.failure.message)[0]


def _fingerprint(exited: RankExited) -> str:
    if exited.failure is not None:
        return exited.failure.fingerprint
    return f"exit:{exited.code}" if exited.signal is None else f"signal:{exited.signal}"


def _evidence(culprit: _Death) -> tuple[str, ...]:
    exited = culprit.exited
    said = [_ended(exited)]
    if culprit.cascade is not None:
        said.append(f"these words point at another rank ({culprit.cascade}), but none was found")
    elif exited.signal is not None:
        said.append(SIGNALS.get(exited.signal, ("", _UNORDERED, None))[1])
    elif exited.failure is not None and (meaning := blame(exited.failure.kind, exited.failure.message)[1]):
        said.append(meaning)
    return tuple(said)


def _ended(exited: RankExited) -> str:
    place = f"rank {exited.rank} on node {exited.node}"
    after = f"after step {exited.step}"
    if exited.signal is not None:
        return f"{place} was ended by {_signal_name(exited.signal)} {after}"
    if exited.failure is None:
        return f"{place} exited with status {exited.code} {after}, without a traceback"
    return f"{place} raised {exited.failure.kind} {after}: {exited.failure.message[:WORDS_MAX]}"


def _folded(death: _Death) -> str:
    return f"{_ended(death.exited)}; {death.cascade}: counted as a victim"


def _signal_name(number: int) -> str:
    return f"{SIGNALS[number][0]} (signal {number})" if number in SIGNALS else f"signal {number}"
