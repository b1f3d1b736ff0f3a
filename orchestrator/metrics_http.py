"""Who may read the metrics, and how? A small server: one page, a token where it can be reached from elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from threading import BoundedSemaphore
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

from orchestrator.metrics_access import Access

log = logging.getLogger(__name__)

READERS_MAX = 16
"""answered at once; who comes then is sent away, and comes again"""
SLOW_S = 10.0
"""for a reader to say what it wants, and to take it"""
Page = Callable[[str], tuple[bytes, str]]
"""what the reader accepts, to the body and its type; raises TimeoutError when it cannot be made in time"""


class Server(ThreadingMixIn, WSGIServer):
    """Each reader has a thread, so that a slow one keeps nobody waiting."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(self, address: tuple[str, int], page: Page, access: Access | None) -> None:
        """`access`: None: nobody is asked for a token."""
        self._free = BoundedSemaphore(READERS_MAX)
        super().__init__(address, _Handler)
        self.set_app(_App(page, access))

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Whether there is a place for one more."""
        return self._free.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and give the place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A reader that went away is no news."""
        log.info("a reader at %s was not answered", client_address, exc_info=True)


class _Handler(WSGIRequestHandler):
    timeout = SLOW_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """A line every few seconds would be all that the log has; and a path may hold a secret."""


class _App:
    def __init__(self, page: Page, access: Access | None) -> None:
        self._page = page
        self._access = access

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _refused(start, HTTPStatus.METHOD_NOT_ALLOWED, ("Allow", "GET, HEAD"))
        if environ["PATH_INFO"] not in ("/metrics", "/"):
            return _refused(start, HTTPStatus.NOT_FOUND)
        allowed = (
            HTTPStatus.OK if self._access is None else self._access.check(environ["REMOTE_ADDR"], _bearer(environ))
        )
        if allowed is not HTTPStatus.OK:
            return _refused(start, allowed, ("WWW-Authenticate", "Bearer"))
        try:
            body, kind = self._page(environ.get("HTTP_ACCEPT", ""))
        except TimeoutError:
            return _refused(start, HTTPStatus.SERVICE_UNAVAILABLE)
        start(_line(HTTPStatus.OK), [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body if environ["REQUEST_METHOD"] == "GET" else b""]


def _bearer(environ: WSGIEnvironment) -> str:
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _refused(start: StartResponse, status: HTTPStatus, *headers: tuple[str, str]) -> Iterable[bytes]:
    body = f"{status.phrase}\n".encode()
    start(_line(status), [*headers, ("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def _line(status: HTTPStatus) -> str:
    return f"{status.value} {status.phrase}"
