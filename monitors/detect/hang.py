"""Has the world stopped moving, and who holds it up?

When one rank stands still, soon everybody waits for it, so silence alone names nobody. Four facts do: whom the kernel
calls stopped, who never came to the collective in which the others wait, who is furthest behind, and who burns the CPU
while the others sleep. `culprit.py` weighs them; here is what is known of each rank, and when it is enough.

A rank is silent only as far as its agent looked: an agent that is not heard, or that was itself paused, proves
nothing. Looks are signals, so every verdict falls when one arrives and none by the clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from monitors.detect.culprit import Standing, Verdict, named
from monitors.detect.limits import FIRST_STEP, STARTS, Limits, LimitsConfig
from monitors.incidents import Incident, Kind, Subject
from monitors.signals import (
    PHASES,
    SEEN_EVERY_S,
    CollectivesLooked,
    NodeSeen,
    Phase,
    ProcessLooked,
    RankExited,
    RankProgress,
    RankRestored,
    Signal,
    StepReported,
)

HangConfig = LimitsConfig
"""Its limits are all there is to choose."""

_STEPS, _DONE = Phase.STEP, Phase.DONE
_STEP = PHASES.index(Phase.STEP)
_ASIDE = tuple((PHASES.index(phase), phase) for phase in (Phase.SAVE, Phase.EVAL, Phase.DATA))
_JUDGE_EVERY_S = 0.05
_LOOK_AT = (0.3, 0.6)
"""shares of a step's limit after which the process is looked at: twice, to see how much CPU it gets"""
_STARVED_LOOKS_S = 0.1
"""the kernel counts CPU time in 10 ms: looks closer than this tell nothing"""
_STARVED_SHARE = 0.7
_STARVED_PATIENCE = 4.0
"""times the limit for a rank that is starved: on a machine with four times its load, steps take four times as long"""
_UNSEEN_PATIENCE = 1.5
"""times the limit for a rank whose look, or whose flight recorder, is not back while those of others are: it may be the
one that is stopped, and a verdict that names the wrong rank is worse than half a limit more"""
_SMALL_WORLD = 64
"""ranks; in larger worlds silent ranks must not each cause a look over all of them"""
_LEARNED_AT_ONCE = 16
"""steps of one look, in a small world: of more, one that took long counts for more than its share, which only makes
limits longer"""


@dataclass(slots=True)
class _Rank:
    """What is known of one rank, and how long it has been watched not moving."""

    node: int
    step: int
    phase: Phase
    moved_at: float
    looked_at: float
    base_step: int
    spent_s: list[float] = field(default_factory=list)
    """per phase, when the phase last ended (for steps: when the last step ended)"""
    stepped_at: float | None = None
    silent_s: float = 0.0
    first_look: ProcessLooked | None = None
    process: ProcessLooked | None = None
    """first and newest look at the process since it last moved"""
    collectives: CollectivesLooked | None = None
    """what its flight recorder said since then"""
    looks_wanted: int = 0
    """since it last moved"""

    @property
    def limit_phase(self) -> str:
        """The phase whose limit counts."""
        return FIRST_STEP if self.phase is _STEPS and self.step <= self.base_step else self.phase

    @property
    def is_starved(self) -> bool:
        """It wants to run and does not get the CPU: the machine is overloaded, not the rank lost."""
        first, last = self.first_look, self.process
        if first is None or last is None or last.state != "R" or last.at - first.at < _STARVED_LOOKS_S:
            return False
        return last.cpu_s - first.cpu_s < _STARVED_SHARE * (last.at - first.at)

    def watched(self, at: float, limit_s: float) -> None:
        """The agent looked: the time since its last look counts, but for a pause of the agent itself."""
        if at > self.looked_at:
            self.silent_s += min(at - self.looked_at, limit_s / 2)
            self.looked_at = at
        self.silent_s = min(at - self.moved_at, self.silent_s)


class Hang:
    """Concludes once for each world."""

    deadline: float | None = None
    """never: without a new look nothing new is known"""

    def __init__(self, config: HangConfig, *, ranks: int) -> None:
        self.config = config
        self._size = ranks
        self._limits = Limits(config)
        self.world_began(0)

    def world_began(self, world: int) -> None:
        """Ranks are new; what was learned about the run's durations stays."""
        self._world = world
        self._over = False
        self._ranks: dict[int, _Rank] = {}
        self._restored: dict[int, int] = {}
        self._gone: set[int] = set()
        self.suspects: set[int] = set()
        """ranks silent for a part of a step's limit"""
        self._judged_at = float("-inf")

    @property
    def looks(self) -> tuple[int, ...]:
        """The suspects: what the kernel says of them helps to name the culprit."""
        return tuple(sorted(self.suspects))

    def recall(self, rows: list[StepReported]) -> None:
        """Learn step times from stored rows: one supervisor more must not forget what the one before knew."""
        took_s = sorted(row.step_s for row in rows if row.step_s is not None and row.step_s >= 0.0)
        if not took_s:
            return
        usual_s = took_s[len(took_s) // 2]
        # A row's time may hold an evaluation or a first step; neither tells how long a step takes.
        self._limits.learn_all(Phase.STEP, [one for one in took_s if one <= self.config.factor * usual_s])

    def see(self, signal: Signal) -> list[Incident]:
        """A rank moved, an agent looked, or a process or its flight recorder was looked at."""
        match signal:
            case RankProgress():
                return self.progress(signal)
            case NodeSeen():
                return self._node_seen(signal)
            case ProcessLooked() | CollectivesLooked():
                return self._looked(signal)
            case RankRestored():
                self._came_back(signal)
            case RankExited():
                self._exited(signal)
            case _:
                pass
        return []

    def silent(self, now: float) -> list[Incident]:  # noqa: ARG002 - every detector has it
        """Nothing: only a look proves silence."""
        return []

    def _came_back(self, signal: RankRestored) -> None:
        self._restored[signal.rank] = signal.step
        if (rank := self._ranks.get(signal.rank)) is not None:
            rank.base_step = signal.step

    def _exited(self, signal: RankExited) -> None:
        # A rank that ended itself well may be waited for; after any other end this world is over.
        self._over = self._over or signal.ordered or signal.code != 0
        self._gone.add(signal.rank)
        self.suspects.discard(signal.rank)

    def progress(self, signal: RankProgress) -> list[Incident]:
        """A rank moved, or was looked at."""
        rank = self._ranks.get(signal.rank)
        if rank is None:
            self._ranks[signal.rank] = self._first_seen(signal)
            return []
        if signal.at < rank.looked_at and signal.moved_at <= rank.moved_at:
            return []  # older than what is known
        if signal.moved_at != rank.moved_at or signal.step != rank.step or signal.phase is not rank.phase:
            self._moved(signal.rank, rank, signal)
        if signal.glanced_at > rank.moved_at:
            rank.watched(signal.glanced_at, self._limits.limit(rank.limit_phase))
        return self._watched(signal.rank, rank, signal.at)

    def _first_seen(self, signal: RankProgress) -> _Rank:
        return _Rank(
            node=signal.node,
            step=signal.step,
            phase=signal.phase,
            moved_at=signal.moved_at,
            looked_at=signal.at,
            base_step=self._restored.get(signal.rank, signal.step),
            spent_s=list(signal.spent_s),
        )

    def _moved(self, number: int, rank: _Rank, signal: RankProgress) -> None:
        if rank.phase in STARTS and signal.phase not in STARTS:
            rank.base_step = self._restored.get(number, signal.step)
        if signal.spent_s:
            self._learn(rank, signal)
        elif signal.step > rank.step:
            self._learn_bare(rank, signal)
        rank.step, rank.phase, rank.moved_at = signal.step, signal.phase, signal.moved_at
        rank.silent_s, rank.looks_wanted = 0.0, 0
        rank.first_look = rank.process = rank.collectives = None
        self.suspects.discard(number)

    def _learn(self, rank: _Rank, signal: RankProgress) -> None:
        """From the seconds that the rank itself counted per phase."""
        spent_s = signal.spent_s
        if len(rank.spent_s) != len(spent_s) or len(spent_s) <= _STEP:
            rank.spent_s = list(spent_s)
            return
        for index, phase in _ASIDE:
            if index < len(spent_s) and spent_s[index] > rank.spent_s[index] and phase is not signal.phase:
                self._limits.learn(phase, spent_s[index] - rank.spent_s[index])
                rank.spent_s[index] = spent_s[index]
        if signal.step > rank.step and signal.phase not in STARTS:
            # What it has spent in the step that runs now is not part of the ones that ended.
            running_s = signal.at - signal.moved_at if signal.phase is _STEPS else 0.0
            ended_s = spent_s[_STEP] - max(0.0, running_s)
            self._learn_steps(rank, signal, ended_s - rank.spent_s[_STEP])
            rank.spent_s[_STEP] = ended_s

    def _learn_steps(self, rank: _Rank, signal: RankProgress, all_s: float) -> None:
        """From the time that all the steps since the last look took."""
        # What a rank was restored to is no step that it has done.
        steps = signal.step - max(rank.step, rank.base_step)
        if steps < 1:
            return
        # The longest of several may hold an evaluation, but no more than all took.
        longest_s = max(all_s / steps, min(all_s, signal.longest_s))
        self._limits.learn(_STEPS if rank.step > rank.base_step else FIRST_STEP, longest_s)
        for _ in range(min(steps, _LEARNED_AT_ONCE if self._size <= _SMALL_WORLD else 1) - 1):
            self._limits.learn(_STEPS, (all_s - longest_s) / (steps - 1))

    def _learn_bare(self, rank: _Rank, signal: RankProgress) -> None:
        """From the times of new steps, where a script counts nothing itself."""
        if rank.stepped_at is not None:
            self._limits.learn(Phase.STEP, (signal.moved_at - rank.stepped_at) / (signal.step - rank.step))
        rank.stepped_at = signal.moved_at

    def _node_seen(self, signal: NodeSeen) -> list[Incident]:
        if signal.world != self._world:
            return []  # the agent of another attempt, or one that knows nothing of this world yet: it sees other ranks
        # The ranks' own news of the same look may come after it, so it speaks for the look before.
        at = signal.at - SEEN_EVERY_S
        incidents: list[Incident] = []
        for number, rank in self._ranks.items():
            if rank.node == signal.node and at > rank.looked_at and not incidents:
                incidents = self._watched(number, rank, at)
        return incidents

    def _looked(self, signal: ProcessLooked | CollectivesLooked) -> list[Incident]:
        rank = self._ranks.get(signal.rank)
        self.suspects.discard(signal.rank)
        if rank is None or signal.at <= rank.moved_at:
            return []
        if isinstance(signal, CollectivesLooked):
            rank.collectives = signal
        else:
            before = rank.process
            # A later look comes before its stack does: it has not moved, so the older one still tells where it stands.
            rank.process = replace(signal, stack=before.stack) if before and not signal.stack else signal
            rank.first_look = rank.first_look or signal
        return self._judge(signal.at) if rank.silent_s > 0 else []

    def _watched(self, number: int, rank: _Rank, at: float) -> list[Incident]:
        limit_s = self._limits.limit(rank.limit_phase)
        rank.watched(at, limit_s)
        if self._over or number in self._gone:
            return []
        if rank.silent_s > 0.0:
            self._suspect(number, rank)
        stopped = rank.process is not None and rank.process.state == "T"
        return self._judge(at) if rank.silent_s > limit_s or stopped else []

    def _suspect(self, number: int, rank: _Rank) -> None:
        wanted = rank.looks_wanted
        if wanted == len(_LOOK_AT) or rank.silent_s <= _LOOK_AT[wanted] * self._limits.limit(_STEPS):
            return
        if rank.phase not in STARTS and rank.phase is not _DONE:
            rank.looks_wanted += 1
            self.suspects.add(number)

    def _judge(self, at: float) -> list[Incident]:
        if self._over or (self._size > _SMALL_WORLD and at - self._judged_at < _JUDGE_EVERY_S):
            return []
        self._judged_at = at
        verdict = named(self._standings(), floor_s=self.config.floor_s)
        if verdict is None:
            return []
        self._over = True
        self.suspects.clear()
        return [self._incident(verdict, at)]

    def _standings(self) -> list[Standing]:
        """Every rank that is there; nothing while one was never heard of: everybody may be waiting for it."""
        looked = any(rank.process is not None for rank in self._ranks.values())
        recorded = any(rank.collectives is not None for rank in self._ranks.values())
        known = [
            Standing(
                rank=number,
                node=rank.node,
                step=rank.step,
                phase=rank.phase,
                moved_at=rank.moved_at,
                silent_s=rank.silent_s,
                over=self._is_over(rank, looked=looked, recorded=recorded),
                process=rank.process,
                collectives=rank.collectives,
            )
            for number, rank in self._ranks.items()
            if number not in self._gone
        ]
        return known if len(self._ranks.keys() | self._gone) >= self._size else []

    def _is_over(self, rank: _Rank, *, looked: bool, recorded: bool) -> bool:
        awaited = (looked and rank.process is None) or (recorded and rank.collectives is None)
        patience = _STARVED_PATIENCE if rank.is_starved else _UNSEEN_PATIENCE if awaited else 1.0
        return rank.silent_s > patience * self._limits.limit(rank.limit_phase)

    def _incident(self, verdict: Verdict, at: float) -> Incident:
        culprit = verdict.culprit
        phase = self._ranks[culprit.rank].limit_phase
        fingerprint = f"hang:{culprit.rank}:{phase}"
        if verdict.kind is Kind.CODE_DIVERGENCE:
            fingerprint = f"{verdict.kind}:{culprit.rank}:{verdict.call}"
        other = verdict.next_best
        return Incident(
            kind=verdict.kind,
            at=at,
            onset=min(culprit.moved_at, at),
            world=self._world,
            subject=Subject(node=culprit.node, rank=culprit.rank),
            step=verdict.step,
            confidence=verdict.confidence,
            blame=verdict.blame,
            fingerprint=fingerprint,
            evidence=(*verdict.evidence, self._limits.explained(phase)),
            senses=verdict.senses,
            next_best=None if other is None else Subject(node=other.node, rank=other.rank),
        )
