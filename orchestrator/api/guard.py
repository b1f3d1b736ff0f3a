"""Who is let in? Every request passes here first: its host, its origin, its size, who sends it, and whether they may.

What a browser must never do with our pages is said in the head of each answer.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitors.clock import Clock
from orchestrator.api.bind import LOOPBACK
from orchestrator.api.refusing import Refused, refusal
from orchestrator.api.tokens import Role, Tokens, Who

COOKIE = "lastgood"
CSRF = "x-lastgood-csrf"
BODY_BYTES = 16 * 1024
TARGET_BYTES = 4096
POLICY = "; ".join(
    (
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "font-src 'self'"),
        *("connect-src 'self'", "base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'"),
        "manifest-src 'self'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
HOST = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::\d{1,5})?")
OPEN = frozenset({"/api/session", "/api/login", "/api/logout"})
"""what answers without a login"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How this server is reached."""

    login: bool
    """it wants one"""
    names: frozenset[str]
    """hosts that it is called by, beside loopback's; any IP address is one when `login` is wanted"""


class Guard:
    """The first application that a request meets."""

    def __init__(self, inner: ASGIApp, access: Access, tokens: Tokens, clock: Clock) -> None:
        self._inner = inner
        self._access = access
        self._tokens = tokens
        self._clock = clock
        self._nobody = Who(name="dashboard", role=Role.OPERATOR, csrf=secrets.token_urlsafe(24))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, or answer it with why not."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._inner(scope, receive, send)
            return

        async def said(message: Message) -> None:
            if message["type"] == "http.response.start":
                _say(MutableHeaders(scope=message), str(scope["path"]))
            await send(message)

        try:
            self._check(scope, Headers(scope=scope))
            bounded = _Bounded(receive)
            await self._inner(scope, bounded.receive, said)
        except Refused as error:
            await refusal(error)(scope, receive, said)

    def _check(self, scope: Scope, headers: Headers) -> None:
        if len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"") > TARGET_BYTES:
            raise Refused(400, "usage", "the address is too long")
        if not self._is_ours(headers.get("host", "")):
            raise Refused(421, "host", "this server is not called by that name: see `lastgood dashboard --help`")
        path, method = str(scope["path"]), str(scope["method"])
        if method not in ("GET", "HEAD", "POST"):
            raise Refused(405, "usage", f"{method[:20]} says nothing here")
        scope["who"] = who = self._who(headers)
        if not path.startswith("/api/"):
            return
        if method == "POST" or headers.get("sec-fetch-site") == "cross-site":
            _from_here(headers)
        if who is None and path not in OPEN:
            raise Refused(401, "login", "log in first")
        if method == "POST":
            _posted(headers)
            if path not in OPEN:
                _may_act(headers, who)

    def _who(self, headers: Headers) -> Who | None:
        if not self._access.login:
            return self._nobody
        try:
            cookies: SimpleCookie = SimpleCookie(headers.get("cookie", "")[:4096])
        except CookieError:
            return None
        morsel = cookies.get(COOKIE)
        return self._tokens.session(morsel.value, self._clock.now()) if morsel else None

    def _is_ours(self, host: str) -> bool:
        """A name of somebody else's that leads here is how a page elsewhere would read ours (DNS rebinding)."""
        name = _name(host)
        if name in LOOPBACK or name in self._access.names:
            return True
        return self._access.login and _is_address(name)


def _name(host: str) -> str:
    """The name in a Host header, without its port; empty when it is none."""
    found = HOST.fullmatch(host.lower())
    return (found["six"] or found["name"]).rstrip(".") if found else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _from_here(headers: Headers) -> None:
    """Raises Refused for what a page of another server sends."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    same = origin is None or origin.partition("://")[2] == headers.get("host")
    if site not in (None, "same-origin", "none") or not same:
        raise Refused(403, "cross_site", "this did not come from a page of this server")


def _posted(headers: Headers) -> None:
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(400, "usage", "Content-Type must be application/json")
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdecimal():
        raise Refused(400, "usage", "Content-Length is no number")
    if len(length) > 9 or int(length) > BODY_BYTES:
        raise Refused(413, "too_large", f"a body is at most {BODY_BYTES} bytes")


def _may_act(headers: Headers, who: Who | None) -> None:
    if who is None or not _same(headers.get(CSRF, ""), who.csrf):
        raise Refused(
            403, "cross_site", "the header X-Lastgood-CSRF is missing, or of another session: reload the page"
        )
    if who.role is not Role.OPERATOR:
        raise Refused(403, "forbidden", f"{who.name} is a viewer, and a viewer cannot act: ask an operator")


def _same(said: str, right: str) -> bool:
    return hmac.compare_digest(said.encode(errors="replace"), right.encode())


class _Bounded:
    """A body that is longer than it may be, whatever its head says, is read no further."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._read = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._read += len(message.get("body", b""))
        if self._read > BODY_BYTES:
            raise Refused(413, "too_large", f"a body is at most {BODY_BYTES} bytes")
        return message


def _say(headers: MutableHeaders, path: str) -> None:
    for name, value in HEADERS.items():
        headers[name] = value
    if "cache-control" not in headers:
        headers["cache-control"] = "no-cache" if path.startswith("/static/") else "no-store, private"
