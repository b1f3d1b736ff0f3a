"""Does the loss of the run go wrong? The rows of many ranks in, incidents of one curve out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite

from monitors.detect.loss_curve import Curve, CurveConfig, Finding, Row
from monitors.detect.loss_spike import SpikeConfig
from monitors.incidents import Incident, Kind
from monitors.signals import Signal, StepReported

CONFIDENCE = {
    Kind.NONFINITE_LOSS: 1.0,
    Kind.LOSS_SPIKE: 0.9,
    Kind.LOSS_DIVERGENCE: 0.8,
    Kind.LOSS_TRANSIENT: 0.8,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """What a user may choose."""

    enabled: bool = True
    persist_rows: int = 12
    """rows over which a jump must persist (10 of 12)"""

    @property
    def curve(self) -> CurveConfig:
        """The parts' settings."""
        return CurveConfig(spike=SpikeConfig(persist_rows=self.persist_rows))


class Loss:
    """Follows the loss that the lowest rank reports; a broken number counts from any rank."""

    deadline: float | None = None
    """never: no row, no opinion"""

    def __init__(self, config: LossConfig) -> None:
        self.config = config
        self._curve = Curve(config.curve)
        self.world_began(0)

    def world_began(self, world: int) -> None:
        """The line of steps goes on, from wherever the world begins."""
        self._world = world
        self._speaker: int | None = None
        self._heard_at = float("-inf")

    @property
    def suspicious_since_step(self) -> int | None:
        """First step that looks wrong by now: what was saved from it on is not to be trusted yet."""
        return self._curve.suspicious_since_step if self.config.enabled else None

    def rewound(self, step: int) -> None:
        """What came after this step is trained again, or never happened."""
        self._curve.rewound(step)

    def recall(self, rows: Iterable[StepReported]) -> None:
        """Rebuild the window from stored rows, oldest first, without concluding anything again."""
        for signal in rows:
            self._row(signal)

    def see(self, signal: Signal) -> list[Incident]:
        """One row."""
        if not isinstance(signal, StepReported) or not self.config.enabled:
            return []
        return [self._incident(finding, signal) for finding in self._row(signal)]

    def silent(self, now: float) -> list[Incident]:  # noqa: ARG002 - every detector has it
        """Nothing."""
        return []

    def _row(self, signal: StepReported) -> list[Finding]:
        row = Row(at=signal.at, step=signal.step, loss=signal.loss, grad_norm=signal.grad_norm)
        if self._speaker is None or signal.rank < self._speaker:
            self._speaker = signal.rank
        if signal.rank != self._speaker:
            return self._broken_elsewhere(row)
        last = self._curve.last_step
        if last is not None and row.step <= last:
            if row.at <= self._heard_at:
                return []  # told again
            self._curve.rewound(row.step - 1)
        self._heard_at = row.at
        return self._curve.see(row)

    def _broken_elsewhere(self, row: Row) -> list[Finding]:
        """A rank that does not speak for the run: only numbers that broke matter, and its loss must not mix in."""
        if row.loss is None or isfinite(row.loss):
            return []
        return self._curve.broke(row)

    def _incident(self, finding: Finding, signal: StepReported) -> Incident:
        onset = finding.onset
        return Incident(
            kind=finding.kind,
            at=signal.at,
            onset=min(onset.at, signal.at),
            world=self._world,
            onset_step=onset.step,
            step=signal.step,
            confidence=CONFIDENCE[finding.kind],
            fingerprint=f"{finding.kind}:{onset.step}",
            evidence=(*finding.evidence, f"reported by rank {signal.rank} on node {signal.node}"),
        )
