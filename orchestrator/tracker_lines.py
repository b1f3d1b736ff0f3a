"""What is an experiment tracker told about a run? Lines: of steps, of what happened, of where time and energy went.

The lines of a run are numbered in the order in which they were first told, and never change. Whoever delivers them
keeps count by that number, and so loses and repeats none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from monitors.signals import StepReported
from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.core.policy import Severity
from orchestrator.core.state import ENDED, Phase
from orchestrator.journal import Entry
from orchestrator.ledger import Ledger
from orchestrator.spans import Bucket

AXIS = "trainer/step"
"""x axis of every chart: the tracker's own count goes on growing when steps are rolled back"""
WORLDS_KEPT = 3
"""whose rows may still be on their way"""
POWER_EVERY_S = 10.0
LEVELS = {Severity.INFO: "INFO", Severity.WARNING: "WARN", Severity.ERROR: "ERROR", Severity.CRITICAL: "ERROR"}
TITLE_MOST = 63
"""W&B wants titles of less than 64 characters"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row that a tracker is to have."""

    at: float
    kind: str
    """`begin`, `step`, `mark`, `books`, `rewind`, `copy` of a mark that a rewind would take along, `end`"""
    values: dict[str, Any] = field(default_factory=dict)
    alert: tuple[str, str, str] | None = None
    """title, text and level, to be sent with it"""
    keep: int | None = None
    """of a rewind: number of the last line that is not rolled back; None: all are kept"""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """How far a world was told."""

    number: int
    attempt: int
    step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How far the journal of a run was told: it stands beside the lines, and is as durable as they are."""

    entry: int = 0
    """id of the last one"""
    worlds: tuple[World, ...] = ()
    """the newest ones"""
    step: int = 0
    """last one told"""
    joined: tuple[int, ...] = ()
    """nodes whose agent is there"""
    energy: tuple[float, float, float] | None = None
    """since, until and joules of the reading that power was last told of"""
    phase: str = ""
    """of the run"""
    ended: bool = False
    """the line that says so was told"""


def dumped(line: Line, place: Place | None = None) -> str:
    """As text without a line break; `place` stands in the last line of a batch."""
    body = {name: value for name, value in asdict(line).items() if value is not None}
    return json.dumps(body if place is None else {**body, "place": asdict(place)}, separators=(",", ":"))


def parsed(text: str) -> tuple[Line, Place | None]:
    """What `dumped` wrote; what a newer version added is left out."""
    body = json.loads(text)
    place = body.pop("place", None)
    alert = tuple(body["alert"]) if "alert" in body else None
    line = Line(**{**_known(Line, body), "alert": alert})
    return line, None if place is None else _place(place)


def _place(body: dict[str, Any]) -> Place:
    worlds = tuple(World(**_known(World, world)) for world in body.get("worlds", ()))
    energy = tuple(body["energy"]) if body.get("energy") else None
    known = _known(Place, body)
    return Place(**{**known, "worlds": worlds, "joined": tuple(body.get("joined", ())), "energy": energy})


def _known(kind: type, body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name in kind.__dataclass_fields__}  # type: ignore[attr-defined]


class Scribe:
    """Makes the lines of one run, standing at a place of its journal."""

    def __init__(self, run: str, place: Place) -> None:
        self.run = run
        self.place = place

    def entry(self, number: int, entry: Entry | None) -> list[Line]:
        """The lines of one entry of the journal; none for one that was told, or that a newer lastgood wrote."""
        if number <= self.place.entry:
            return []
        self._move(entry=number)
        if entry is None:
            return []
        lines = [*self._happened(entry), *self._decided(entry)]
        self._move(phase=entry.phase.value, ended=self.place.ended and entry.phase in ENDED)
        return lines

    def rows(self, rows: Iterable[StepReported]) -> list[Line]:
        """The lines of steps of one world, in their order; the first one may say that older ones were rolled back."""
        return [line for row in rows for line in self._row(row)]

    def books(self, books: Ledger, at: float) -> Line:
        """Where the time and the energy went so far."""
        return self._line(at, "books", _balanced(books))

    def end(self, at: float) -> Line:
        """Nothing follows, unless a person lets the run go on."""
        self._move(ended=True)
        code = 0 if self.place.phase in (Phase.SUCCEEDED, Phase.STOPPED) else 1
        return self._line(at, "end", {"lastgood/state": self.place.phase.upper(), "lastgood/exit": code})

    def _move(self, **changes: Any) -> None:
        self.place = replace(self.place, **changes)

    def _line(self, at: float, kind: str, values: dict[str, Any], alert: tuple[str, str, str] | None = None) -> Line:
        newest = self.place.worlds[-1] if self.place.worlds else World(number=0, attempt=0)
        where = {AXIS: self.place.step, "lastgood/attempt": newest.attempt, "lastgood/world": newest.number}
        return Line(at=at, kind=kind, values={**where, **values}, alert=alert)

    def _row(self, row: StepReported) -> Iterator[Line]:
        world = next((world for world in self.place.worlds if world.number == row.world), None)
        if world is None:
            world = World(number=row.world, attempt=self.place.worlds[-1].attempt if self.place.worlds else 0)
            self._learn(world)
        if world.step == 0 and row.step <= self.place.step:
            again = {"lastgood/rolled_back_to": row.step - 1, "lastgood/steps_again": self.place.step - row.step + 1}
            yield self._line(row.at, "rewind", again)
        self._learn(replace(world, step=row.step))
        self._move(step=row.step)
        where = {"lastgood/attempt": world.attempt, "lastgood/world": world.number}
        yield Line(at=row.at, kind="step", values={AXIS: row.step, **where, **_trained(row)})

    def _learn(self, world: World) -> None:
        others = {other.number: other for other in self.place.worlds} | {world.number: world}
        self._move(worlds=tuple(others[number] for number in sorted(others)[-WORLDS_KEPT:]))

    def _happened(self, entry: Entry) -> Iterator[Line]:
        match entry.event:
            case e.RunSubmitted(plan=plan):
                yield self._line(entry.event.at, "begin", {"nodes/wanted": plan.nodes, "nodes/joined": 0})
            case e.AgentJoined(node=node, host=host):
                yield self._nodes(entry.event.at, {*self.place.joined, node}, f"node {node} is there ({host})")
            case e.AgentGone(node=node):
                yield self._nodes(entry.event.at, {*self.place.joined} - {node}, f"node {node} is gone")
            case e.AttemptEnded(attempt=attempt):
                yield self._nodes(entry.event.at, set(), f"attempt {attempt} is over")
            case e.Progressed(energy=e.EnergyRead() as energy):
                yield from self._power(energy)
            case e.CheckpointCommitted() as save:
                values = {
                    "checkpoint/step": save.step,
                    "checkpoint/bytes": save.bytes,
                    "checkpoint/stall_s": save.stall_s,
                }
                yield self._line(save.at, "mark", values)
            case e.RecoveryProved(sentence=sentence) | e.DeviceProbed(sentence=sentence):
                yield self._line(entry.event.at, "mark", {"lastgood/event": sentence})
            case _:
                pass

    def _nodes(self, at: float, joined: set[int], sentence: str) -> Line:
        self._move(joined=tuple(sorted(joined)))
        return self._line(at, "mark", {"nodes/joined": len(joined), "lastgood/event": sentence})

    def _power(self, read: e.EnergyRead) -> Iterator[Line]:
        since, until, joules = self.place.energy or (0.0, 0.0, 0.0)
        if since == read.since and read.until - until < POWER_EVERY_S:
            return
        self._move(energy=(read.since, read.until, read.joules))
        if since == read.since:
            watts = (read.joules - joules) / (read.until - until)
            yield self._line(read.until, "mark", {"power/gpus_w": watts})

    def _decided(self, entry: Entry) -> Iterator[Line]:
        at = entry.event.at
        for opened in entry.opened:
            incident, subject = opened.incident, opened.incident.subject
            seen = {
                "incident/opened": opened.id,
                "incident/kind": incident.kind.value,
                "incident/response": opened.rung.value,
                "incident/node": subject.node,
                "incident/rank": subject.rank,
                "incident/device": subject.device,
                "incident/step": incident.step,
                "incident/confidence": incident.confidence,
                "lastgood/event": entry.reason,
            }
            yield self._line(at, "mark", {name: value for name, value in seen.items() if value is not None})
        for action in entry.actions:
            yield from self._ordered(action, at, entry.reason)
        for closed in entry.closed:
            yield self._line(at, "mark", {"incident/closed": closed})
        if entry.phase.value != self.place.phase and entry.phase in ENDED:
            yield self._line(at, "mark", {"lastgood/event": entry.reason, "lastgood/state": entry.phase.upper()})

    def _ordered(self, action: a.Action, at: float, reason: str) -> Iterator[Line]:
        match action:
            case a.StartWorld() if all(world.number < action.world for world in self.place.worlds):
                self._learn(World(number=action.world, attempt=action.attempt))
                if action.world > 1:
                    origin = action.candidates[0] if action.candidates else ""
                    restart = {"restart/world": action.world, "restart/from": origin, "lastgood/event": reason}
                    yield self._line(at, "mark", restart)
            case a.Alert():
                title = f"{self.run}: {action.title}"
                short = title if len(title) <= TITLE_MOST else f"{title[: TITLE_MOST - 1]}…"
                yield self._line(
                    at, "mark", {"lastgood/told": action.title}, (short, action.text, LEVELS[action.severity])
                )
            case _:
                pass


def _trained(row: StepReported) -> dict[str, Any]:
    speed = row.tokens / row.step_s if row.tokens is not None and row.step_s else None
    values = {
        "train/loss": row.loss,
        "train/grad_norm": row.grad_norm,
        "train/lr": row.lr,
        "train/tokens": row.tokens,
        "train/tokens_per_s": speed,
        "train/step_s": row.step_s,
        "train/data_index": row.data_index,
    }
    return {name: value for name, value in values.items() if value is not None}


def _balanced(books: Ledger) -> dict[str, Any]:
    """Buckets in seconds, once they have any."""
    values: dict[str, float | None] = {f"ledger/{bucket}_s": books.buckets[bucket] or None for bucket in Bucket}
    values |= {
        "goodput/ettr": books.ettr,
        "goodput/goodput": books.goodput,
        "goodput/mttf_s": books.mttf_s,
        "goodput/mttr_s": books.mttr_s,
        "goodput/steps_lost": books.steps_lost,
        "goodput/incidents": books.incidents,
        "goodput/gpu_hours": books.gpu_hours,
        "energy/kwh": None if books.energy_j is None else books.energy_j / 3.6e6,
        "energy/lost_kwh": None if books.energy_lost_j is None else books.energy_lost_j / 3.6e6,
        "energy/known_share": books.energy_known_share,
        "energy/per_step_j": books.energy_per_step_j,
        "energy/per_token_j": books.energy_per_token_j,
    }
    return {name: value for name, value in values.items() if value is not None}


def rewound(lines: Sequence[Line], step: int) -> tuple[int | None, list[Line]]:
    """Where a rewind to `step` cuts `lines`: the number of the last one that is kept (None: there is none), and the
    marks after it, to be told again. What an earlier rewind cut off is neither."""
    marks: list[Line] = []
    number = len(lines) - 1
    while number >= 0:
        line = lines[number]
        if line.kind == "step" and line.values[AXIS] <= step:
            return number, marks[::-1]
        if line.kind == "rewind" and line.keep is not None:
            marks.append(replace(line, kind="copy", keep=None))
            number = line.keep
            continue
        if line.kind != "step":
            marks.append(replace(line, kind="copy", alert=None, keep=None))
        number -= 1
    return None, []
