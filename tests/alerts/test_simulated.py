"""Is each incident of a simulated run one thread, and a page what the policy pages for? In any order of events, too."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitors.incidents import Incident, Kind, Subject
from orchestrator.alerts.companion import heard
from orchestrator.alerts.desk import Adopted, decide
from orchestrator.alerts.message import Message
from orchestrator.alerts.surroundings import Looked
from orchestrator.alerts.threads import State
from orchestrator.core import events as e
from orchestrator.core.actions import Alert
from orchestrator.core.policy import Rung, Severity
from orchestrator.core.state import ENDED, Opened, Phase
from orchestrator.journal import Entry
from tests.alerts.watched import ALL, GUIDES, PAGER, TEAM, Watched, check, rules
from tests.simulation.knobs import Profile, drawn
from tests.simulation.office import RUN
from tests.simulation.simulation import POLICY, Simulation

WORDS = frozenset({"held", "needs_a_look", "restarts_nearly_spent", "budget_spent", "budget_nearly_spent"})


def simulated(seed: int, profile: Profile | None, days: float) -> list[Entry]:
    """The journal of a seed."""
    simulation = Simulation(drawn(seed, days, profile))
    simulation.run()
    return [
        Entry(
            id=number,
            event=entry.event,
            phase=entry.decision.state.phase,
            reason=entry.decision.reason,
            actions=entry.decision.actions,
            opened=entry.decision.opened,
            closed=entry.decision.closed,
        )
        for number, entry in enumerate(simulation.office.journal.entries, 1)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_a_run_that_nothing_happens_to_is_no_thread(seed: int) -> None:
    desk = Watched(every_s=600).hear(RUN, simulated(seed, Profile.HEALTHY, 2.0)).wait(7200)
    assert desk.to(PAGER) == desk.to(TEAM) == []
    assert {message.kind for message in desk.to(ALL)} == {"run_started", "run_succeeded"}


@pytest.mark.parametrize("profile", [Profile.BENIGN, Profile.ROUGH, Profile.HARDWARE])
@pytest.mark.parametrize("seed", range(3))
def test_each_incident_is_one_thread_and_a_page_is_what_the_policy_pages_for(seed: int, profile: Profile) -> None:
    entries = simulated(seed, profile, 2.0)
    desk = Watched(rules(page_s=1e9), every_s=300).hear(RUN, entries).wait(7200)
    check(desk.told, ended=entries[-1].phase in ENDED - {Phase.HELD})
    incidents = {o.id: o for entry in entries for o in entry.opened}
    assert set(incidents) == {id_ for _, id_ in desk.joined if id_.startswith("i")}
    silent = {key for (_, id_), key in desk.joined.items() if id_ in incidents} - set(desk.threads(ALL))
    assert all(incidents[key.split("/")[2]].incident.subject.node is not None for key in silent), "inhibited, or lost"
    alerts = [a for entry in entries for a in entry.actions if isinstance(a, Alert) and a.page]
    paged = {desk.joined[RUN, a.incident] for a in alerts if a.incident}
    others = [thread for thread in desk.threads(PAGER) if thread.split("/")[-1].partition(":")[0] in WORDS]
    assert set(desk.threads(PAGER)) - set(others) == paged
    assert bool(others) >= any(a.incident is None for a in alerts)


KINDS = st.sampled_from(list(Kind))
STEP = st.one_of(
    st.tuples(st.just("open"), KINDS, st.booleans(), st.integers(0, 2)),
    st.tuples(st.just("close"), st.integers(0, 9)),
    st.tuples(st.just("page"), st.integers(0, 9)),
    st.tuples(st.just("acknowledge"), st.integers(0, 9)),
    st.tuples(st.just("progress"), st.integers(1, 50)),
    st.tuples(st.just("phase"), st.sampled_from(list(Phase))),
    st.tuples(st.just("look"), st.floats(0, 20_000), st.booleans(), st.booleans()),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, max_size=40), st.booleans())
def test_whatever_order_things_come_in_threads_are_opened_before_they_end_and_numbered(
    steps: list[tuple[Any, ...]], by_run: bool
) -> None:
    world = _World(by_run)
    for name, *values in steps:
        getattr(world, name)(*values)
    world.look(100_000.0, False, False)
    check(world.told)
    assert {message.thread for message in world.told} <= world.keys
    world.phase(Phase.SUCCEEDED)
    world.look(100_000.0, False, False)
    check(world.told, ended=True)
    assert world.state.threads == {}, "a run that is over leaves nothing behind"
    assert {t for (_, t) in world.paged} <= {m.thread for m in world.told if m.channel == PAGER}, "a page was lost"


class _World:
    """Entries of a run in any order, however unlikely."""

    def __init__(self, by_run: bool) -> None:
        self.rules = rules(by_run=by_run)
        self.state = State()
        self.at = 1000.0
        self.opened: list[str] = []
        self.told: list[Message] = []
        self.keys: set[str] = set()
        self.paged: set[tuple[str, str]] = set()
        self._phase = Phase.TRAINING
        self._world = 1
        self._hear(e.RunSubmitted(at=self.at, run="r", plan=e.Plan(), policy=POLICY))

    def _hear(self, event: e.Event, **parts: Any) -> None:
        entry = Entry(id=1, event=event, phase=self._phase, **parts)
        self.state, messages = decide(self.state, heard(RUN, entry, GUIDES), self.rules)
        assert messages == ()
        self.keys |= set(self.state.threads)

    def open(self, kind: Kind, observed: bool, node: int) -> None:
        if self._phase in ENDED:
            return  # what comes then is noted, and opens nothing
        id_ = f"i{len(self.opened) + 1}"
        incident = Incident(kind=kind, at=self.at, onset=self.at, world=self._world, subject=Subject(node=node))
        self.opened.append(id_)
        rung = Rung.OBSERVE if observed else Rung.RESTART
        opened = Opened(id=id_, incident=incident, rung=rung)
        self._hear(e.IncidentDetected(at=self.at, incident=incident), opened=(opened,))

    def _some(self, number: int) -> str:
        return self.opened[number % len(self.opened)] if self.opened else "i99"

    def close(self, number: int) -> None:
        self._hear(e.TimePassed(at=self.at), closed=(self._some(number),))

    def page(self, number: int) -> None:
        id_ = self._some(number)
        alert = Alert(severity=Severity.CRITICAL, title="r needs a look", text="x", incident=id_, page=True)
        self._hear(e.TimePassed(at=self.at), actions=(alert,))
        course = self.state.courses[RUN]
        if (trouble := course.troubles.get(id_)) is not None and trouble.over_at is None:
            key = next(key for key, thread in self.state.threads.items() if (RUN, id_) in thread.members)
            self.paged.add((PAGER, key))

    def acknowledge(self, number: int) -> None:
        self._hear(e.IncidentAcknowledged(at=self.at, by="ada", incident=self._some(number)))

    def progress(self, steps: int) -> None:
        self._world += 1
        self._hear(e.Progressed(at=self.at, world=self._world, step=steps))

    def phase(self, phase: Phase) -> None:
        if self._phase is not Phase.SUCCEEDED:  # for good
            self._phase = phase
        self._hear(e.TimePassed(at=self.at))

    def look(self, seconds: float, quiet: bool, lost: bool) -> None:
        self.at += seconds
        alive_at = self.at - 1000 if lost else self.at
        seen = Looked(at=self.at, quiet=quiet, alive_at=alive_at)
        self.state, messages = decide(self.state, seen, self.rules)
        self.keys |= set(self.state.threads) | {message.thread for message in messages}
        self.told += messages
        assert decide(self.state, seen, self.rules) == (self.state, ()), "told twice"


def test_a_run_that_was_under_way_is_known_with_what_stands() -> None:
    entries = simulated(1, Profile.ROUGH, 1.0)
    assert entries
    simulation = Simulation(drawn(1, 1.0, Profile.ROUGH))
    simulation.run()
    for entry in simulation.office.journal.entries[::50]:
        run = entry.decision.state
        state, messages = decide(State(), Adopted(at=run.now, state=run, hosts={0: "host0"}), rules())
        assert messages == ()
        state, _ = decide(state, Looked(at=run.now + 60), rules())
        answered = {o.id for o in run.open} if run.phase is not Phase.PAUSED else set()
        assert answered <= {trouble for _, trouble in _members(state)}


def _members(state: State) -> set[tuple[str, str]]:
    return {(run, id_) for run, course in state.courses.items() for id_ in course.troubles}
