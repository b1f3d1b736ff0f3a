"""What do hours and watts cost a run, and how much of each may it take? Values of the spec, as the core knows them."""

from __future__ import annotations

from dataclasses import dataclass

JOULES_OF_KWH = 3.6e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """None: nobody said."""

    currency: str | None = None
    gpu_hour: float | None = None
    kwh: float | None = None
    carbon_g_per_kwh: float | None = None
    overhead: float = 1.0
    """times the energy of the GPUs that the whole takes"""

    def kwh_of(self, gpu_j: float) -> float:
        """Energy of the whole, of joules that GPUs spent."""
        return gpu_j / JOULES_OF_KWH * self.overhead

    def money(self, gpu_hours: float, kwh: float | None) -> float | None:
        """What that costs; None without a price, and where energy alone has one and none of it is known."""
        parts = [
            amount * price
            for amount, price in ((gpu_hours, self.gpu_hour), (kwh, self.kwh))
            if amount is not None and price is not None
        ]
        return sum(parts) if parts else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of a whole run, over all its attempts; None: no limit."""

    money: float | None = None
    gpu_hours: float | None = None
    kwh: float | None = None
    wall_hours: float | None = None

    def __post_init__(self) -> None:
        given = (self.money, self.gpu_hours, self.kwh, self.wall_hours)
        assert all(limit is None or limit > 0 for limit in given), given
