"""Who may scrape from another machine? Whoever has a token of the dashboard, a viewer's or an operator's."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from threading import Lock

from monitors.clock import Clock
from orchestrator.api.throttle import Throttle
from orchestrator.api.tokens import Tokens

KNOWN_S = 30.0
"""a token that was found right is not checked again for so long: that takes 50 ms, on purpose"""


class Access:
    """Checks tokens; any thread may use it."""

    def __init__(self, tokens: Tokens, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock
        self._throttle = Throttle()
        self._known: dict[bytes, float] = {}
        """digests of right tokens, and until when they are taken for it"""
        self._lock = Lock()

    def check(self, address: str, token: str) -> HTTPStatus:
        """OK, UNAUTHORIZED, or TOO_MANY_REQUESTS after wrong tokens from that address. Raises TokenError."""
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        with self._lock:
            now = self._clock.now()
            if now < self._known.get(digest, 0.0):
                return HTTPStatus.OK
            if not token:
                return HTTPStatus.UNAUTHORIZED
            if self._throttle.wait_s(address, now):
                return HTTPStatus.TOO_MANY_REQUESTS
            if self._tokens.login(token, now) is None:
                self._throttle.failed(address, now)
                return HTTPStatus.UNAUTHORIZED
            self._known = {one: until for one, until in self._known.items() if now < until} | {digest: now + KNOWN_S}
            return HTTPStatus.OK
