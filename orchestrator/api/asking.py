"""What does an address ask for? Parameters of a query, each read strictly, each error naming what is wrong."""

from __future__ import annotations

import math

from starlette.datastructures import QueryParams
from starlette.requests import Request

from orchestrator.api import events, logfiles, series
from orchestrator.api.actions import BadRequest
from orchestrator.journal.pages import ENDLESS

TEXT_MOST = 200


def whole(query: QueryParams, name: str, default: int | None, least: int, most: int) -> int | None:
    """A whole number between two. Raises BadRequest, here and below."""
    text = query.get(name)
    if text is None or not text:
        return default
    if not text.isascii() or not text.removeprefix("-").isdecimal() or len(text) > 18:
        raise BadRequest(f"{name}: {text[:40]!r} is no whole number")
    if not least <= int(text) <= most:
        raise BadRequest(f"{name}: must be between {least} and {most}")
    return int(text)


def number(query: QueryParams, name: str) -> float | None:
    """A finite number."""
    text = query.get(name)
    if text is None or not text:
        return None
    try:
        value = float(text[:40])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadRequest(f"{name}: {text[:40]!r} is no number")
    return value


def _count(query: QueryParams, name: str, default: int, least: int, most: int) -> int:
    found = whole(query, name, default, least, most)
    return default if found is None else found


def chart(query: QueryParams) -> series.Asked:
    """What `/series` is asked."""
    names = tuple(dict.fromkeys(name for name in query.get("names", "loss").split(",") if name))
    unknown = [name for name in names if name not in series.UNITS]
    if unknown or not names:
        raise BadRequest(f"names: no series {unknown[0][:40] if unknown else ''!r}; there is {', '.join(series.UNITS)}")
    points = _count(query, "points", series.POINTS, series.POINTS_LEAST, series.POINTS_MOST)
    return series.Asked(names=names, start=number(query, "from"), end=number(query, "to"), points=points)


def happened(query: QueryParams) -> events.Asked:
    """What `/events` is asked."""
    return events.Asked(
        after=_count(query, "after", 0, 0, ENDLESS),
        before=_count(query, "before", ENDLESS, 0, ENDLESS),
        limit=_count(query, "limit", events.LIMIT, 1, events.LIMIT_MOST),
        everything=query.get("all") == "1",
        kinds=tuple(kind for kind in query.get("kind", "")[:1000].split(",") if kind),
    )


def log_lines(query: QueryParams) -> logfiles.Wanted:
    """What `/logs/lines` is asked."""
    text = query.get("grep", "")
    if len(text) > TEXT_MOST:
        raise BadRequest(f"grep: must be at most {TEXT_MOST} characters")
    name = "limit" if "limit" in query else "tail"
    return logfiles.Wanted(
        count=_count(query, name, logfiles.LINES, 1, logfiles.LINES_MOST),
        start=whole(query, "from", None, 0, ENDLESS),
        before=whole(query, "before", None, 0, ENDLESS),
        text=text,
    )


def places(query: QueryParams) -> dict[str, int | None]:
    """Which attempt, node, world, rank."""
    return {name: whole(query, name, None, 0, 10**9) for name in ("attempt", "node", "world", "rank")}


def run_of(request: Request) -> str:
    """The run that an address names."""
    return str(request.path_params["run"])
