"""What may a person have asked, or said? Events like all others (`events.py`), but that somebody stands behind each.

`by` says who: the name of a user, or one of `BUDGETS`. Journal format: fields are only ever added, with defaults.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.core.plan import Plan
from orchestrator.core.rationed import BudgetChanged

POWER_BUDGET = "the power budget"
BUDGETS = frozenset({POWER_BUDGET})
"""who may pause a run, and end that pause, without being a person; no user's name has a blank in it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequested:
    """A person wants the run to end; checkpoint first, unless `now`."""

    at: float
    by: str
    now: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRequested:
    """A person, or a budget, wants the run to save, and to leave its devices for a while."""

    at: float
    by: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRequested:
    """A person wants a held, stopped or paused run to go on."""

    at: float
    by: str
    from_step: int | None = None
    """newest step allowed to resume from"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecRevised:
    """A person changed the spec of a run that rests: the next attempt is started by it."""

    at: float
    by: str
    revision: int
    """from 1; 0 is the spec that was submitted"""
    sets: tuple[str, ...]
    """what was changed, as it may be told"""
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartRequested:
    """A person wants a new world now, from the newest save; in a new attempt when a node is to be left out."""

    at: float
    by: str
    without: int | None = None
    """node whose host gets no ranks of this run any more, until it is let back in"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCordoned:
    """A person wants no ranks on a host any more; or, with `cordoned` false, lets it back in."""

    at: float
    by: str
    host: str
    cordoned: bool = True
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentAcknowledged:
    """A person knows of it, and sees to it."""

    at: float
    by: str
    incident: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentResolved:
    """A person says that what was only observed is over."""

    at: float
    by: str
    incident: str
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentNoted:
    """A person wrote something down about it."""

    at: float
    by: str
    incident: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentJudged:
    """A person says whether the verdict was right: the kind, and whom it names."""

    at: float
    by: str
    incident: str
    right: bool
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointPinned:
    """A person wants a checkpoint kept for good; or, with `pinned` false, no longer."""

    at: float
    by: str
    checkpoint: str
    pinned: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillRequested:
    """A person wants a fault; noted so that the story and the ledger tell it from a real one."""

    at: float
    by: str
    drill: str
    rank: int | None = None
    number: int = 0


Said = IncidentAcknowledged | IncidentResolved | IncidentNoted | IncidentJudged
"""about one incident"""
Asked = (
    StopRequested
    | PauseRequested
    | ResumeRequested
    | RestartRequested
    | SpecRevised
    | HostCordoned
    | Said
    | CheckpointPinned
    | DrillRequested
    | BudgetChanged
)
