"""What did people say about an incident, and how often were verdicts right?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from monitors.incidents import Kind
from orchestrator.core import events as e
from orchestrator.core.asked import Said


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something that a person wrote down."""

    at: float
    by: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remarks:
    """All that was said about one incident. None, or empty: nobody said so."""

    acknowledged_at: float | None = None
    acknowledged_by: str | None = None
    """the first who did"""
    resolved_by: str | None = None
    """the person who said that it is over; None: the run itself showed that, or it is not"""
    notes: tuple[Note, ...] = ()
    """also the words of whoever resolved it, oldest first"""
    judged_right: bool | None = None
    """the newest judgement of the verdict, and `judged_*` about it"""
    judged_at: float | None = None
    judged_by: str | None = None
    judged_text: str | None = None


NOTHING_SAID = Remarks()


def after(remarks: Remarks, event: Said) -> Remarks:
    """The remarks with one more."""
    match event:
        case e.IncidentAcknowledged() if remarks.acknowledged_at is None:
            return replace(remarks, acknowledged_at=event.at, acknowledged_by=event.by)
        case e.IncidentNoted():
            return _noted(remarks, event)
        case e.IncidentResolved():
            said = replace(remarks, resolved_by=event.by)
            return _noted(said, event) if event.text else said
        case e.IncidentJudged():
            return replace(
                remarks,
                judged_right=event.right,
                judged_at=event.at,
                judged_by=event.by,
                judged_text=event.text or None,
            )
        case _:
            return remarks


def _noted(remarks: Remarks, event: e.IncidentNoted | e.IncidentResolved) -> Remarks:
    return replace(remarks, notes=(*remarks.notes, Note(at=event.at, by=event.by, text=event.text)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How often verdicts of one kind were right, of those that people judged."""

    right: int
    wrong: int
    unjudged: int

    @property
    def share(self) -> float | None:
        """Right ones of those judged, from 0 to 1; None: none was."""
        judged = self.right + self.wrong
        return self.right / judged if judged else None


def precision(verdicts: Iterable[tuple[Kind, bool | None]]) -> Mapping[Kind, Precision]:
    """Of (kind, was it right?) of incidents, None where nobody said; kinds in the order in which they first came."""
    counted: dict[Kind, Counter[bool | None]] = {}
    for kind, right in verdicts:
        counted.setdefault(kind, Counter())[right] += 1
    return {kind: Precision(right=n[True], wrong=n[False], unjudged=n[None]) for kind, n in counted.items()}
