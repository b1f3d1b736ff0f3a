"""Was a fault of the hardware told in time, once, as what it is, and with the right culprit?"""

from __future__ import annotations

from monitors.incidents import SURFACE, Kind
from orchestrator.core.state import Phase
from tests.simulation.knobs import Knobs, Profile
from tests.simulation.office import Office
from tests.simulation.timeline import Timeline
from tests.simulation.truth import Trouble, Truth, Violation

SETTLED_S = 15.0
"""for an incident to be told as something deeper: `AFTER_S` of the attribution is 10"""
AT_ONCE_S = 3.0
"""for what the driver itself says, which needs no second witness: a poll, a read of the kernel's log, and the way"""
DRIVERS_WORD = frozenset({Kind.GPU_LOST, Kind.GPU_FAULT, Kind.GPU_MEMORY})
ANSWERED_S = 75.0
"""from the first sign until a world is ended: connections are retried for most of it"""
STEPS_MOST = 50
"""for a rank that stands still while no sense sees why: the limit is six times the slowest step, which took as long as
five or more where steps vary or a rank is slowed, and agents look every four steps"""


class Verdicts:
    """Judges each trouble some time after it began."""

    def __init__(self, knobs: Knobs, timeline: Timeline, truth: Truth, office: Office) -> None:
        self._knobs = knobs
        self._time = timeline
        self._truth = truth
        self._office = office

    def watch(self, trouble: Trouble) -> None:
        """Look at it later."""
        if self._knobs.profile is Profile.HARDWARE:
            self._time.after(ANSWERED_S, lambda: self._judge(trouble))
            if trouble.clear and trouble.kinds <= DRIVERS_WORD:
                self._time.after(AT_ONCE_S, lambda: self._hurries(trouble))

    def _hurries(self, trouble: Trouble) -> None:
        if not self._truth.answered[trouble.world] and not self._is_excused(trouble):
            raise Violation(f"nobody has answered {trouble} {AT_ONCE_S} s later")

    def _judge(self, trouble: Trouble) -> None:
        answers, now = self._truth.answered[trouble.world], self._time.now()
        if self._is_excused(trouble):
            return
        if not answers:
            if now - trouble.at > STEPS_MOST * self._knobs.step_s:
                raise Violation(f"nobody answers {trouble}, {now - trouble.at:.0f} s later")
            self._time.after(self._knobs.step_s, lambda: self._judge(trouble))
            return
        if now - answers[0].incident.at < SETTLED_S:
            self._time.after(SETTLED_S, lambda: self._judge(trouble))
            return
        self._told(trouble)

    def _is_excused(self, trouble: Trouble) -> bool:
        """Something else befell the same world, or it ended by itself."""
        state = self._office.state
        assert state is not None
        over = state.phase in (Phase.FINISHING, Phase.SUCCEEDED) and not self._truth.answered[trouble.world]
        return over or len(self._truth.faults[trouble.world]) > 1

    def _told(self, trouble: Trouble) -> None:
        answers = self._truth.answered[trouble.world]
        if len({one.id for one in answers}) > 1:
            raise Violation(f"{trouble} is told {len(answers)} times: {[one.incident for one in answers]}")
        told = answers[-1].incident
        if not trouble.clear and told.kind in SURFACE:
            return  # by what the ranks show alone; who is named for sure is judged when it is told
        if why := trouble.denies(told):
            raise Violation(f"{why}: {trouble}; {told}")
