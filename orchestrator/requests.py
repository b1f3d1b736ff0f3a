"""What can be asked of the supervisor? The questions of `lastgood submit`, `stop`, `resume`, `drill`, ...

A request travels as one JSON object, its verb (the name of its class, in small letters) as `ask`; `by` says who asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from monitors import wire

PERSON = "a person"


class AskError(Exception):
    """What a person asks cannot be; the text says what and why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Who is there?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Take in a run."""

    spec: dict[str, Any]
    """resolved"""
    yaml: str = ""
    """as the user wrote it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End a run; after a last checkpoint, unless `now`."""

    run: str
    now: bool = False
    by: str = PERSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Let a run save and leave its devices, until it is resumed; a pause by a person only a person ends."""

    run: str
    by: str = PERSON
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Let a stopped, held or paused run go on."""

    run: str
    from_step: int | None = None
    sets: tuple[str, ...] = ()
    """`a.b=c` each: what is changed in the spec from now on"""
    by: str = PERSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """Begin a new world now, after a save; in a new attempt, on other hosts, when a node is to be left out."""

    run: str
    without: int | None = None
    """node whose host gets no ranks of this run any more"""
    by: str = PERSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Cordon:
    """Give a host no ranks any more; or let it back in."""

    run: str
    host: str
    cordoned: bool = True
    why: str = ""
    by: str = PERSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledge:
    """Somebody knows of an incident, and sees to it."""

    run: str
    incident: str
    by: str = PERSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolve:
    """What was only observed is over, somebody says."""

    run: str
    incident: str
    text: str = ""
    by: str = PERSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Write something down about an incident."""

    run: str
    incident: str
    text: str
    by: str = PERSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Was the verdict right?"""

    run: str
    incident: str
    right: bool
    text: str = ""
    by: str = PERSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """Keep a checkpoint for good; or no longer."""

    run: str
    checkpoint: str
    pinned: bool = True
    by: str = PERSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Give a run more or less to spend."""

    run: str
    limits: dict[str, float | None]
    """those to change, by the names of `core.limits.Limits`; None lifts one"""
    by: str = PERSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Say how much power the GPUs of a run may draw together."""

    run: str
    watts: float | None
    """None: as much as they can"""
    by: str = PERSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """Inject a fault; without a rank it is only noted, and whoever asks does it himself."""

    run: str
    drill: str
    rank: int | None = None
    by: str = PERSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """How does each rank stand now?"""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What do the GPUs and senses of every run say now?"""

    most: int = 0
    """GPUs of a run that may be told of one by one"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """Leave the runs to themselves: they train on, and nobody starts a supervisor until one is asked for."""


Steering = (
    Stop | Pause | Resume | Restart | Cordon | Acknowledge | Resolve | Note | Judge | Pin | Budget | Power | Drill
)
"""what concerns one run"""
Request = Ping | Submit | Ranks | Readings | Shutdown | Steering
VERBS: dict[str, type] = {kind.__name__.lower(): kind for kind in get_args(Request)}


def parse(body: Mapping[str, Any]) -> Request:
    """The request in a line of the door. Raises AskError when it is none."""
    fields = {name: value for name, value in body.items() if name not in ("ask", "token")}
    try:
        request: Request = wire.decode({wire.TAG: body.get("ask"), **fields}, VERBS)
    except KeyError:
        raise AskError("usage", f"nobody can ask {body.get('ask')!r}; there is {', '.join(VERBS)}") from None
    except (TypeError, ValueError) as error:
        raise AskError("usage", f"{body.get('ask')}: {error}") from None
    return request
