"""Which rank failed first, going by what each of them said and how it ended?

What began outranks what followed, even when it is heard some seconds later; among equals the first one counts. A
SIGTERM, a connection that a peer closed, and a queue that was flushed never decide: they happen to ranks that others
pulled down. A rank that went on training after it said something got over it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from monitors.catalogue.faults import FAULTS
from monitors.catalogue.signature import Role
from monitors.catalogue.signatures import DRILL, EXCEPTION, Judgement, judge
from monitors.incidents import Blame
from monitors.signals import Failure, RankExited, RankSaid

SIGABRT, SIGTERM = 6, 15
EITHER_END = frozenset({"net_connect", "ib_retry_exceeded", "efa_undeliverable"})
"""roots whose fault may sit at the other end of the connection: a better one is waited for"""
SAID_FOR_S = 1800.0
"""how long a word is held against a rank without steps to tell; a collective's time-out comes after 10 to 30 minutes"""
GOT_OVER_STEPS = 2
"""steps that a rank finished after it said something: it was no fatal thing"""
WORDS_MAX = 300
"""characters of a message in the evidence; the whole of it lies in the rank's error.json and logs"""
_VARIES = re.compile(r"0x[0-9a-fA-F]+|/[^\s'\":,]{1,200}|[0-9a-f]{8,}|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
"""what differs between two occurrences of one failure: addresses, paths, hashes, ranks, ports, sizes, times"""
_ABORTED = "NCCL's watchdog ends a rank so when a collective failed elsewhere"
_ASKED = "somebody asked it to end, mostly because of another rank"


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """One rank's end, read."""

    exited: RankExited
    at: float
    """when the rank failed, which is before it ended"""
    cascade: str | None = None
    """why it points at another rank"""
    fault: str = ""
    """class of the catalogue, when something is known"""
    words: str = ""
    """the line that told, when it is not the failure's own message"""
    retryable: bool = True

    @property
    def is_sure(self) -> bool:
        """It failed by itself, and the fault sits where it is: nobody need be waited for."""
        return self.cascade is None and self.fault not in EITHER_END

    @property
    def blame(self) -> Blame | None:
        """Whose fault; None: what is known of the way it ended decides."""
        return FAULTS[self.fault].blame if self.fault else None

    @property
    def meaning(self) -> str:
        """What the fault means; empty when it says so itself."""
        return FAULTS[self.fault].meaning if self.fault else ""

    @property
    def fingerprint(self) -> str:
        """Equal for the same failure again, whichever rank, time, path or address it has."""
        exited = self.exited
        if exited.failure is not None:
            return exited.failure.fingerprint
        how = f"exit:{exited.code}" if exited.signal is None else f"signal:{exited.signal}"
        return f"{how}:{fingerprint(self.fault, self.words)}" if self.words else how


def fingerprint(fault: str, words: str) -> str:
    """16 hex digits, equal for one failure said by any rank at any time."""
    said = _VARIES.sub("#", words)
    return hashlib.blake2b(f"{fault}\n{said}".encode(errors="replace"), digest_size=8).hexdigest()


def read(exited: RankExited, said: Iterable[RankSaid] = ()) -> Death:
    """What a rank died of, by its own exception, else by the last things it said, else by how it ended.

    `said` is what all ranks of the world said. A class that another rank spoke of too explains no exception that
    points elsewhere: it may be a warning that every rank prints.
    """
    was_killed = exited.signal not in (None, SIGABRT, SIGTERM)
    own = None if was_killed else _of(exited.failure)
    words = list(said)
    common = {one.fault for one in words if one.rank != exited.rank} if own is not None else set()
    mine = [one for one in words if one.rank == exited.rank and one.fault not in common]
    spoken = first(fresh(mine, exited.at, exited.step))
    if spoken is not None and spoken.role != Role.ROOT and (was_killed or own is not None):
        spoken = None
    if spoken is not None and (own is None or own.role is not Role.ROOT):
        return _by_words(exited, spoken)
    plain = Death(exited=exited, at=_failed_at(exited))
    if own is None:
        return replace(plain, cascade=_ended_by_others(exited))
    return replace(plain, cascade=_points(own.role, own.fault), fault=own.fault, retryable=bool(own.retryable))


def _by_words(exited: RankExited, spoken: RankSaid) -> Death:
    return Death(
        exited=exited,
        at=min(_failed_at(exited), spoken.at),
        cascade=_points(Role(spoken.role), spoken.fault),
        fault=spoken.fault,
        words=spoken.text,
        retryable=spoken.retryable,
    )


def _failed_at(exited: RankExited) -> float:
    raised_at = exited.at if exited.failure is None else exited.failure.raised_at
    return raised_at if raised_at <= exited.at else exited.at  # a time that is no number compares False, too


def first(said: Iterable[RankSaid]) -> RankSaid | None:
    """The one that counts: a root before a symptom before what followed, then the earliest."""
    return min(said, key=lambda one: (_DEPTH[one.role], one.fault in EITHER_END, one.at), default=None)


def fresh(said: Iterable[RankSaid], at: float, step: int) -> list[RankSaid]:
    """What a rank that stands at this step said and did not get over."""
    return [one for one in said if at - one.at <= SAID_FOR_S and step - one.step < GOT_OVER_STEPS]


def suspect(said: Iterable[RankSaid], victims: Iterable[Death], at: float, step: int) -> RankSaid | None:
    """A rank that said why it fails and has not ended yet, while its peers already died of it.

    What a victim says too is no reason to single out anybody: every rank may have printed it.
    """
    deaths = list(victims)
    innocent = {death.exited.rank for death in deaths}
    common = {one.fault for one in said if one.rank in innocent}
    roots = [one for one in fresh(said, at, step) if one.role == Role.ROOT and one.rank not in innocent]
    return first(one for one in roots if one.fault not in common and one.fault not in EITHER_END)


_DEPTH: dict[str, int] = {Role.ROOT: 0, Role.SYMPTOM: 1, Role.CASCADE: 2, Role.NONE: 3}


def _of(failure: Failure | None) -> Judgement | None:
    if failure is None:
        return None
    last = f"{failure.kind}: {failure.message}"
    found = judge(f"{failure.traceback}\n{last}" if failure.traceback else last)
    if found is not None and found.role is not Role.NONE:
        return found
    return Judgement(verdict=DRILL if failure.kind.endswith("Drill") else EXCEPTION, text=last, is_known=False)


def _points(role: Role, fault: str) -> str | None:
    return None if role is Role.ROOT else FAULTS[fault].meaning or "what it says follows from something else"


def _ended_by_others(exited: RankExited) -> str | None:
    if exited.failure is not None:
        return None
    return {SIGABRT: _ABORTED, SIGTERM: _ASKED}.get(exited.signal or 0)
