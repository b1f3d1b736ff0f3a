"""PagerDuty, Slack, an Alertmanager, a webhook and a mail server, each with a memory: real servers on this host.

What a service does next is told beforehand: hang, close the connection, answer an error. Then it works again.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message as Mail
from email.policy import default as modern
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HANG, CLOSE = "hang", "close"
Fault = str | int | tuple[int, dict[str, str]]


@dataclass(slots=True)
class Asked:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Service:
    """What all have: an address, a memory, faults to come."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    """requests that it took"""
    tries: list[Asked] = field(default_factory=list)
    """and all others"""
    faults: deque[Fault] = field(default_factory=deque)
    down: Fault | None = None
    """every request meets this, until it is None again"""
    released: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, asked: Asked) -> tuple[int, Any]:
        """Answer a request: status and JSON."""
        raise AssertionError(f"which service takes {asked.path}?")


class Hook(Service):
    """A program of somebody's own."""

    def take(self, asked: Asked) -> tuple[int, Any]:
        return 200, {"took": len(asked.body)}

    @property
    def told(self) -> list[dict[str, Any]]:
        """The messages, as they came."""
        with self.lock:
            return [asked.json for asked in self.asked]


@dataclass
class PagerDuty(Service):
    """Events v2: incidents by dedup_key."""

    key: str = "R" * 32
    incidents: dict[str, list[str]] = field(default_factory=dict)
    """what happened to each"""

    def take(self, asked: Asked) -> tuple[int, Any]:
        event = asked.json
        if event.get("routing_key") != self.key:
            return 400, {"status": "invalid event", "message": "Event object is invalid", "errors": ["routing_key"]}
        action, dedup = event["event_action"], event["dedup_key"]
        if len(dedup) > 255 or action not in ("trigger", "acknowledge", "resolve"):
            return 400, {"status": "invalid event"}
        if action == "trigger":
            payload = event["payload"]
            assert set(payload) >= {"summary", "source", "severity"}
            assert len(payload["summary"]) <= 1024
            assert payload["severity"] in ("critical", "error", "warning", "info")
        states = self.incidents.setdefault(dedup, [])
        if action == "trigger" or states:  # what is not open cannot be resolved, and that is no error there
            states.append(action)
        return 202, {"status": "success", "dedup_key": dedup}


@dataclass
class Slack(Service):
    """chat.postMessage and chat.update."""

    token: str = "xoxb-secret"
    threads: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """ts of the first message: it as it is now, and its replies"""
    count: int = 0

    def take(self, asked: Asked) -> tuple[int, Any]:
        body = asked.json
        if asked.path.startswith("/hook"):
            self.threads[str(len(self.threads))] = [body]
            return 200, {"ok": True}
        if asked.headers.get("Authorization") != f"Bearer {self.token}":
            return 200, {"ok": False, "error": "invalid_auth"}
        for block in body["blocks"]:
            assert block["text"]["type"] == "plain_text"
            assert len(block["text"]["text"]) <= (150 if block["type"] == "header" else 3000)
        if asked.path == "/chat.update":
            if body["ts"] not in self.threads:
                return 200, {"ok": False, "error": "message_not_found"}
            self.threads[body["ts"]][0] = body
            return 200, {"ok": True, "channel": body["channel"], "ts": body["ts"]}
        self.count += 1
        ts = f"1700000000.{self.count:06d}"
        self.threads.setdefault(body.get("thread_ts", ts), []).append(body)
        return 200, {"ok": True, "channel": "C1", "ts": ts}


@dataclass
class Alertmanager(Service):
    """API v2, in memory: alerts by their labels."""

    alerts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def take(self, asked: Asked) -> tuple[int, Any]:
        if asked.path != "/api/v2/alerts":
            return 404, {}
        for alert in asked.json:
            assert all(isinstance(value, str) and value for value in alert["labels"].values())
            assert alert["labels"]["alertname"]
            if not alert["startsAt"] < alert["endsAt"]:
                return 400, {"error": "start time must be before end time"}
            self.alerts[json.dumps(alert["labels"], sort_keys=True)] = alert
        return 200, {}


def handler_of(service: Service) -> type[BaseHTTPRequestHandler]:
    """What meets each request."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = Asked(
                path=self.path,
                headers=dict(self.headers.items()),
                body=self.rfile.read(int(self.headers.get("Content-Length", 0))),
                at=time.time(),
            )
            with service.lock:
                service.tries.append(asked)
                fault = service.faults.popleft() if service.faults else service.down
                if fault is None:
                    status, answer = service.take(asked)
                    if status < 300:
                        service.asked.append(asked)
                    return self._answer(status, answer, {})
            return self._fail(fault)

        do_GET = do_POST  # noqa: N815 - the library's name

        def _fail(self, fault: Fault) -> None:
            if fault == HANG:
                service.released.wait(60)
                self.close_connection = True
            elif fault == CLOSE:
                self.close_connection = True
            elif isinstance(fault, tuple):
                self._answer(fault[0], {"message": "not now"}, fault[1])
            else:
                self._answer(int(fault), {"message": "broken"}, {})

        def _answer(self, status: int, answer: Any, headers: dict[str, str]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def served(service: Service) -> Iterator[Service]:
    """The service, on a port of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(service))
    server.daemon_threads = True
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield service
    finally:
        service.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Post:
    """A mail server: what it took, and how it answers."""

    port: int = 0
    mails: list[Mail] = field(default_factory=list)
    answers: deque[str] = field(default_factory=deque)
    """of RCPT TO, before it takes anybody again"""
    user: tuple[str, str] | None = None
    context: ssl.SSLContext | None = None


@contextmanager
def post_office(post: Post) -> Iterator[Post]:
    """The mail server, on a port of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    post.port = listener.getsockname()[1]

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_talk, args=(connection, post), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield post
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _talk(connection: socket.socket, post: Post) -> None:
    talk = _Talk(connection, post)
    with suppress(OSError):
        talk.talk()
    talk.close()


class _Talk:
    """One client's conversation."""

    def __init__(self, connection: socket.socket, post: Post) -> None:
        self._connection = connection
        self._post = post
        self._file = connection.makefile("rb")
        self._known = post.user is None

    def talk(self) -> None:
        self._say("220 here")
        while line := self._file.readline():
            word, _, rest = line.decode("latin-1").strip().partition(" ")
            if not self._answer(word.upper(), rest):
                return

    def close(self) -> None:
        """Hang up."""
        for end in (self._file, self._connection):
            with suppress(OSError):
                end.close()

    def _say(self, text: str) -> None:
        self._connection.sendall(f"{text}\r\n".encode())

    def _answer(self, word: str, rest: str) -> bool:
        match word:
            case "EHLO" | "HELO":
                more = ["STARTTLS"] if self._post.context and not isinstance(self._connection, ssl.SSLSocket) else []
                lines = ["here", "8BITMIME", *more, "AUTH PLAIN"]
                self._say("\r\n".join(f"250{'-' if at < len(lines) - 1 else ' '}{t}" for at, t in enumerate(lines)))
            case "STARTTLS":
                assert self._post.context is not None
                self._say("220 go on")
                self._file.close()
                self._connection = self._post.context.wrap_socket(self._connection, server_side=True)
                self._file = self._connection.makefile("rb")
            case "AUTH":
                said = base64.b64decode(rest.partition(" ")[2]).decode().split("\0")[1:]
                self._known = tuple(said) == self._post.user
                self._say("235 welcome" if self._known else "535 who are you?")
            case "MAIL" | "RSET" | "NOOP":
                self._say("250 ok" if self._known else "530 authentication required")
            case "RCPT":
                self._say(self._post.answers.popleft() if self._post.answers else "250 ok")
            case "DATA":
                self._say("354 go on")
                self._take()
                self._say("250 taken")
            case "QUIT":
                self._say("221 bye")
                return False
            case _:
                self._say("502 no")
        return True

    def _take(self) -> None:
        lines = []
        while (line := self._file.readline()) not in (b".\r\n", b""):
            lines.append(line[1:] if line.startswith(b"..") else line)
        self._post.mails.append(message_from_bytes(b"".join(lines), policy=modern))


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed one for localhost: (certificate, key)."""
    import subprocess

    cert, key = folder / "cert.pem", folder / "key.pem"
    subject = "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    words = f"req -x509 -newkey rsa:2048 -nodes -days 2 {subject} -keyout {key} -out {cert}"
    subprocess.run(["openssl", *words.split()], check=True, capture_output=True)
    return cert, key
