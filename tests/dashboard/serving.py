"""How does a stand-in reach a browser? The real pages, with the real server's policy, its answers, and a stream."""

from __future__ import annotations

import json
import queue
import threading
import time
from abc import ABC, abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from tests.dashboard import made

PAGES = Path(__file__).parents[2] / "orchestrator" / "dashboard"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

Told = tuple[str, Any] | None
"""name and data of an event; None: the stream ends"""
LISTENS_WITHIN_S = 20.0
"""on a loaded machine"""


class Served(ABC):
    """A server on a port of its own; what it answers is for the class below to say."""

    session: dict[str, Any]
    token: str

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.streams: list[tuple[str, queue.Queue[Told]]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"fake": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @abstractmethod
    def answer(self, path: str, query: dict[str, str]) -> dict[str, Any] | None:
        """The body of a GET, or None: there is no such thing."""

    @abstractmethod
    def act(self, run: str, action: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """What comes of an action."""

    def close(self) -> None:
        """Ends the streams and the server."""
        self.drop()
        self._server.shutdown()
        self._server.server_close()

    def drop(self) -> None:
        """Ends all streams, as a server does that is started anew."""
        for _, listener in self.streams:
            listener.put(None)
        self.streams.clear()

    def tell(self, name: str, data: Any, *, asked: str = "") -> None:
        """An event to every page, once one listens that `asked` for it: what it has read says nothing of its stream."""
        until = time.monotonic() + LISTENS_WITHIN_S
        while not any(asked in query for query, _ in tuple(self.streams)):
            assert time.monotonic() < until, f"no page listens {asked}"
            time.sleep(0.01)
        for _, listener in tuple(self.streams):
            listener.put((name, data))

    def login(self, token: str) -> tuple[int, dict[str, Any]]:
        """Lets in whoever has the token."""
        if token != self.token:
            return 401, {"error": "This token is not known.", "code": "login"}
        self.session |= {"role": "operator", "name": "ada", "csrf": "c5rf"}
        return 200, {"role": "operator", "name": "ada"}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    fake: ClassVar[Served]

    def do_GET(self) -> None:
        """A page, a file, an answer, or the stream."""
        url = urlsplit(self.path)
        self.fake.asked.append(self.path)
        if url.path == "/api/stream":
            self._stream(url.query)
        elif url.path.startswith("/api/"):
            self._json(url.path, {name: values[-1] for name, values in parse_qs(url.query).items()})
        else:
            self._file(unquote(url.path))

    def do_POST(self) -> None:
        """A login, or an action."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        match self.path.removeprefix("/api/").split("/"):
            case ["login"]:
                self._send(*self.fake.login(body["token"]))
            case ["logout"]:
                self.fake.session |= {"role": None, "name": None, "csrf": None}
                self._send(200, {})
            case ["runs", run, "actions", action] if self.headers["X-Lastgood-CSRF"] == "c5rf":
                self._send(*self.fake.act(unquote(run), action, body))
            case _:
                self._send(403, {"error": "cross-site", "code": "cross_site"})

    def _json(self, path: str, query: dict[str, str]) -> None:
        if self.fake.session["role"] is None and path != "/api/session":
            return self._send(401, {"error": "Log in.", "code": "login"})
        body = self.fake.answer(path, query)
        if body is None:
            return self._send(404, {"error": f"There is nothing at {path}.", "code": "not_found"})
        return self._send(200, body)

    def _send(self, status: int, body: dict[str, Any]) -> None:
        self._write(status, "application/json", json.dumps({"schema": "lastgood/1", **body}).encode())

    def _file(self, path: str) -> None:
        file = PAGES / path.removeprefix("/static/") if path.startswith("/static/") else PAGES / "index.html"
        if file.is_file():
            self._write(200, TYPES[file.suffix], file.read_bytes())
        else:
            self._write(404, "text/plain", b"no such file")

    def _write(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, query: str) -> None:
        listener: queue.Queue[Told] = queue.Queue()
        listener.put(("hello", {"at": made.NOW, "version": "0.2.0", "cursor": "1"}))
        self.fake.streams.append((query, listener))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            self.wfile.write(b"retry: 200\n\n")
            while (item := listener.get()) is not None:
                name, data = item
                self.wfile.write(f"event: {name}\nid: 1\ndata: {json.dumps(data)}\n\n".encode())
        except OSError:
            pass  # the page went away

    def log_message(self, *_: Any) -> None:
        """Says nothing."""
