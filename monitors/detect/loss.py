"""Does the loss of the run go wrong? The rows of many ranks in, incidents of one curve out.

Two levels: what is acted on (numbers that broke, a loss that rose and stays) had to persist; what is only told may be
nothing (a spike that came back, a gradient norm that stepped up, a loss too good, a restart that is not where it was).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite

from monitors.detect.loss_curve import Curve, CurveConfig, Finding, Row
from monitors.detect.loss_gradient import GradientConfig, Gradients, Shifted
from monitors.detect.loss_ranks import Apart, Departed
from monitors.detect.loss_resume import Mismatch, ResumeConfig, Resumes
from monitors.detect.loss_scale import Collapsed, LossScale
from monitors.detect.loss_spike import SpikeConfig
from monitors.incidents import Incident, Kind, Subject
from monitors.signals import RanksReported, Signal, StepReported

CONFIDENCE = {
    Kind.NONFINITE_LOSS: 1.0,
    Kind.LOSS_SPIKE: 0.9,
    Kind.LOSS_DIVERGENCE: 0.8,
    Kind.LOSS_TRANSIENT: 0.8,
    Kind.LOSS_TOO_GOOD: 0.7,
    Kind.GRADIENT_SHIFT: 0.7,
    Kind.RESUME_MISMATCH: 0.9,
}

NOWHERE = Subject()
_BROKEN = "the loss of the run shows nothing: a rank that computes wrong numbers looks like this"
_SAME_STEPS = 128
"""between two onsets that are taken for one: a mean hides a rank's own number for a while"""


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
        self._gradients = Gradients(GradientConfig())
        self._apart = Apart()
        self._named_step: int | None = None
        """onset of the newest shift of a rank's own numbers that was told"""
        self._resumes = Resumes(ResumeConfig())
        self._scale = LossScale()
        self.world_began(0)

    def world_began(self, world: int) -> None:
        """The line of steps goes on, from wherever the world begins."""
        self._world = world
        self._speaker: int | None = None
        self._heard_at = float("-inf")
        self._named_step = None
        self._apart.world_began()
        self._curve.started()
        self._scale.started()

    @property
    def suspicious_since_step(self) -> int | None:
        """First step that looks wrong by now: what was saved from it on is not to be trusted yet."""
        return self._curve.suspicious_since_step if self.config.enabled else None

    def rewound(self, step: int) -> None:
        """What came after this step is trained again, or never happened."""
        self._curve.rewound(step)
        self._gradients.rewound(step)
        self._apart.rewound(step)
        if self._named_step is not None and step < self._named_step:
            self._named_step = None

    def recall(self, rows: Iterable[StepReported]) -> None:
        """Rebuild the window from stored rows, oldest first, without concluding anything again."""
        for signal in rows:
            self._judge(signal)

    def see(self, signal: Signal) -> list[Incident]:
        """One row, or the numbers that the ranks of a node saw alone."""
        if not self.config.enabled:
            return []
        match signal:
            case StepReported():
                return self._judge(signal)
            case RanksReported():
                return self._compare(signal)
            case _:
                return []

    def silent(self, now: float) -> list[Incident]:  # noqa: ARG002 - every detector has it
        """Nothing."""
        return []

    def _judge(self, signal: StepReported) -> list[Incident]:
        if self._speaker is None or signal.rank < self._speaker:
            self._speaker = signal.rank
        shifted = [] if signal.grad_norm is None else self._shifted(signal, signal.grad_norm)
        row = Row(signal.at, signal.step, signal.loss, signal.grad_norm)
        if signal.rank != self._speaker:
            return shifted + [self._found(finding, signal) for finding in self._broken_elsewhere(row)]
        last = self._curve.last_step
        if last is not None and row.step <= last:
            if row.at <= self._heard_at:
                return []  # told again
            self.rewound(row.step - 1)
        self._heard_at = row.at
        mismatch = self._resumes.see(signal)
        found = [self._found(finding, signal) for finding in self._curve.see(row)] + shifted
        if mismatch is not None:
            found.append(self._mismatched(mismatch, signal))
        collapsed = self._scale.see(signal.step, signal.at, signal.loss_scale)
        return found if collapsed is None else [*found, self._unscaled(collapsed, signal)]

    def _broken_elsewhere(self, row: Row) -> list[Finding]:
        """A rank that does not speak for the run: only numbers that broke matter, and its loss must not mix in."""
        if row.loss is None or isfinite(row.loss):
            return []
        return self._curve.broke(row)

    def _shifted(self, signal: StepReported, grad_norm: float) -> list[Incident]:
        """Gradients that stay high while the loss shows nothing; with the loss they are its own symptom."""
        shifted = self._gradients.see(signal.rank, signal.step, signal.at, grad_norm)
        if shifted is None or self._curve.suspicious_since_step is not None:
            return []
        if self._is_named(shifted.onset_step):
            return []
        # That something shifted is sure by now; whose it is, a few compared steps tell: often only every fourth is.
        apart = self._apart.away(self._apart.config.rows // 4) if shifted.rank is None else []
        if apart:
            self._named_step = apart[0].onset_step
            return [self._left(apart, signal)]
        return [self._stepped_up(shifted, signal)]

    def _compare(self, signal: RanksReported) -> list[Incident]:
        """Ranks whose own numbers left the others'; while the loss looks wrong, they are evidence of that."""
        apart = self._apart.see(signal)
        if not apart or self._curve.suspicious_since_step is not None or self._is_named(apart[0].onset_step):
            return []
        self._named_step = apart[0].onset_step
        return [self._left(apart, signal)]

    def _is_named(self, onset_step: int) -> bool:
        return self._named_step is not None and abs(onset_step - self._named_step) <= _SAME_STEPS

    def _left(self, apart: list[Departed], signal: StepReported | RanksReported) -> Incident:
        """The incident names a rank, or a node, where nobody else is away."""
        ranks = {rank for departed in apart for rank in departed.ranks}
        nodes = {node for departed in apart for node in departed.nodes}
        node = nodes.pop() if len(nodes) == 1 else None
        first = min(apart, key=lambda departed: departed.onset_step)
        return self._incident(
            Kind.GRADIENT_SHIFT,
            signal,
            first.onset_at,
            first.onset_step,
            (*(departed.sentence for departed in apart), _BROKEN),
            subject=Subject(node=node, rank=ranks.pop() if len(ranks) == 1 else None),
        )

    def _found(self, finding: Finding, signal: StepReported) -> Incident:
        said = (*finding.evidence, f"reported by rank {signal.rank} on node {signal.node}")
        said = (*said, *(departed.sentence for departed in self._apart.away(self._apart.config.hint)))
        return self._incident(finding.kind, signal, finding.onset.at, finding.onset.step, said)

    def _stepped_up(self, shifted: Shifted, signal: StepReported) -> Incident:
        whose = "the gradient norm" if shifted.rank is None else f"the gradient norm of rank {shifted.rank} alone"
        said = (
            f"{whose} stepped up from {shifted.usual:.4g} to {shifted.now:.4g} near step {shifted.onset_step}",
            _BROKEN,
        )
        subject = Subject() if shifted.rank is None else Subject(node=signal.node, rank=shifted.rank)
        kind = Kind.GRADIENT_SHIFT
        return self._incident(kind, signal, shifted.onset_at, shifted.onset_step, said, subject=subject)

    def _unscaled(self, fell: Collapsed, signal: StepReported) -> Incident:
        said = f"the loss scale fell from {fell.usual:.4g} to {fell.now:.4g} since step {fell.onset_step}"
        why = "gradients overflow at ever smaller scales: recorded runs lost their loss some thirty steps later"
        return self._incident(Kind.GRADIENT_SHIFT, signal, fell.onset_at, fell.onset_step, (said, why))

    def _mismatched(self, mismatch: Mismatch, signal: StepReported) -> Incident:
        since, said = mismatch.since, (mismatch.what,)
        return self._incident(Kind.RESUME_MISMATCH, signal, since.at, since.step, said)

    def _incident(
        self,
        kind: Kind,
        signal: StepReported | RanksReported,
        onset: float,
        onset_step: int,
        evidence: tuple[str, ...],
        *,
        subject: Subject = NOWHERE,
    ) -> Incident:
        return Incident(
            kind=kind,
            at=signal.at,
            onset=min(onset, signal.at),
            world=self._world,
            subject=subject,
            onset_step=onset_step,
            step=signal.step,
            confidence=CONFIDENCE[kind],
            fingerprint=f"{kind}:{onset_step}",
            evidence=evidence,
        )
