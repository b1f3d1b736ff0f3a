"""How do the parts answer together? The routes, the errors, and the guard before all of them."""

from __future__ import annotations

from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from orchestrator.api import acting, reading
from orchestrator.api.actions import BadRequest
from orchestrator.api.desk import Missing
from orchestrator.api.files import Files
from orchestrator.api.guard import Guard
from orchestrator.api.hub import EVERYBODY, Crowded, event
from orchestrator.api.logfiles import NoLog
from orchestrator.api.ranks import Unknown
from orchestrator.api.refusing import Refused, refusal
from orchestrator.api.server import Server
from orchestrator.api.streaming import Stream
from orchestrator.api.tokens import TokenError
from orchestrator.journal import JournalUnavailable

PAGES = (
    *("/", "/runs", "/runs/{run}", "/runs/{run}/{tab}", "/runs/{run}/incidents/{id}"),
    *("/nodes", "/alerts", "/reports", "/login"),
)
"""addresses of the one page, which reads its own"""
CROWDED_S = 10.0


def application(server: Server) -> ASGIApp:
    """The server as uvicorn runs it."""
    inner = Starlette(
        routes=[
            *acting.routes(server),
            *reading.routes(server),
            Route("/api/stream", partial(_stream, server)),
            Route("/static/{path:path}", partial(_file, server.files)),
            *(Route(path, partial(_page, server.files)) for path in PAGES),
        ],
        exception_handlers=dict.fromkeys(_REFUSALS, _refuse) | {HTTPException: _refuse},
    )
    inner.router.redirect_slashes = False
    return Guard(inner, server.access, server.tokens, server.clock)


_REFUSALS: dict[type[Exception], tuple[int, str]] = {
    BadRequest: (400, "usage"),
    Missing: (404, "not_found"),
    NoLog: (404, "not_found"),
    JournalUnavailable: (503, "no_journal"),
    TokenError: (503, "tokens"),
    Unknown: (409, ""),
    Refused: (0, ""),
}


async def _refuse(_: Request, error: Exception) -> Response:
    return refusal(_refused(error))


def _refused(error: Exception) -> Refused:
    match error:
        case Refused():
            return error
        case Unknown(code="no_supervisor"):
            return Refused(503, error.code, str(error))
        case Unknown(code="not_found"):
            return Refused(404, error.code, str(error))
        case Unknown():
            return Refused(409, error.code, str(error))
        case HTTPException():
            return Refused(error.status_code, "not_found" if error.status_code == 404 else "usage", error.detail)
    status, code = next(row for kind, row in _REFUSALS.items() if isinstance(error, kind))
    return Refused(status, code, str(error.args[0]) if error.args else str(error))


async def _stream(server: Server, request: Request) -> Stream:
    run = request.query_params.get("run")
    if run and not server.live.board.knows(run):
        raise Missing(f"no run '{run[:60]}'")
    topics = [EVERYBODY, *([run] if run else [])]
    if run and request.query_params.get("ranks") == "1":
        topics.append(f"{run}/ranks")
    since = request.headers.get("last-event-id") or request.query_params.get("after")
    hub = server.live.hub
    try:
        viewer, missed = hub.join(topics, since[:64] if since else None)
    except Crowded:
        raise Refused(429, "wait", "there are as many viewers as there may be", CROWDED_S) from None
    hello = server.live.hello()
    first = event("hello", hub.cursor, hello)
    if missed:
        first += event("reset", hub.cursor, {"at": hello["at"], "cursor": hub.cursor})
    return Stream(hub, viewer, first)


async def _file(files: Files, request: Request) -> Response:
    return _answer(files, request, str(request.path_params["path"]))


async def _page(files: Files, request: Request) -> Response:
    return _answer(files, request, "index.html")


def _answer(files: Files, request: Request, path: str) -> Response:
    found = files.find(path)
    if found is None:
        raise Missing("no such file")
    headers = {"etag": found.etag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == found.etag:
        return Response(status_code=304, headers=headers)
    return Response(found.body, headers=headers, media_type=found.media_type)
