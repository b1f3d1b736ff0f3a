"""How does one world train? All its ranks in lockstep: start, restore, step, save, end, and every way to fail at it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from math import exp, nan
from random import Random
from typing import TYPE_CHECKING

from monitors import signals as s
from monitors.catalogue.signatures import judge
from orchestrator.core.actions import StartWorld
from orchestrator.core.replacing import replace
from tests.simulation.data import Data
from tests.simulation.keepers import Keepers
from tests.simulation.knobs import Knobs
from tests.simulation.plight import DEAD, WELL, Plight
from tests.simulation.saves import Saves
from tests.simulation.timeline import Timeline
from tests.simulation.truth import Poison, Save, Truth, Violation, Weights, fed, jumped_before, merged, trained_on

if TYPE_CHECKING:
    from tests.simulation.agent import Agent

LEARNING_STEPS = 120
"""no data is poisoned before: nothing can tell a spike from a model that knows nothing yet"""
LAST_STEPS = 80
"""nor so late that the run ends before anybody could be sure"""
STILL_STARTS_S = 45.0
"""after which ranks that are still at their imports say where they are"""


class Training:
    """One world. It lives while a worker of it does."""

    def __init__(
        self, order: StartWorld, *, knobs: Knobs, timeline: Timeline, dice: Random, data: Data, truth: Truth,
        keepers: Keepers,
    ) -> None:  # fmt: skip
        self.order = order
        self.world = order.world
        self._knobs = knobs
        self._time = timeline
        self._dice = dice
        self._data = data
        self._truth = truth
        self._keepers = keepers
        self._skips = merged(order.skips)
        self._of_node = {node: knobs.of_node(node) for node in range(knobs.nodes)}
        self._agents: dict[int, Agent] = {}
        self.plights: dict[int, Plight] = {}
        self.bugs: frozenset[int] = frozenset()
        """steps at which the training code raises"""
        self.saves_fail = False
        self.stalls = False
        """it will never come to its first step"""
        self.slowness = 1.0
        """times as long as usual that steps take"""
        self.last_words = "Connection closed by peer [10.0.0.1]"
        """of those that another rank pulls down"""
        self.phase = s.Phase.STARTING
        self.weights = Weights()
        self.stop_at: int | None = None
        self.saves = Saves(order, knobs)
        self._moved_at = timeline.now()
        self._spent_s = [0.0] * len(s.PHASES)
        self._generation = 0
        self._commits = 0
        self._rows = 0
        self._took_s = 0.0

    # Where it stands

    @property
    def alive(self) -> bool:
        """A worker of it lives."""
        return any(plight is not DEAD for plight in self.plights.values())

    @property
    def well(self) -> bool:
        """It makes progress."""
        return [*self.plights.values()].count(WELL) == self._knobs.ranks

    def of_node(self, node: int) -> list[int]:
        """Living ranks of a node."""
        return [rank for rank in self._of_node[node] if self.plights.get(rank, DEAD) is not DEAD]

    def pid_of(self, rank: int) -> int:
        """Of its process."""
        return 1000 + 100 * self.world + rank

    # Starting

    def join(self, agent: Agent, order: StartWorld) -> None:
        """A node starts its workers."""
        if order != self.order:
            raise Violation(f"the nodes of world {self.world} were ordered different things: {self.order}, {order}")
        now, node = self._time.now(), agent.node
        self._agents[node] = agent
        each, ranks = self._knobs.ranks_per_node, self._knobs.of_node(node)
        self.plights |= dict.fromkeys(ranks, Plight.WELL)
        agent.ranks = [
            s.RankStarted(
                at=now, node=node, world=self.world, rank=rank, pid=self.pid_of(rank), gpu=str(rank % each),
                gpus=tuple(map(str, range(each))),
            )
            for rank in ranks
        ]  # fmt: skip
        agent.put([*agent.ranks, s.WorldStarted(at=now, node=node, world=self.world)])
        if len(self._agents) == self._knobs.nodes and not self.stalls:
            self._time.after(STILL_STARTS_S, self._still_starts)
            self._later(self._knobs.startup_s * self._dice.uniform(0.5, 1.5), self._entered)

    def _still_starts(self) -> None:
        if self.phase is s.Phase.STARTING and self.well:
            self._move(self.phase)

    def _entered(self) -> None:
        until = self._knobs.steps
        self._report(lambda rank, node, at: s.RankEntered(at=at, node=node, world=self.world, rank=rank, until=until))
        self._move(s.Phase.RESTORING)
        self._later(self._dice.uniform(1.0, self._knobs.startup_s), self._restore)

    def _restore(self) -> None:
        copied = self._keepers.newest(self.order, self._truth.saved_step(self.order))
        whole = (save for name in self.order.candidates if (save := self._whole(name)) is not None)
        found = copied[1] if copied else next(whole, None)
        if found is None and (self.order.candidates or not self.order.fresh):
            self._truth.none_whole(self.world, self.plights)
            for rank in sorted(self.plights):
                self.fail(rank, "RuntimeError", "no checkpoint could be restored")
            return
        if found is not None:
            self._truth.may_restore(found, self._skips)
            self.weights = found.weights
        self._truth.holds(self.world, self.weights.poison)
        restored, step = (found.name if found and copied is None else None), self.weights.step
        copied_in, brought = (copied[0], copied[2]) if copied else (None, frozenset[int]())
        self._report(
            lambda rank, node, at: s.RankRestored(
                at=at, node=node, world=self.world, rank=rank, checkpoint=restored, step=step, copied_in=copied_in,
                from_peer=node in brought,
            )
        )  # fmt: skip
        self._move(s.Phase.STEP)
        go_on = self._saved if copied and self._is_due(step) else self._next_step  # the save may have died half-way
        go_on()

    def _whole(self, name: str) -> Save | None:
        """The ranks read a checkpoint and compare it with its manifest."""
        save = self._truth.saves.get(name)
        if save is None and name not in self._truth.deleted:
            raise Violation(f"{name} was never committed and is a candidate of world {self.world}")
        if save is not None and not save.corrupt:
            return save
        why = "a digest differs" if save else "is missing"
        refused = s.CheckpointRefused(at=self._time.now(), node=0, checkpoint=name, why=why, rank=0)
        self._agents[0].put([refused])
        return None

    # Stepping

    def _next_step(self) -> None:
        step = self.weights.step
        if step >= self._knobs.steps or (self.stop_at is not None and step >= self.stop_at):
            self._move(s.Phase.DONE)
            self._later(1.0, self._finish)
            return
        if step + 1 in self.bugs and self.well:
            culprit = self._dice.randrange(self._knobs.ranks)
            self._truth.faults[self.world].append("bug")
            self._truth.culprits[self.world].add(culprit)
            self.fail(culprit, "ValueError", f"the batch of step {step + 1} is odd", cascade=True)
            return
        self._took_s = self._step_s()
        self._later(self._took_s, self._stepped)

    def _step_s(self) -> float:
        knobs, dice = self._knobs, self._dice
        took_s = knobs.step_s * max(0.3, dice.gauss(1.0, knobs.jitter)) if knobs.jitter else knobs.step_s
        cold = self._rows == 0  # kernels are compiled, caches filled
        slow = cold or (knobs.slow_step and dice.random() < knobs.slow_step)
        return took_s * (3.0 if slow else 1.0) * self.slowness

    def _stepped(self) -> None:
        step = self.weights.step + 1
        index = fed(self._skips, step)
        self._data.furthest = max(self._data.furthest, index)
        poison = self.weights.poison
        if poison is None and step > LEARNING_STEPS and self._data.spoils(index):
            poison = self._truth.poisoned("spike", self.world, step)
            self._truth.poison_of[self.world] = poison
        self.weights = Weights(step=step, jumped=self.weights.jumped, poison=poison)
        self._rows += 1
        self._row(step, index, poison)
        copy = self._copied()
        if not self._is_due(step):
            self._move(s.Phase.STEP)
            self._evaluate()
        elif self._knobs.stall_s:
            self._move(s.Phase.SAVE)
            self._later(self._knobs.stall_s, partial(self._saved, copy))
        else:
            self._saved(copy)

    def _row(self, step: int, index: int, poison: Poison | None) -> None:
        loss = 2.0 + 3.0 * exp(-step / 300) + 0.03 * self._data.noise(index) + self._data.glitch(index)
        if poison is not None:
            loss = nan if poison.kind == "nan" else loss + 2.0
        if self.of_node(0):
            row = s.StepReported(
                at=self._time.now(), node=0, world=self.world, rank=0, step=step, loss=loss, data_index=index,
                step_s=self._took_s,
            )  # fmt: skip
            self._agents[0].put([row])

    def _is_due(self, step: int) -> bool:
        return self.saves.is_due(step) or step in (self._knobs.steps, self.stop_at)

    def _now(self) -> Weights:
        return trained_on(self.weights.step, self._skips, self.weights.poison)

    def _copied(self) -> Weights | None:
        """Every rank holds a copy of this step, or none does: they finish a step together."""
        every = self._knobs.copy_every
        if not every or self.weights.step % every:
            return None
        self._keepers.copied(self.world, copy := self._now())
        return copy

    def _saved(self, copy: Weights | None = None) -> None:
        weights = copy or self._now()  # a durable save is made from the copy: what befalls the ranks since is not in it
        assert weights.jumped == jumped_before(self._skips, weights.step)
        name = f"step-{weights.step:08d}.a{self.order.attempt}w{self.world}"
        saved_at, fails = self._time.now(), self.saves_fail
        self._commits += 1
        self.saves.began(weights.step)
        took_s = self._knobs.commit_s * self._dice.uniform(0.5, 2.0)
        self._time.after(took_s, lambda: self._commit(Save(name=name, weights=weights), saved_at, fails))
        self._move(s.Phase.STEP)
        self._evaluate()

    def _commit(self, save: Save, saved_at: float, fails: bool) -> None:
        """The thread that writes gets done, if its process still lives."""
        self._commits -= 1
        if self.plights.get(0) is not Plight.WELL and self.plights.get(0) is not Plight.SPINNING:
            return
        at, step = self._time.now(), save.weights.step
        if fails:
            failed = s.SaveFailed(at=at, node=0, world=self.world, rank=0, step=step, why="disk full", errno=28)
            self._agents[0].put([failed])
            return
        self._truth.saves[save.name] = save
        committed = s.SaveCommitted(
            at=at, node=0, world=self.world, checkpoint=save.name, step=step, bytes=1 << 30, saved_at=saved_at,
            stall_s=self._knobs.stall_s,
        )  # fmt: skip
        self._agents[0].put([committed])

    def _evaluate(self) -> None:
        every = self._knobs.eval_every
        if not every or self.weights.step % every:
            self._next_step()
            return
        self._move(s.Phase.EVAL)
        self._later(self._knobs.step_s * self._dice.uniform(0.5, 4.0), self._evaluated)

    def _evaluated(self) -> None:
        self._move(s.Phase.STEP)
        self._next_step()

    def _finish(self) -> None:
        if self._commits:
            self._later(5.0, self._finish)
            return
        for rank in sorted(self.plights):
            self._end(rank, code=0)
        self._clear_nodes()

    # Failing

    def kill(self, rank: int, *, ordered: bool = False, number: int = 9) -> None:
        """A signal ends a rank."""
        self._end(rank, signal=number, ordered=ordered)
        if not ordered:
            self._cascade()
            self._clear_nodes()

    def fail(self, rank: int, kind: str, message: str, *, cascade: bool = False) -> None:
        """A rank raises."""
        at = self._time.now()
        said = f"{kind}: {message}"
        failure = s.Failure(kind=kind, message=message, traceback=said, raised_at=at, fingerprint=said)
        self._end(rank, code=1, failure=failure)
        if cascade:
            self._cascade()
        self._clear_nodes()

    def says(self, rank: int, text: str) -> None:
        """A rank writes a line that the catalogue knows."""
        found, node = judge(text), rank // self._knobs.ranks_per_node
        if found is None or self.plights.get(rank, Plight.DEAD) is Plight.DEAD:
            return
        said = s.RankSaid(
            at=self._time.now(), node=node, world=self.world, rank=rank, fault=found.fault, role=found.role,
            retryable=bool(found.retryable), text=text, step=self.weights.step,
        )  # fmt: skip
        self._agents[node].put([said])

    def hang(self, rank: int, plight: Plight) -> None:
        """A rank stands still, and soon everybody with it."""
        if self.plights.get(rank) is Plight.WELL:
            self.plights[rank] = plight

    def spoil(self) -> None:
        """A bit flips in a weight: NaN from the next step on."""
        if self.weights.poison is None:
            poison = self._truth.poisoned("nan", self.world, self.weights.step + 1)
            self._truth.poison_of[self.world] = poison
            self.weights = replace(self.weights, poison=poison)

    def end_node(self, node: int, *, silently: bool = False) -> None:
        """Every worker of a node is killed, on an order or with its agent."""
        for rank in self.of_node(node):
            if silently:
                self.plights[rank] = Plight.DEAD
            else:
                self.kill(rank, ordered=True)

    def _cascade(self) -> None:
        """Half of all survivors notice and raise, the others wait for ever."""
        if self._dice.random() < 0.5:
            self._time.after(self._dice.uniform(0.05, 20.0), self._victims)

    def _victims(self) -> None:
        for rank, plight in sorted(self.plights.items()):
            if plight is Plight.WELL:
                self.fail(rank, "RuntimeError", self.last_words)

    def _end(
        self, rank: int, *, code: int | None = None, signal: int | None = None, failure: s.Failure | None = None,
        ordered: bool = False,
    ) -> None:  # fmt: skip
        if self.plights.get(rank, Plight.DEAD) is Plight.DEAD:
            return
        self.plights[rank] = Plight.DEAD
        node = rank // self._knobs.ranks_per_node
        exited = s.RankExited(
            at=self._time.now(), node=node, world=self.world, rank=rank, code=code, signal=signal,
            step=self.weights.step, failure=failure, ordered=ordered,
        )  # fmt: skip
        self._agents[node].put([exited])

    def _clear_nodes(self) -> None:
        for node, agent in sorted(self._agents.items()):
            if not self.of_node(node):
                agent.world_empty(self)

    # Speaking

    def _move(self, phase: s.Phase) -> None:
        now = self._time.now()
        self._spent_s[s.PHASES.index(self.phase)] += now - self._moved_at
        self.phase, self._moved_at = phase, now
        spent_s, step, world = tuple(self._spent_s), self.weights.step, self.world
        for node, agent in self._agents.items():
            agent.put([
                s.RankProgress(
                    at=now, node=node, world=world, rank=rank, step=step, phase=phase, moved_at=now, spent_s=spent_s,
                    speaks=True,
                )
                for rank in self.of_node(node)
            ])  # fmt: skip

    def _report(self, make: Callable[[int, int, float], s.Signal]) -> None:
        now = self._time.now()
        for node, agent in self._agents.items():
            agent.put([make(rank, node, now) for rank in self.of_node(node)])

    def looked(self, node: int, ranks: Iterable[int]) -> list[s.Signal]:
        """What the kernel says of ranks of a node."""
        letters = {Plight.WELL: "S", Plight.STOPPED: "T", Plight.SPINNING: "R", Plight.BLOCKED: "D"}
        at = self._time.now()
        return [
            s.ProcessLooked(at=at, node=node, world=self.world, rank=r, state=letters[self.plights[r]], cpu_s=at % 1e5)
            for r in self.of_node(node)
            if not ranks or r in ranks
        ]

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Go on later, if nothing happened to any rank until then."""
        generation = self._generation = self._generation + 1

        def go_on() -> None:
            if self.well and generation == self._generation:
                call()

        self._time.after(delay_s, go_on)
