"""What runs where? Attempts, agents and the world they train in; the `Scheduler` and `Agents` and `Storage` ports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from monitors.detect.probes import ProbeWanted
from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.ports import Answer
from tests.simulation.agent import Agent
from tests.simulation.data import Data
from tests.simulation.keepers import Keepers
from tests.simulation.knobs import Knobs
from tests.simulation.machines import Machine
from tests.simulation.plight import Plight
from tests.simulation.timeline import Timeline
from tests.simulation.training import Training
from tests.simulation.truth import Truth

if TYPE_CHECKING:
    from tests.simulation.office import Office

WIRE_S = 0.01
DEATH_SEEN_S = 20.0
"""until a second witness of an agent's death is found"""


@dataclass(slots=True)
class Attempt:
    """One submission."""

    number: int
    agents: list[Agent] = field(default_factory=list)
    launched: bool = False
    over: bool = False


class Cluster:
    """The machines."""

    office: Office
    began: Callable[[Training], None]
    """told of every new world"""

    def __init__(self, knobs: Knobs, timeline: Timeline, truth: Truth) -> None:
        self.knobs = knobs
        self.time = timeline
        self.truth = truth
        self.keepers = Keepers(knobs)
        self.dice = Random(f"cluster {knobs.seed}")
        self.data = Data(seed=knobs.seed, glitches={})
        self.bugs: frozenset[int] = frozenset()
        self.saves_fail = False
        self.failing = True
        """the safety phase: chances of failure count"""
        self.hardware_dice = Random(f"senses {knobs.seed}")
        gpus = knobs.ranks_per_node + knobs.idle_gpus
        self.machines = {node: Machine.built(node, gpus) for node in range(knobs.nodes)}
        off_s, node = knobs.clock_off_s, self.hardware_dice.randrange(knobs.nodes)
        self.clocks_off_s = {node: self.hardware_dice.uniform(-off_s, off_s)} if off_s else {}
        self.hosts = [f"host{number}" for number in range(knobs.nodes + knobs.spare_hosts)]
        self._places = dict(enumerate(self.hosts[: knobs.nodes]))
        """node → host, of the newest attempt"""
        self._host_dice = Random(f"hosts {knobs.seed}")
        self.attempts: dict[int, Attempt] = {}
        self.trainings: dict[int, Training] = {}

    def chance(self, of: float) -> bool:
        """Something that may fail does."""
        return self.failing and of > 0.0 and self.dice.random() < of

    def agents(self) -> list[Agent]:
        """Living ones."""
        return [agent for attempt in self.attempts.values() for agent in attempt.agents if agent.alive]

    def living_worlds(self) -> set[int]:
        """Worlds of which a worker lives."""
        self.trainings = {number: t for number, t in self.trainings.items() if t.alive or not t.plights}
        return {number for number, training in self.trainings.items() if training.alive}

    def current(self) -> Training | None:
        """The world that trains, if it is well."""
        return next((t for t in self.trainings.values() if t.well and t.phase not in ("starting", "restoring")), None)

    def training_of(self, order: a.StartWorld) -> Training:
        """The world of an order; the first node that starts it makes it."""
        if order.world not in self.trainings:
            training = Training(
                order, knobs=self.knobs, timeline=self.time, dice=self.dice, data=self.data, truth=self.truth,
                keepers=self.keepers,
            )  # fmt: skip
            training.bugs = self.bugs
            training.saves_fail = self.saves_fail
            if self.chance(self.knobs.start_stalls):
                training.stalls = True
                self.truth.faults[order.world].append("start stalls")
            self.trainings[order.world] = training
            self.began(training)
        return self.trainings[order.world]

    # Scheduler

    def launch(self, order: a.Launch, answer: Answer) -> None:
        """Submit; safe to ask twice."""
        number = order.attempt
        attempt = self.attempts.get(number)
        if attempt is None:
            attempt = self.attempts[number] = Attempt(number)
            self._submit(attempt, order, answer)
        elif attempt.launched:
            self.time.after(1.0, lambda: answer(e.Launched(at=self.time.now(), attempt=number, handle=f"sim.{number}")))
        else:
            self._submit(attempt, order, answer)

    def host_of(self, agent: Agent) -> str:
        """Where an agent runs."""
        return self.truth.hosts[agent.attempt][agent.node]

    def _place(self, attempt: Attempt, exclude: tuple[str, ...]) -> None:
        """Give each node a host: the one it had, unless that must not be given, and then any that is free."""
        if self.failing and self._host_dice.random() < self.knobs.ignores_exclude:
            exclude = ()
            self.truth.attempt_faults[attempt.number].append("gave what it was told not to")
        for node, host in self._places.items():
            if host in exclude:
                free = [other for other in self.hosts if other not in (*exclude, *self._places.values())]
                assert free, f"people cordon no more hosts than there are to spare: {exclude}"
                self._places[node] = free[0]
                self.machines[node].replace()
                self.keepers.lost(node)
        self.truth.hosts[attempt.number] = dict(self._places)

    def _submit(self, attempt: Attempt, order: a.Launch, answer: Answer) -> None:
        number, faults = attempt.number, self.truth.attempt_faults[attempt.number]
        delay_s = self.dice.uniform(1.0, 20.0)
        if self.chance(self.knobs.launch_slow):
            delay_s = self.dice.uniform(60.0, 400.0)
            faults.append("slow launch")
        if self.chance(self.knobs.launch_fails):
            faults.append("refused")
            why = "no such partition"
            self.time.after(delay_s, lambda: answer(e.LaunchFailed(at=self.time.now(), attempt=number, why=why)))
            return

        def started() -> None:
            if attempt.launched:
                return
            attempt.launched = True
            self._place(attempt, order.exclude)
            answer(e.Launched(at=self.time.now(), attempt=number, handle=f"sim.{number}"))
            self._start_agents(attempt)

        self.time.after(delay_s, started)

    def _start_agents(self, attempt: Attempt) -> None:
        for node in range(self.knobs.nodes):
            if self.chance(self.knobs.launch_loses_agent):
                self.truth.attempt_faults[attempt.number].append("agent lost at launch")
                continue
            agent = Agent(self, attempt.number, node)
            attempt.agents.append(agent)
            self.time.after(self.dice.uniform(0.5, 10.0), self._first_dial(agent))

    def _first_dial(self, agent: Agent) -> Callable[[], None]:
        def dial() -> None:
            agent.dial()
            agent.senses.begin()
            agent.beat()

        return dial

    def end_attempt(self, order: a.EndAttempt, answer: Answer) -> None:
        """End every process; answers only when none is left."""
        if self.chance(self.knobs.end_ignored):
            return
        self.time.after(self.dice.uniform(0.5, 10.0) + order.grace_s, lambda: self._end(order, answer))

    def _end(self, order: a.EndAttempt, answer: Answer) -> None:
        number = order.attempt
        attempt = self.attempts.setdefault(number, Attempt(number))
        attempt.over = True
        for agent in attempt.agents:
            agent.end()
        attempt.agents.clear()
        self.keepers.ended(relaunch=order.relaunch)
        for machine in self.machines.values():
            self._mended(machine)
        answer(e.AttemptEnded(at=self.time.now(), attempt=number))

    def _mended(self, machine: Machine) -> None:
        """A new attempt gets another node, or one that was reset; or the same again."""
        if machine.well or self._stays(machine):
            return
        if self.hardware_dice.random() < 0.5:
            machine.reset()
        else:
            machine.replace()
            self.keepers.lost(machine.node)

    def _stays(self, machine: Machine) -> bool:
        return self.failing and not machine.dead_mounts and self.hardware_dice.random() < self.knobs.stays_broken

    def leave(self, agent: Agent) -> None:
        """An agent that nobody wants ends its workers and itself."""
        self.truth.attempt_faults[agent.attempt].append("refused")
        self.time.after(1.0, agent.end)

    def agent_died(self, agent: Agent, *, found_s: float = DEATH_SEEN_S, with_node: bool = False) -> None:
        """Nobody is told until a second witness is found."""
        if with_node:
            self.keepers.lost(agent.node)
        self.truth.attempt_faults[agent.attempt].append("agent died")
        if agent.training is not None:
            self.truth.faults[agent.training.world].append("agent died")
        agent.end()
        self._look_for(agent, found_s)

    def _look_for(self, agent: Agent, found_s: float) -> None:
        def look() -> None:
            if not self.office.find_dead(agent):
                self._look_for(agent, DEATH_SEEN_S)

        self.time.after(found_s, look)

    # Agents

    def start_world(self, order: a.StartWorld) -> None:
        """To every node that is connected."""
        self._tell(order.attempt, order.world, lambda agent: agent.start_world(order))

    def stop_world(self, order: a.StopWorld) -> None:
        """To every node that is connected; some processes do not end when told to."""

        def tell(agent: Agent) -> None:
            if not self.chance(self.knobs.stop_ignored):
                agent.stop_world(order)

        self._tell(order.attempt, order.world, tell)

    def save_every(self, order: a.SaveEvery) -> None:
        """To every node that is connected."""
        self._tell(order.attempt, order.world, lambda agent: agent.save_every(order))

    def stop_after_step(self, order: a.StopAfterStep) -> None:
        """To every node that is connected."""
        self._tell(order.attempt, order.world, lambda agent: agent.stop_after_step(order))

    def cap_power(self, order: a.CapPower) -> None:
        """Every node that is connected answers: it has the right, or has not."""
        for agent in self.agents():
            if agent.attempt == order.attempt and agent.connected:
                self.time.after(WIRE_S, _late(agent, lambda agent: agent.cap_power(order.watts)))

    def inject(self, order: a.InjectFault) -> None:
        """A drill."""
        training = self.trainings.get(order.world)
        if training is not None and training.well:
            self.truth.faults[order.world].append("drill")
            self.time.after(WIRE_S, lambda: training.hang(order.rank, Plight.STOPPED))

    def look(self, world: int, ranks: tuple[int, ...]) -> None:
        """To every node that is connected."""
        for agent in self.agents():
            if agent.connected:
                self.time.after(WIRE_S, _late(agent, lambda agent: agent.look(world, ranks)))

    def probe(self, wanted: ProbeWanted) -> None:
        """To the node of the device."""
        for agent in self.agents():
            if agent.connected and agent.node == wanted.node:
                self.time.after(WIRE_S, _late(agent, lambda agent: agent.probe(wanted)))

    def _tell(self, attempt: int, world: int, tell: Callable[[Agent], None]) -> None:
        for agent in self.agents():
            if agent.attempt != attempt or not agent.connected:
                continue
            if self.chance(self.knobs.order_lost):
                self.truth.faults[world].append("order lost")
                continue
            self.time.after(WIRE_S, _late(agent, tell))

    # Storage

    def verify(self, order: a.VerifyCheckpoint, answer: Answer) -> None:
        """Read it back."""
        name = order.checkpoint

        def read() -> None:
            at = self.time.now()
            save = self.truth.saves.get(name)
            if save is None or save.corrupt:
                answer(e.CheckpointRefused(at=at, checkpoint=name, why="a digest differs" if save else "is missing"))
            else:
                save.verified = True
                answer(e.CheckpointVerified(at=at, checkpoint=name))

        self.time.after(self.knobs.verify_s * self.dice.uniform(0.5, 1.5), read)

    def delete(self, order: a.DeleteCheckpoint, answer: Answer) -> None:
        """Remove it."""
        name = order.checkpoint

        def remove() -> None:
            self.truth.may_delete(name)
            if self.truth.saves.pop(name, None) is not None:
                self.truth.deleted.add(name)
            answer(e.CheckpointDeleted(at=self.time.now(), checkpoint=name))

        self.time.after(self.dice.uniform(0.1, 30.0), remove)


def _late(agent: Agent, tell: Callable[[Agent], None]) -> Callable[[], None]:
    return lambda: tell(agent) if agent.connected else None
