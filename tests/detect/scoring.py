"""How does the loss detector do on labelled curves? The face that the curves' own `score.py` wants.

`python score.py --detector tests.detect.scoring:detector` from the root of the repository. `incidents` leaves the
suspicion out: what a person would be told, and nothing earlier. A row counts as a step, whatever step it was logged
for: logs of every hundredth step are read as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitors.detect.loss import Loss, LossConfig
from monitors.incidents import Incident, Kind
from monitors.signals import StepReported

ACTED_ON = frozenset({Kind.NONFINITE_LOSS, Kind.LOSS_SPIKE, Kind.LOSS_DIVERGENCE})


class Judge:
    """Follows one curve. Notices begin with `warn`."""

    def __init__(self, *, suspicions: bool) -> None:
        self.loss = Loss(LossConfig())
        self.told: list[tuple[int, Incident]] = []
        """row of the conclusion (from 0), and the incident; its `onset_step` is a row as well"""
        self._suspicions = suspicions
        self._since: int | None = None
        self._row = -1

    def __call__(self, step: float, loss: float, grad_norm: float | None) -> str | None:  # noqa: ARG002 - see above
        """What is said at this row; an action wins over a notice."""
        self._row += 1
        signal = StepReported(
            at=float(self._row), node=0, world=0, rank=0, step=self._row, loss=loss, grad_norm=grad_norm
        )
        found = self.loss.see(signal)
        self.told += [(self._row, incident) for incident in found]
        acted = next((incident.kind.value for incident in found if incident.kind in ACTED_ON), None)
        return acted or (f"warn_{found[0].kind}" if found else None) or self._suspicion()

    def _suspicion(self) -> str | None:
        since, was = self.loss.suspicious_since_step, self._since
        self._since = since
        return "warn_suspicious" if self._suspicions and since is not None and was is None else None


def incidents(meta: Mapping[str, Any]) -> Judge:  # noqa: ARG001 - the scorer hands it to every detector
    """A judge of one curve that says what the incidents say."""
    return Judge(suspicions=False)


def detector(meta: Mapping[str, Any]) -> Judge:  # noqa: ARG001 - the scorer hands it to every detector
    """The same, and a notice when the loss begins to look wrong: checkpoints wait from then on."""
    return Judge(suspicions=True)
