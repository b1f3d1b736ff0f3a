"""What happened to a run, told so that a person can follow it: what, why, what was done, and what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

from orchestrator import phases, timeline, wishes
from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.core.policy import Rung
from orchestrator.core.state import ENDED, Phase
from orchestrator.journal import Entry
from orchestrator.phases import Phases
from orchestrator.timeline import Case, Timeline, World


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A line of the story."""

    at: float
    text: str


def sentences(entries: Sequence[Entry]) -> list[Sentence]:
    """The story of one run, in the order in which it became known."""
    return Teller(timeline.walk(entries)).tell(entries)


def describe(action: a.Action) -> str | None:
    """What was done, in the past tense; None for what is nobody's concern."""
    match action:
        case a.Launch():
            without = f", without {', '.join(action.exclude)}" if action.exclude else ""
            return f"submitted attempt {action.attempt} to the scheduler{without}"
        case a.EndAttempt():
            return f"ended attempt {action.attempt}"
        case a.StartWorld():
            return f"started world {action.world} {_origin(action)}{_skipping(action.skips)}"
        case a.StopWorld():
            return f"ended world {action.world}"
        case a.StopAfterStep():
            return f"asked world {action.world} to save and end"
        case a.Alert():
            return f"{'paged a person' if action.page else 'told a person'}: {action.title}"
        case a.InjectFault():
            return f"injected the drill {action.drill} into rank {action.rank}"
        case a.VerifyCheckpoint() | a.DeleteCheckpoint() | a.SaveEvery() | a.CapPower():
            return None


def _origin(order: a.StartWorld) -> str:
    if not order.candidates:
        return "afresh"
    older = len(order.candidates) - 1
    return f"from {order.candidates[0]}" + (f", or one of {older} older ones" if older else "")


def _skipping(skips: tuple[tuple[int, int], ...]) -> str:
    windows = ", ".join(f"{first} to {end - 1}" for first, end in skips)
    return f", skipping the data {windows}" if windows else ""


def seconds(value_s: float) -> str:
    """For people: `0.31 s`, `12.4 s`, `3 min 20 s`, `2 h 05 min`."""
    if value_s < 10:
        return f"{value_s:.2f} s"
    if value_s < 60:
        return f"{value_s:.1f} s"
    minutes, rest = divmod(round(value_s), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def lengths(spent: Phases) -> str:
    """`detect 0.20 s, stop 0.31 s, ...`: every phase that happened, without the total."""
    named = ((field.name, getattr(spent, field.name)) for field in fields(spent) if field.name != "total")
    return ", ".join(f"{name.replace('_', ' ')} {seconds(value)}" for name, value in named if value is not None)


class Teller:
    """Tells the entries of one run, in order, knowing how it went on."""

    def __init__(self, course: Timeline) -> None:
        self._course = course
        self._cases = {case.id: case for case in course.cases}
        self._told: set[int] = set()
        """worlds whose first step was told"""
        self._ordered: set[a.Action] = set()
        self._phase: Phase | None = None
        self._save_every = 0
        """steps, as the ranks were told last"""

    def tell(self, entries: Iterable[Entry]) -> list[Sentence]:
        """What each of them is told as."""
        return [Sentence(at=entry.event.at, text=text) for entry in entries for text in self.of(entry)]

    def of(self, entry: Entry) -> Iterator[str]:
        """The sentences of the next entry."""
        yield from self._event(entry.event)
        yield from wishes.sentences(entry)
        for opened in entry.opened:
            yield _concluded(self._cases[opened.id], entry.reason)
        for action in entry.actions:
            text = describe(action)
            if text is not None and not self._again(action):
                yield text[0].upper() + text[1:] + "."
            yield from self._interval(action)
        for closed in entry.closed:
            yield from self._closed(closed, entry)
        if entry.phase is not self._phase and entry.phase in ENDED:
            yield f"The run {_ENDS[entry.phase]}: {entry.reason}."
        self._phase = entry.phase

    def _interval(self, action: a.Action) -> Iterator[str]:
        """The first one is no news, and one that is told again is none either."""
        match action:
            case a.SaveEvery(steps=steps, why=why) | a.StartWorld(save_every=steps, save_why=why):
                if self._save_every not in (0, steps):
                    yield f"Saves every {_count(steps, 'step')} now: {why}."
                self._save_every = steps
            case _:
                pass

    def _again(self, action: a.Action) -> bool:
        """Ordered before, and only repeated because nobody answered; a person may well be told twice."""
        known = action in self._ordered
        self._ordered.add(action)
        return known and not isinstance(action, a.Alert)

    def _event(self, event: e.Event) -> Iterator[str]:
        match event:
            case e.RunSubmitted():
                yield f"Submitted: {_count(event.plan.nodes, 'node')} with {_count(event.plan.ranks_per_node, 'rank')}."
            case e.SupervisorStarted(last_alive=float(alive), left=left):
                away = seconds(max(0.0, event.at - alive))
                yield f"A new supervisor took over, {away} after the last one {'left' if left else 'was known alive'}."
            case e.PolicyChanged():
                yield "The runbooks changed."
            case e.LaunchFailed():
                yield f"The scheduler refused attempt {event.attempt}: {event.why}."
            case e.CheckpointRefused():
                yield f"{event.checkpoint} was refused: {event.why}. Nothing of it reached the model."
            case e.DeviceProbed() | e.RecoveryProved():
                yield event.sentence[0].upper() + event.sentence[1:] + "."
            case e.Progressed():
                yield from self._first_step(event)
            case _:
                pass

    def _first_step(self, event: e.Progressed) -> Iterator[str]:
        world = self._course.worlds.get(event.world)
        if world is None or world.first_step_at != event.at or world.number in self._told:
            return
        self._told.add(world.number)
        took = seconds(event.at - world.ordered_at)
        yield f"World {world.number} trains {_from(world)}; its first step came {took} after the order to start it."
        for case in self._course.cases:
            if case.world == world.number and case.over_at == event.at:
                yield _recovered(case, phases.of(case, self._course))

    def _closed(self, id_: str, entry: Entry) -> Iterator[str]:
        case = self._cases.get(id_)
        if case is None or any(opened.id == id_ for opened in entry.opened):
            return  # noted and over at once
        if case.rung is Rung.OBSERVE:
            yield f"{id_} is over."
        elif case.over_at is not None and entry.phase not in ENDED:
            yield f"{id_} is over: the run is past where it struck."


_ENDS = {Phase.HELD: "is held", Phase.PAUSED: "is paused", Phase.SUCCEEDED: "is complete", Phase.STOPPED: "was stopped"}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _from(world: World) -> str:
    if world.checkpoint is not None:
        return f"from step {world.from_step} ({world.checkpoint})"
    if world.copied_in is not None:
        peer = f", {_count(world.from_peer, 'rank')} by way of another node" if world.from_peer else ""
        return f"from step {world.from_step} (what world {world.copied_in} left in memory{peer})"
    return "from the start" if world.from_step == 0 else "by its own means"


def _concluded(case: Case, reason: str) -> str:
    incident = case.incident
    drill = f" (drill: {case.drill})" if case.drill else ""
    sure = "" if incident.confidence >= 1.0 else f" (confidence {incident.confidence:.0%})"
    late = seconds(incident.at - incident.onset)
    # The reason quotes the strongest piece of evidence already.
    rest = [text for text in incident.evidence if text not in reason]
    evidence = f" Evidence: {'; '.join(rest)}." if rest else ""
    return f"{case.id}{drill}: {reason}{sure}. Concluded {late} after it began.{evidence}"


def _recovered(case: Case, spent: Phases) -> str:
    lost = "no step was lost" if not case.steps_lost else f"{_count(case.steps_lost, 'step')} to train again"
    assert spent.total is not None
    return f"{case.id} recovered in {seconds(spent.total)} ({lengths(spent)}); {lost}."
