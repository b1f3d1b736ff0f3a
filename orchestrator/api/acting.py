"""What is done for whoever writes? Logging in and out, and the actions, which only the supervisor carries out."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orchestrator.api import actions, asking
from orchestrator.api.actions import BadRequest
from orchestrator.api.desk import Missing
from orchestrator.api.guard import COOKIE
from orchestrator.api.ranks import asked
from orchestrator.api.refusing import Refused
from orchestrator.api.server import Server
from orchestrator.api.tokens import SESSION_S, Who
from orchestrator.contract import SCHEMA
from orchestrator.journal.file import code_version

log = logging.getLogger(__name__)


def routes(server: Server) -> list[Route]:
    """All of them."""
    return [
        Route("/api/session", partial(_session, server)),
        Route("/api/login", partial(_login, server), methods=["POST"]),
        Route("/api/logout", _logout, methods=["POST"]),
        Route("/api/runs/{run}/actions/{action}", partial(_act, server), methods=["POST"]),
    ]


async def _session(server: Server, request: Request) -> Response:
    who: Who | None = request.scope["who"]
    return JSONResponse(
        {
            "schema": SCHEMA,
            "login": server.access.login,
            "role": who.role if who else None,
            "name": who.name if who else None,
            "csrf": who.csrf if who else None,
            "version": code_version() if who else None,
            "at": server.clock.now(),
            "host": socket.gethostname() if who else None,
            "supervisor": server.live.supervisor() if who else None,
        }
    )


async def _login(server: Server, request: Request) -> Response:
    address = request.client.host if request.client else ""
    wait_s = server.throttle.wait_s(address, server.clock.now())
    if wait_s > 0:
        raise Refused(429, "wait", f"too many failed logins: try again in {wait_s:.0f} s", wait_s)
    body = await _body(request)
    said = body.get("token") if isinstance(body, dict) else None
    if not isinstance(said, str):
        raise BadRequest("token: must be given")
    # Away from the loop: a guess costs 50 ms, and no viewer should feel it.
    found = await asyncio.to_thread(server.tokens.login, said.strip(), server.clock.now())
    if found is None:
        server.throttle.failed(address, server.clock.now())
        log.warning("a login from %s failed", address)
        raise Refused(401, "login", "that is no token of this server")
    server.throttle.succeeded(address)
    cookie, who = found
    log.info("%s logged in from %s as %s", who.name, address, who.role)
    answer = JSONResponse({"schema": SCHEMA, "role": who.role, "name": who.name})
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, cookie, max_age=int(SESSION_S), path="/", httponly=True, samesite="strict", secure=secure)
    return answer


async def _logout(request: Request) -> Response:  # noqa: ARG001
    answer = JSONResponse({"schema": SCHEMA})
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer


async def _act(server: Server, request: Request) -> Response:
    run, action = asking.run_of(request), str(request.path_params["action"])
    if action not in actions.ACTIONS:
        raise Missing(f"no action '{action[:40]}'; there is {', '.join(actions.ACTIONS)}")
    if not server.live.board.knows(run):
        raise Missing(f"no run '{run[:60]}'")
    fields = actions.read(action, await _body(request))
    who: Who = request.scope["who"]
    by = who.name if server.access.login else "a person"
    await asyncio.to_thread(asked, server.home, actions.request(action, run, fields, by))
    log.info("%s: %s asked for %s", run, by, action)
    done = actions.ACTIONS[action].done
    return JSONResponse({"schema": SCHEMA, "run": run, "done": done, "cli": actions.cli(action, run, fields)})


async def _body(request: Request) -> Any:
    try:
        return json.loads(await request.body() or b"{}")
    except (ValueError, RecursionError):
        raise BadRequest("the body is no JSON") from None
