"""What do the batches of a run do to its loss?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Data:
    """What the batches do to the loss: the same at every pass over them."""

    seed: int
    poisoned: tuple[tuple[int, int], ...] = ()
    glitches: dict[int, float] | None = None
    furthest: int = 0
    """index of the last batch that any world was fed"""

    def noise(self, index: int) -> float:
        """About normal, spread 1, a function of the batch alone."""
        bits = ((index + 1) * 0x9E3779B97F4A7C15 ^ self.seed * 0xD1B54A32D192ED03) & 0xFFFFFFFFFFFFFFFF
        bits = (bits ^ bits >> 31) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        parts = (bits & 0xFFFF, bits >> 16 & 0xFFFF, bits >> 32 & 0xFFFF, bits >> 48)
        return (sum(parts) / 65536 - 2.0) * 1.73

    def glitch(self, index: int) -> float:
        """What is added to the loss of an odd batch."""
        return self.glitches.get(index, 0.0) if self.glitches else 0.0

    def spoils(self, index: int) -> bool:
        """This batch ruins the weights."""
        return any(first <= index < end for first, end in self.poisoned)
