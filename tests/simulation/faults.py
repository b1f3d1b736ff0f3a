"""What goes wrong, and when? Faults at random times, from the seed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from orchestrator.core import events as e
from orchestrator.core.state import Phase
from tests.simulation.agent import Agent
from tests.simulation.budgets import more, watts_of
from tests.simulation.cluster import Cluster
from tests.simulation.knobs import DAY_S, Knobs
from tests.simulation.office import Office
from tests.simulation.people import goes_on
from tests.simulation.plight import Plight
from tests.simulation.timeline import Timeline
from tests.simulation.training import LAST_STEPS, LEARNING_STEPS, Training

HOUR_S = 3600.0


class Faults:
    """Injects until it is told to stop."""

    def __init__(self, knobs: Knobs, timeline: Timeline, cluster: Cluster, office: Office) -> None:
        self._knobs = knobs
        self._time = timeline
        self._cluster = cluster
        self._office = office
        self._dice = Random(f"faults {knobs.seed}")
        self._keeper_dice = Random(f"keepers' faults {knobs.seed}")
        self._purse = Random(f"purse {knobs.seed}")
        self._on = True
        self._resume_planned = False

    def begin(self) -> None:
        """Poison the data, break the code, and set the first time of every fault."""
        self._poison()
        steps = range(2, self._knobs.steps)
        self._cluster.bugs = frozenset(self._dice.sample(steps, self._knobs.bug_steps))
        for name, rate in sorted(self._knobs.rates.items()):
            self._plan(getattr(self, name), rate)
        if self._knobs.power_changes:
            self._plan(self.change_power, self._knobs.power_changes)

    def stop(self) -> None:
        """From now on nothing fails, and what failed by itself is mended."""
        self._on = False
        cluster = self._cluster
        cluster.failing = False
        self._mend_data_and_code()
        self._save_again()
        self._office.journal.crash_in = None
        for agent in cluster.agents():
            self._find_link(agent)()
        self._office.start()
        if self._knobs.power_changes:
            self._office.take(e.PowerBudgetChanged(at=self._time.now(), by="a person", watts=None))

    def _poison(self) -> None:
        knobs, dice = self._knobs, self._dice
        windows = []
        index = LEARNING_STEPS
        while knobs.poison_every:
            index += int(dice.expovariate(1 / knobs.poison_every)) + 40
            if index > knobs.steps - LAST_STEPS:
                break
            end = index + dice.choice((1, 3, 12, 40))
            windows.append((index, end))
            index = end
        self._cluster.data.poisoned = tuple(windows)

    def _plan(self, inject: Callable[[], None], rate: float) -> None:
        def strike() -> None:
            if self._on:
                inject()
                self._plan(inject, rate)

        self._time.after(self._dice.expovariate(rate / DAY_S), strike)

    # Faults that end a world

    def kill_rank(self) -> None:
        """SIGKILL, or a crash in native code."""
        training = self._cluster.current()
        if training is not None:
            self._cluster.truth.faults[training.world].append("killed")
            training.kill(self._culprit(training), number=self._dice.choice((9, 11)))

    def raise_in_rank(self) -> None:
        """An exception that will not come back at the same place."""
        training = self._cluster.current()
        if training is not None:
            self._cluster.truth.faults[training.world].append("raised")
            number = self._dice.randrange(10**9)
            training.fail(self._culprit(training), f"OSError{number}", "stale file handle", cascade=True)

    def hang_rank(self) -> None:
        """A rank stands still."""
        training = self._cluster.current()
        if training is not None:
            self._cluster.truth.faults[training.world].append("hung")
            plight = self._dice.choice((Plight.STOPPED, Plight.SPINNING))
            training.hang(self._culprit(training), plight)

    def _culprit(self, training: Training) -> int:
        rank = self._dice.randrange(self._knobs.ranks)
        self._cluster.truth.culprits[training.world].add(rank)
        return rank

    def flip_bit(self) -> None:
        """NaN in the weights."""
        training = self._cluster.current()
        if training is not None and training.weights.step < self._knobs.steps - LAST_STEPS:
            training.spoil()

    def kill_agent(self) -> None:
        """An agent dies, or its node."""
        agents = self._cluster.agents()
        if agents:
            with_node = self._keeper_dice.random() < 0.5
            self._cluster.agent_died(self._dice.choice(agents), with_node=with_node)

    def end_attempt(self) -> None:
        """The scheduler takes the machines away."""
        state = self._office.state
        attempt = self._cluster.attempts.get(state.attempt) if state is not None else None
        if attempt is None or not any(agent.alive for agent in attempt.agents):
            return
        for agent in list(attempt.agents):
            if agent.alive:
                self._cluster.agent_died(agent)
        self._office.take(e.AttemptEnded(at=self._time.now(), attempt=attempt.number, why="preempted"))

    # Faults that a run lives with

    def crash_supervisor(self) -> None:
        """At one of its next writes to the journal."""
        self._office.journal.crash_in = self._dice.randrange(6)

    def lose_link(self) -> None:
        """A node trains on and is not heard."""
        agents = self._cluster.agents()
        if not agents:
            return
        agent = self._dice.choice(agents)
        agent.link_lost = True
        agent.hang_up()
        away_s = self._dice.choice((5.0, 300.0, 3000.0)) * self._dice.uniform(0.3, 1.0)
        self._time.after(away_s, self._find_link(agent))
        self._cluster.truth.link_lost(agent.attempt)

    def _find_link(self, agent: Agent) -> Callable[[], None]:
        def found() -> None:
            agent.link_lost = False
            agent.dial()

        return found

    def transient(self) -> None:
        """An odd batch or three."""
        training = self._cluster.current()
        glitches = self._cluster.data.glitches
        if training is None or glitches is None or training.weights.step < LEARNING_STEPS:
            return
        # Ahead of every world: a batch that was fed already is what it is.
        index = self._cluster.data.furthest + 3
        for offset in range(self._dice.choice((1, 1, 3))):
            glitches[index + offset] = self._dice.uniform(0.5, 3.0)

    def corrupt_save(self) -> None:
        """A bit flips on disk."""
        saves = sorted(self._cluster.truth.saves)
        if saves:
            self._cluster.truth.saves[self._dice.choice(saves[-3:])].corrupt = True

    def fail_saves(self) -> None:
        """The disk is full for some hours."""
        self._set_saves_fail(True)
        self._time.after(self._dice.uniform(0.1, 3.0) * HOUR_S, self._save_again)

    def _save_again(self) -> None:
        self._set_saves_fail(False)

    def _set_saves_fail(self, fail: bool) -> None:
        self._cluster.saves_fail = fail
        for training in self._cluster.trainings.values():
            training.saves_fail = fail

    # People

    def stop_run(self) -> None:
        """Somebody stops the run, and later lets it go on."""
        at, now = self._time.now(), self._dice.random() < 0.3
        self._office.take(e.StopRequested(at=at, by="a person", now=now))

    def change_power(self) -> None:
        """Somebody lets the run draw more power, or less."""
        watts = watts_of(self._knobs, self._purse)
        self._office.take(e.PowerBudgetChanged(at=self._time.now(), by="a person", watts=watts))

    def care(self) -> None:
        """Somebody looks at a run that waits, mends what is broken for good, and lets it go on."""
        state = self._office.state
        waits = state is not None and state.phase in (Phase.HELD, Phase.STOPPED, Phase.PAUSED)
        if not self._on or not waits or self._resume_planned:
            return
        self._resume_planned = True
        self._time.after(self._dice.uniform(0.2, 6.0) * HOUR_S, self._resume)

    def _resume(self) -> None:
        self._resume_planned = False
        state = self._office.state
        if not self._on or state is None:
            return
        if state.phase is Phase.HELD:
            self._mend_data_and_code()
        if state.out_of and self._purse.random() < 0.7:  # else it is asked for in vain, and again later
            self._office.take(e.BudgetChanged(at=self._time.now(), by="a person", limits=more(state)))
        from_step = self._dice.choice((None, None, state.best_step * 2 // 3))
        by = goes_on(state, self._dice)
        from_step = from_step if by == "a person" else None
        self._office.take(e.ResumeRequested(at=self._time.now(), by=by, from_step=from_step))

    def _mend_data_and_code(self) -> None:
        self._cluster.bugs = frozenset()
        self._cluster.data.poisoned = ()
        for training in self._cluster.trainings.values():
            training.bugs = frozenset()
