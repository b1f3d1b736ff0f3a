"""What is answered to whoever reads? Each `GET` of docs/dashboard.md, but for the stream and the files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator import contract_money
from orchestrator.alerts.shown import shown
from orchestrator.api import asking, events, fleet, lanes, logfiles, page, series
from orchestrator.api.desk import Body, Desk, Missing
from orchestrator.api.live import Live
from orchestrator.api.ranks import Ranks
from orchestrator.api.server import Server
from orchestrator.api.tokens import Role

REPORT_S = 60.0
"""it reads the journals of all runs"""

Work = Callable[[Desk, str], dict[str, Any]]
Endpoint = Callable[[Request], Awaitable[Response]]


def routes(server: Server) -> list[Route]:
    """All of them."""
    of_run: dict[str, Callable[[Request], Work]] = {
        "timeline": _timeline,
        "series": _series,
        "events": _events,
        "logs": _logs,
        "logs/lines": _lines,
        "checkpoints": lambda _: page.checkpoints,
        "config": lambda _: page.config,
    }
    found = [Route(f"/api/runs/{{run}}/{name}", _shared(server, parse)) for name, parse in of_run.items()]
    return [
        *found,
        Route("/api/home", partial(_home, server.live)),
        Route("/api/runs/{run}", partial(_run, server)),
        Route("/api/runs/{run}/incidents/{id}", partial(_incident, server)),
        Route("/api/runs/{run}/ranks", partial(_ranks, server.live, server.ranks)),
        Route("/api/nodes", partial(_nodes, server)),
        Route("/api/alerts", partial(_alerts, server)),
        Route("/api/reports", partial(_reports, server.desk)),
    ]


def answer(request: Request, body: Body) -> Response:
    """A body, or that it is still the one that the browser has."""
    if request.headers.get("if-none-match") == body.etag:
        return Response(status_code=304, headers={"etag": body.etag})
    return Response(body.text, headers={"etag": body.etag}, media_type="application/json")


def _shared(server: Server, parse: Callable[[Request], Work]) -> Endpoint:
    """An answer of the desk that is the same for everybody."""

    async def endpoint(request: Request) -> Response:
        run, work = asking.run_of(request), parse(request)
        key, edition = f"{request.url.path}?{request.url.query}", server.live.edition(run)
        return answer(request, await server.desk.shared(key, lambda: work(server.desk, run), edition=edition))

    return endpoint


async def _home(live: Live, request: Request) -> Response:
    return answer(request, live.home())


def _role(request: Request) -> Role:
    who = request.scope["who"]
    assert who is not None, "the guard lets nobody through"
    role: Role = who.role
    return role


async def _run(server: Server, request: Request) -> Response:
    run, role = asking.run_of(request), _role(request)
    row, cursor = server.live.row(run), server.live.hub.cursor
    work = lambda: page.run(server.desk, run, row, cursor, role)  # noqa: E731
    return answer(request, await server.desk.shared(f"run {run} {role}", work, edition=server.live.edition(run)))


async def _incident(server: Server, request: Request) -> Response:
    run, role, id_ = asking.run_of(request), _role(request), str(request.path_params["id"])
    cursor = server.live.hub.cursor
    work = lambda: page.incident(server.desk, run, id_, cursor, role)  # noqa: E731
    key, edition = f"incident {run} {id_} {role}", server.live.edition(run)
    return answer(request, await server.desk.shared(key, work, edition=edition))


async def _ranks(live: Live, ranks: Ranks, request: Request) -> Response:
    run = asking.run_of(request)
    if not live.board.knows(run):
        raise Missing(f"no run '{run[:60]}'")
    return answer(request, Body(await ranks.table(run)))


async def _nodes(server: Server, request: Request) -> Response:
    desk = server.desk
    return answer(request, await desk.shared("nodes", lambda: fleet.nodes(desk), edition=server.live.edition()))


async def _alerts(server: Server, request: Request) -> Response:
    desk = server.desk
    work = lambda: shown(desk.home, desk.clock.now())  # noqa: E731
    return answer(request, await desk.shared("alerts", work, edition=server.live.edition()))


async def _reports(desk: Desk, request: Request) -> Response:
    days = asking.whole(request.query_params, "days", 7, 1, 366) or 7
    work = lambda: contract_money.report(desk.journal, days, desk.clock.now())  # noqa: E731
    return answer(request, await desk.shared(f"report {days}", work, shared_s=REPORT_S))


def _timeline(request: Request) -> Work:
    query = request.query_params
    start, end, least_s = (asking.number(query, name) for name in ("from", "to", "least_s"))

    def work(desk: Desk, run: str) -> dict[str, Any]:
        course, state = desk.course(run), desk.state(run)
        policy = state.policy if state is not None else None
        return lanes.answer(course, policy, desk.clock.now(), start=start, end=end, least_s=least_s)

    return work


def _series(request: Request) -> Work:
    asked = asking.chart(request.query_params)
    return lambda desk, run: series.answer(asked, desk.course(run), desk.rows(run), desk.journal)


def _events(request: Request) -> Work:
    asked = asking.happened(request.query_params)

    def work(desk: Desk, run: str) -> dict[str, Any]:
        course = desk.course(run)
        return events.page(asked, run, desk.journal, course.timeline(), course.read_to)

    return work


def _logs(request: Request) -> Work:
    places = asking.places(request.query_params)

    def work(desk: Desk, run: str) -> dict[str, Any]:
        culprit = _culprit(desk, run)
        found = logfiles.sources(desk.home.root, run, **places)
        told = [one.plain(_is_of(one, culprit)) for one in found[: logfiles.SOURCES_MOST] if one.path.exists()]
        told.sort(key=lambda one: not one["culprit"])
        return {"sources": told, "more": max(0, len(found) - logfiles.SOURCES_MOST), "culprit": culprit}

    return work


def _culprit(desk: Desk, run: str) -> dict[str, Any] | None:
    cases = [case for case in desk.course(run).timeline().cases if case.incident.subject.rank is not None]
    if not cases:
        return None
    last = cases[-1]
    return {"incident": last.id, "rank": last.incident.subject.rank, "world": last.incident.world}


def _is_of(source: logfiles.Source, culprit: dict[str, Any] | None) -> bool:
    return culprit is not None and (source.rank, source.world) == (culprit["rank"], culprit["world"])


def _lines(request: Request) -> Work:
    name, wanted = request.query_params.get("source", "")[:200], asking.log_lines(request.query_params)

    def work(desk: Desk, run: str) -> dict[str, Any]:
        desk.submission(run)
        found = logfiles.source(desk.home.root, run, name)
        told = logfiles.lines(desk.home.root, run, found, wanted)
        return {"source": found.plain(_is_of(found, _culprit(desk, run)))} | told

    return work
