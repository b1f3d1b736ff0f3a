"""What do people and budgets ask of the run, and when? Pauses, restarts, cordons, pins and words, from the seed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from orchestrator.core import events as e
from orchestrator.core.asked import POWER_BUDGET
from orchestrator.core.state import Phase, State
from tests.simulation.cluster import Cluster
from tests.simulation.knobs import DAY_S, Knobs
from tests.simulation.office import Office
from tests.simulation.timeline import Timeline

HOUR_S = 3600.0
BUSY = frozenset({Phase.LAUNCHING, Phase.STARTING, Phase.STOPPING_WORLD, Phase.BACKING_OFF, Phase.RELAUNCHING})
"""when people who are called look, and lose their patience"""


class People:
    """Ask until they are told to stop."""

    def __init__(self, knobs: Knobs, timeline: Timeline, cluster: Cluster, office: Office) -> None:
        self._knobs = knobs
        self._time = timeline
        self._cluster = cluster
        self._office = office
        self._dice = Random(f"people {knobs.seed}")
        self._on = True
        self._impatient: list[Callable[[State], None]] = []

    def begin(self) -> None:
        """Set the first time of everything that is asked."""
        for name, rate in sorted(self._knobs.people.items()):
            self._plan(getattr(self, name), rate)

    def stop(self) -> None:
        """Nobody asks for anything any more, but that hosts are let back in."""
        self._on = False
        state = self._office.state
        for cordon in state.cordons if state is not None else ():
            self._office.take(e.HostCordoned(at=self._time.now(), by="eve", host=cordon.host, cordoned=False))

    def _plan(self, ask: Callable[[State], None], rate: float) -> None:
        def due() -> None:
            if not self._on:
                return
            if self._dice.random() < 0.5:
                self._impatient.append(ask)
            else:
                self._ask(ask)
            self._plan(ask, rate)

        self._time.after(self._dice.expovariate(rate / DAY_S), due)

    def _ask(self, ask: Callable[[State], None]) -> None:
        if self._on and (state := self._office.state) is not None:
            ask(state)

    def care(self) -> None:
        """Something was decided: whoever waits for the run to be in trouble asks now."""
        state = self._office.state
        if self._impatient and state is not None and state.phase in BUSY:
            for ask in self._impatient:
                self._time.after(self._dice.uniform(0.0, 30.0), partial(self._ask, ask))
            self._impatient.clear()

    def pause_run(self, state: State) -> None:  # noqa: ARG002
        """A person pauses the run, or the budget does; the budget soon wants it to go on, whoever paused it."""
        by = self._dice.choice(("ada", POWER_BUDGET))
        self._office.take(e.PauseRequested(at=self._time.now(), by=by, why="the hall is hot"))
        self._time.after(self._dice.uniform(0.0, 2.0) * HOUR_S, self._back)

    def _back(self) -> None:
        if self._on:
            self._office.take(e.ResumeRequested(at=self._time.now(), by=POWER_BUDGET))

    def restart_run(self, state: State) -> None:
        """A person wants a new world, perhaps without a node, as long as another host is there for it."""
        node = self._dice.choice((None, self._dice.randrange(self._knobs.nodes)))
        without = node if len(state.cordons) < self._knobs.spare_hosts else None
        self._office.take(e.RestartRequested(at=self._time.now(), by="ada", without=without))

    def cordon_host(self, state: State) -> None:
        """A person keeps a host out, or lets one in."""
        hosts = [cordon.host for cordon in state.cordons]
        if hosts and (self._dice.random() < 0.5 or len(hosts) >= self._knobs.spare_hosts):
            host, cordoned = self._dice.choice(hosts), False
        else:
            host, cordoned = self._dice.choice(self._cluster.hosts), True
        if self._knobs.spare_hosts:
            self._office.take(e.HostCordoned(at=self._time.now(), by="ada", host=host, cordoned=cordoned))

    def pin_save(self, state: State) -> None:
        """A person wants a checkpoint kept, or no longer."""
        if state.checkpoints:
            save = self._dice.choice(state.checkpoints)
            at = self._time.now()
            self._office.take(e.CheckpointPinned(at=at, by="ada", checkpoint=save.name, pinned=not save.pinned))

    def remark(self, state: State) -> None:
        """A person says something about an incident, which may never have been."""
        at, incident = self._time.now(), f"i{self._dice.randint(1, state.incidents + 1)}"
        said = (
            e.IncidentAcknowledged(at=at, by="ada", incident=incident),
            e.IncidentNoted(at=at, by="ada", incident=incident, text="the fan"),
            e.IncidentJudged(at=at, by="ada", incident=incident, right=True),
            e.IncidentResolved(at=at, by="ada", incident=incident),
        )
        self._office.take(self._dice.choice(said))


def goes_on(state: State, dice: Random) -> str:
    """Who lets a run go on that waits."""
    budget = state.phase is Phase.PAUSED and state.paused_by == POWER_BUDGET
    return dice.choice(("a person", POWER_BUDGET)) if budget else "a person"
