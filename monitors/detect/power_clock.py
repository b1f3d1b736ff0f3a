"""Does the run finish steps, and is a rank at something that takes power off for a good reason?"""

from __future__ import annotations

from monitors.signals import Phase, RankProgress, StepReported

ASIDES = frozenset({Phase.STARTING, Phase.RESTORING, Phase.SAVE, Phase.EVAL, Phase.DONE})
_PATIENCE = 4.0
"""times a usual step: what takes longer is no step of this run"""


class StepClock:
    """The newest step of any rank. A script that tells nothing of its steps leaves it unknown."""

    def __init__(self) -> None:
        self._usual_s: float | None = None
        self.phases_known = False
        """ranks count their phases (the SDK does): a save is not taken for a stall"""
        self.world_began()

    def world_began(self) -> None:
        """What a step takes stays known."""
        self.step = 0
        self.known = False
        self._stepped_at: float | None = None
        self._aside: set[int] = set()

    @property
    def aside(self) -> bool:
        """Some rank starts, restores, saves, evaluates or is done; where ranks say so."""
        return bool(self._aside)

    def progress(self, signal: RankProgress) -> None:
        """Where one rank stands. A rank that counts no phases (no SDK) is aside only until it starts to work."""
        if signal.spent_s and not self.phases_known:
            self.phases_known = True
        if signal.phase in ASIDES:
            self._aside.add(signal.rank)
        else:
            self._aside.discard(signal.rank)
        if signal.step != self.step:
            self.stepped(signal.step, signal.moved_at)

    def reported(self, row: StepReported) -> None:
        """A rank finished a step."""
        if row.step > self.step:
            self.stepped(row.step, row.at)

    def stepped(self, step: int, at: float) -> None:
        """A step ended; a step number that falls is another world's, or a rank further behind."""
        if step <= self.step:
            return
        if self._stepped_at is not None and self.step > 0:
            took_s = max(0.0, at - self._stepped_at) / (step - self.step)
            self._usual_s = (
                took_s if self._usual_s is None else 0.9 * self._usual_s + 0.1 * min(took_s, 4 * self._usual_s)
            )
        self.step, self._stepped_at, self.known = step, at, True

    def stands(self, now: float, poll_s: float) -> bool:
        """No step ended for several usual steps, and not since the last poll."""
        if self._stepped_at is None:
            return False
        return now - self._stepped_at > max(_PATIENCE * (self._usual_s or 0.0), 1.5 * poll_s)

    def explained(self, now: float) -> str:
        """A sentence for evidence."""
        if self._stepped_at is None:
            return "nothing is known of steps"
        return f"the last step that any rank finished is {self.step}, {max(0.0, now - self._stepped_at):.1f} s ago"
