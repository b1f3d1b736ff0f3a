"""How do budgets, forecasts and costs read on a terminal?"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click


def limits_of(texts: tuple[str, ...]) -> dict[str, float | None]:
    """`money=500` and the like, of the command line. Raises UsageError."""
    from orchestrator import rationing

    try:
        return rationing.read(texts)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def lines(status: dict[str, Any]) -> list[str]:
    """Each budget of a run: `money 12.3 of 500 EUR (2.5 %)`."""
    return [f"{use['what']:10}  {_use(use)}" for use in status["budget"]]


def _use(use: dict[str, Any]) -> str:
    least = "at least " if use["known_share"] < 0.9 else ""
    blind = f"; energy was read for {use['known_share']:.0%} of the GPU time" if least else ""
    return f"{least}{use['spent']:,.4g} of {use['limit']:,.6g} {use['unit']} ({use['share']:.1%}){blind}"


def forecast_line(status: dict[str, Any]) -> str | None:
    """When it will be complete, and what it will have cost; None where nobody could expect to hear that."""
    found = status["forecast"]
    if found is None:
        return None
    finish = found["finish"]
    parts = [
        f"step {found['target_step']} {_moment(finish['p50'])} ({_moment(finish['p10'])} to {_moment(finish['p90'])})"
    ]
    for name, unit in (("money", status["currency"]), ("gpu_hours", "GPU h"), ("kwh", "kWh")):
        if (spread := found[name]) is not None:
            parts.append(f"{spread['p50']:,.4g} {unit} ({spread['p10']:,.4g} to {spread['p90']:,.4g})")
    if found["short"]:
        parts.append(f"its budget of {', '.join(found['short'])} will not do")
    return "; ".join(parts)


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M")


def cost_parts(cost: dict[str, Any], currency: str | None) -> list[str]:
    """`1,234 GPU h`, `2,345.60 EUR`, `at least 51 kWh`, `20 kg CO2e`: what is known of a cost."""
    parts = [f"{cost['gpu_hours']:,.4g} GPU h"]
    least = "at least " if (cost["kwh_known_share"] or 0.0) < 0.999 else ""
    if cost["money"] is not None:
        parts.append(f"{cost['money']:,.2f} {currency}")
    if cost["kwh"] is not None:
        parts.append(f"{least}{cost['kwh']:,.4g} kWh")
    if cost["co2e_g"] is not None:
        parts.append(f"{least}{cost['co2e_g'] / 1000:,.4g} kg CO2e")
    return parts


def amount_of(text: str) -> float | None:
    """A number, or None for `none`. Raises UsageError."""
    try:
        return None if text == "none" else float(text)
    except ValueError:
        raise click.UsageError(f"{text!r} is neither a number nor none") from None


def power_line(power: dict[str, Any]) -> str:
    """`5000 W, 625 W for each GPU; their limits are set`."""
    parts = [f"{power['watts']:,.0f} W, {power['per_gpu_w']:,.0f} W for each GPU"]
    if power["limited"]:
        parts.append(f"their limits are set: they may draw {power['may_draw_w'] or 0:,.0f} W")
    if power["why"]:
        parts.append(power["why"])
    return "; ".join(parts)
