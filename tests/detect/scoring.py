"""How does the loss detector do on labelled curves? The face that the curves' own `score.py` wants.

`python score.py --detector tests.detect.scoring:detector` from the root of the repository. `incidents` leaves the
suspicion out: what a person would be told, and nothing earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from monitors.detect.loss import Loss, LossConfig
from monitors.incidents import Kind
from monitors.signals import StepReported

Judge = Callable[[float, float, float | None], str | None]


def incidents(meta: Mapping[str, Any]) -> Judge:  # noqa: ARG001 - the scorer hands it to every detector
    """A judge of one curve that says what the incidents say; notices begin with `warn`."""
    loss = Loss(LossConfig())

    def judge(step: float, value: float, grad_norm: float | None) -> str | None:
        row = StepReported(at=step, node=0, world=0, rank=0, step=int(step), loss=value, grad_norm=grad_norm)
        found = loss.see(row)
        if not found:
            return None
        return "warn_transient" if found[0].kind is Kind.LOSS_TRANSIENT else found[0].kind.value

    judge.loss = loss  # type: ignore[attr-defined]
    return judge


def detector(meta: Mapping[str, Any]) -> Judge:
    """The same, and a notice when the loss begins to look wrong: checkpoints wait from then on."""
    told = incidents(meta)
    loss: Loss = told.loss  # type: ignore[attr-defined]
    was: int | None = None

    def judge(step: float, value: float, grad_norm: float | None) -> str | None:
        nonlocal was
        said = told(step, value, grad_norm)
        since = loss.suspicious_since_step
        began = since is not None and was is None
        was = since
        return said or ("warn_suspicious" if began else None)

    return judge
