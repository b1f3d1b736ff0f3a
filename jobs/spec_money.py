"""What does a run cost, what may it cost, and how much power may it draw?

No price is made up: without one, everything in money is unknown and says how to set it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from jobs.spec_part import Part

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Limit = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _is_currency(value: str) -> str:
    if not (value.isascii() and value.isalpha() and value.isupper() and len(value) == 3):
        raise ValueError(f"must be three capital letters, as EUR or USD (ISO 4217): not {value!r}")
    return value


class Cost(Part):
    """Prices. None has a default: they are yours, and nothing in money is told without one."""

    currency: Annotated[str, AfterValidator(_is_currency)] | None = None
    """Of the prices, as `EUR` (ISO 4217); only a word, nothing is converted. Needed with a price."""
    gpu_hour: Amount | None = None
    """Price of a GPU for an hour, as the bill says it; default: no price. GPUs cost while the run has them, whether it
    trains, starts or recovers, and nothing while it is queued, paused or held."""
    kwh: Amount | None = None
    """Price of a kWh, where energy is paid beside the GPUs; default: no price."""
    carbon_g_per_kwh: Amount | None = None
    """Grams of CO2e for a kWh, from your supplier or grid; default: not known, so no CO2e is told."""
    overhead: float = Field(default=1.0, ge=1.0, le=10.0)
    """Times the energy of the GPUs that the whole takes: hosts, network, cooling (as PUE counts it, and the hosts
    beside it). Default: 1, what the counters of the GPUs say and nothing else, for nobody measured the rest."""

    @model_validator(mode="after")
    def _named(self) -> Cost:
        if self.has_prices and self.currency is None:
            raise ValueError("currency: is needed with a price, as EUR or USD")
        return self

    @property
    def has_prices(self) -> bool:
        """Anything can be said in money."""
        return self.gpu_hour is not None or self.kwh is not None


class Budget(Part):
    """What the run may take, over all attempts. People are told at 50 and 80 %, paged at 95 %; at 100 % it saves and is
    held. Default: no limit. Change one while the run goes on: `lastgood budget RUN --money 500`."""

    money: Limit | None = None
    """In the currency of `cost`, which needs a price."""
    gpu_hours: Limit | None = None
    """Hours in which the run has its GPUs, times its ranks."""
    kwh: Limit | None = None
    """Energy as the counters of the GPUs say it, times `cost.overhead`. What is not read is not in it, and that is
    told."""
    wall_hours: Limit | None = None
    """Hours since the submission, but for those in which the run is paused, stopped or held."""


class Power(Part):
    """How much power the GPUs of the run may draw; changed while it goes on by `lastgood power RUN --watts W`."""

    watts: Limit | None = None
    """All GPUs together; default: no limit. Each gets an equal share as its power limit, which needs root on the nodes;
    without that, the run pauses at a checkpoint while its GPUs could draw more, and goes on when they may."""
    min_watts_per_gpu: Limit | None = None
    """A share below this pauses the run; default: the least that the driver takes as a limit."""
