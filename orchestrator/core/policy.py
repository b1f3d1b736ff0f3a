"""What is to be done about each kind of incident? Values; `runbooks/*.md` is where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from monitors.incidents import Blame, Kind


class Rung(StrEnum):
    """A step of the ladder, gentlest first."""

    OBSERVE = "observe"
    """note it, change nothing"""
    RESTART = "restart"
    """end the world, start a new one from the newest verified checkpoint"""
    REWIND = "rewind"
    """start a new world from a good checkpoint older than the onset"""
    REWIND_SKIP = "rewind_skip"
    """the same, and never feed the data from the onset on again"""
    RELAUNCH = "relaunch"
    """end the attempt, submit a new one to the scheduler"""
    HOLD = "hold"
    """end the attempt, keep everything, page a person"""


class Severity(StrEnum):
    """PagerDuty's four."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class Paging(StrEnum):
    """When a person is woken."""

    NEVER = "never"
    ON_HOLD = "on_hold"
    """only when the run gives up"""
    ALWAYS = "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The policy of one kind."""

    severity: Severity
    blame: Blame
    ladder: tuple[Rung, ...]
    """rung n answers the n-th strike without progress; the last one answers all later ones"""
    strikes_max: int
    """strikes inside the window after which the run is held, whatever the ladder says"""
    window_s: float
    backoff_s: tuple[float, ...] = (0.0,)
    """wait before the n-th answer without progress; the last value repeats"""
    taints: bool = False
    """checkpoints saved from the onset on are suspect"""
    witnesses: int = 1
    """independent senses that must agree before anything is killed for it"""
    page: Paging = Paging.ON_HOLD

    def __post_init__(self) -> None:
        assert self.ladder, "a ladder needs a rung"
        assert self.strikes_max >= 0
        assert self.window_s > 0
        assert self.backoff_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Every kind has a response. `version` names the set: a digest of the runbooks it was read from."""

    version: str
    responses: dict[Kind, Response]

    def __post_init__(self) -> None:
        missing = [kind for kind in Kind if kind not in self.responses]
        assert not missing, f"no runbook for {missing}"
