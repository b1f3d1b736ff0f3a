"""How long ago? `90s`, `10m`, `2h`, `1d` of the command line."""

from __future__ import annotations

import re

import click

AGE = re.compile(r"(?P<count>\d+(?:\.\d+)?)(?P<unit>[smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def since(age: str | None, *, option: str = "--since") -> float:
    """The time so long ago, in seconds since the epoch; 0 for no age. Raises BadParameter."""
    if age is None:
        return 0.0
    length_s = seconds_of(age, option=option)
    from monitors.clock import SystemClock

    return SystemClock().now() - length_s


def seconds_of(age: str, *, option: str) -> float:
    """A length of time. Raises BadParameter."""
    found = AGE.fullmatch(age)
    if found is None:
        raise click.BadParameter("needs a form like 90s, 10m, 2h or 1d", param_hint=option)
    return float(found["count"]) * SECONDS[found["unit"]]
