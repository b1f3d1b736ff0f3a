"""What would the published detectors say? Their rules in a few lines each, for folders that bring no `score.py`.

Defaults are the published ones. Each judge sees step, loss and gradient norm, and says something or nothing.
"""

from __future__ import annotations

import importlib.util
import math
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from tests.score.curves import Factory


class Nonfinite:
    """Stops on a loss or a gradient norm that is not finite (torchtitan); on the loss alone (Composer, MaxText)."""

    def __init__(self, *, norms: bool) -> None:
        self.norms = norms

    def __call__(self, step: float, loss: float, norm: float | None) -> str | None:  # noqa: ARG002 - a judge
        """One row."""
        broken = not math.isfinite(loss) or (self.norms and norm is not None and not math.isfinite(norm))
        return "nan" if broken else None


class SkipStep:
    """Six deviations above the mean of the last 128 losses or gradient norms (OLMo-core, Levanter, MaxText)."""

    def __init__(self, *, norms: bool, sigmas: float = 6.0, rows: int = 128) -> None:
        self.norms, self.sigmas, self.least = norms, sigmas, rows // 2
        self.losses, self.grads = deque[float](maxlen=rows), deque[float](maxlen=rows)

    def __call__(self, step: float, loss: float, norm: float | None) -> str | None:  # noqa: ARG002 - a judge
        """One row; non-finite ones spoil the window, as they do there."""
        high = self._high(self.losses, loss)
        if self.norms and norm is not None:
            high = self._high(self.grads, norm) or high
        return "skip" if high else None

    def _high(self, seen: deque[float], value: float) -> bool:
        high = False
        if len(seen) + 1 >= self.least:
            mean = sum(seen) / len(seen)
            deviation = math.sqrt(sum([(one - mean) ** 2 for one in seen]) / (len(seen) - 1))
            high = not value - mean <= self.sigmas * deviation  # so that NaN is high, too
        seen.append(value)
        return high


class KillLossSpike:
    """Twice the mean of the last 100 losses (or 5 % of the run), five batches in a row (llm-foundry)."""

    def __init__(self, rows: int) -> None:
        self.seen = deque[float](maxlen=max(100, round(0.05 * rows)))
        self.high = 0

    def __call__(self, step: float, loss: float, norm: float | None) -> str | None:  # noqa: ARG002 - a judge
        """One row."""
        full = len(self.seen) == self.seen.maxlen
        self.high = self.high + 1 if full and loss >= 2.0 * fmean(self.seen) else 0
        self.seen.append(loss)
        return "spike" if self.high > 4 else None


class TenfoldOfFirst:
    """Ten times the largest of the first 100 losses or gradient norms (Megatron's rerun state machine)."""

    def __init__(self) -> None:
        self.rows, self.loss, self.norm = 0, 0.0, 0.0

    def __call__(self, step: float, loss: float, norm: float | None) -> str | None:  # noqa: ARG002 - a judge
        """One row."""
        norm = 0.0 if norm is None else norm
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return "nan"
        self.rows += 1
        if self.rows <= 100:
            self.loss, self.norm = max(self.loss, abs(loss)), max(self.norm, norm)
            return None
        high = loss >= 10 * self.loss or (norm > 0 and norm >= 10 * self.norm)
        return "spiky" if high else None


OWN: Mapping[str, Factory] = {
    "loss not finite (Composer, MaxText)": lambda _: Nonfinite(norms=False),
    "loss or norm not finite (torchtitan)": lambda _: Nonfinite(norms=True),
    "skip step, loss (OLMo-core)": lambda _: SkipStep(norms=False),
    "skip step, loss and norm (OLMo-core)": lambda _: SkipStep(norms=True),
    "KillLossSpike (llm-foundry)": lambda meta: KillLossSpike(meta["n_rows"]),
    "10x of the first 100 (Megatron)": lambda _: TenfoldOfFirst(),
}


def detectors(folder: Path) -> Mapping[str, Factory]:
    """Those of the folder's own `score.py`, or ours where it has none."""
    path = folder / "score.py"
    if not path.exists():
        return OWN
    spec = importlib.util.spec_from_file_location("score_of_the_curves", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Mapping[str, Factory] = module.DETECTORS
    return found
