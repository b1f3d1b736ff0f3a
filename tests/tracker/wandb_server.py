"""A small W&B server with state of its own, for the real client to talk to: runs, histories, alerts, the Stop button.

It answers the operations that wandb 0.31 sends (GraphQL by its operation's name, the file stream, uploads) as the real
one does where that was seen, and can be away: answering with 500, never answering, or refusing to rewind or to fork.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

ENTITY = "crew"
KEY = "0123456789" * 4
HISTORY = "wandb-history.jsonl"
PROJECT = {"id": "p", "name": "keep", "entity": {"id": "e", "name": ENTITY}}


@dataclass
class Run:
    """What the server has of one run."""

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    group: str | None = None
    display: str = ""
    state: str = "running"
    lines: list[str] = field(default_factory=list)
    """of the history, as they came"""
    summary: dict[str, Any] = field(default_factory=dict)
    rewound: list[int] = field(default_factory=list)
    """steps that it was rewound to"""
    stopped: bool = False
    """somebody pressed the Stop button"""

    @property
    def history(self) -> list[dict[str, Any]]:
        """Its rows."""
        return [json.loads(line) for line in self.lines]

    @property
    def last_step(self) -> int:
        """Of its history; -1 before the first."""
        return int(self.history[-1]["_step"]) if self.lines else -1


class Server:
    """One server; `with Server() as server:` listens until the end."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.alerts: list[dict[str, Any]] = []
        self.fault = ""
        """`500`, `hang`; empty: it is well"""
        self.can_rewind = True
        self.can_fork = True
        self.asked: list[str] = []
        """operations, in the order in which they came"""
        self.keys: set[str] = set()
        """API keys that were shown"""
        self._lock = threading.RLock()
        self._http: ThreadingHTTPServer | None = None
        self._port = 0
        self._over = threading.Event()

    @property
    def url(self) -> str:
        """What WANDB_BASE_URL is to say."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.close()

    def open(self) -> None:
        """Listen, at the same port as before."""
        server = self

        class Handler(_Handler):
            of = server

        ThreadingHTTPServer.allow_reuse_address = True
        self._http = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self._port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Be gone: connections are refused."""
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    def rows(self, run: str, key: str) -> list[Any]:
        """The values of one key in the history of a run, in order."""
        with self._lock:
            return [row[key] for row in self.runs[run].history if key in row] if run in self.runs else []

    def wait(self, until: Any, within_s: float = 60.0) -> None:
        """Until `until(self)` holds."""
        deadline = time.monotonic() + within_s
        while True:
            with self._lock:
                if until(self):
                    return
            assert time.monotonic() < deadline, f"the server has: {self.runs}, {self.alerts}"
            time.sleep(0.02)

    # What it answers

    def answer(self, operation: str, values: dict[str, Any]) -> dict[str, Any]:
        """The data of one GraphQL operation, or its errors."""
        with self._lock:
            self.asked.append(operation)
            known = getattr(self, f"_{re.sub(r'(?<!^)(?=[A-Z])', '_', operation).lower()}", None)
            return {"data": {}} if known is None else known(values)

    def _viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        viewer = {"id": "u", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}}
        return {"data": {"viewer": viewer, "serverInfo": {"cliVersionInfo": {}, "features": []}}}

    def _server_features_query(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"data": {"serverInfo": {"features": []}}}

    def _upsert_bucket(self, values: dict[str, Any]) -> dict[str, Any]:
        name = values["name"]
        new = name not in self.runs
        config = json.loads(values.get("config") or "{}")
        branch = (config.get("_wandb", {}).get("value") or {}).get("branch_point")
        if new and branch is not None:
            if not self.can_fork:
                return {"errors": [{"message": "forking is not enabled"}]}
            origin = self.runs[branch["run_id"]]
            kept = [line for line in origin.lines if json.loads(line)["_step"] <= branch["step"]]
            self.runs[name] = Run(name=name, lines=kept)
        run = self.runs.setdefault(name, Run(name=name))
        run.config.update(config)
        run.tags = values.get("tags") or run.tags
        run.group = values.get("groupName") or run.group
        run.display = values.get("displayName") or run.display or name
        run.state = values.get("state") or "running"
        return {"data": {"upsertBucket": {"bucket": self._bucket(run), "inserted": new}}}

    def _bucket(self, run: Run) -> dict[str, Any]:
        return {
            "id": f"id-{run.name}",
            "name": run.name,
            "displayName": run.display,
            "description": None,
            "config": json.dumps(run.config),
            "sweepName": None,
            "project": PROJECT,
            "historyLineCount": len(run.lines),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "historyTail": json.dumps(run.lines[-1:]),
            "eventsTail": "[]",
            "summaryMetrics": json.dumps({**run.summary, **({"_step": run.last_step} if run.lines else {})}),
            "tags": run.tags,
            "wandbConfig": json.dumps({"t": 1}),
        }

    def _run_resume_status(self, values: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(values["name"])
        model = {"id": "p", "name": PROJECT["name"], "bucket": None if run is None else self._bucket(run)}
        return {"data": {"model": model}}

    def _rewind_run(self, values: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(values["runName"])
        if not self.can_rewind or run is None:
            return {"errors": [{"message": "rewind is not yet available in self-managed"}]}
        to = int(values["metricValue"])
        run.lines = [line for line in run.lines if json.loads(line)["_step"] <= to]
        run.rewound.append(to)
        return {"data": {"rewindRun": {"rewoundRun": self._bucket(run)}}}

    def _notify_scriptable_run_alert(self, values: dict[str, Any]) -> dict[str, Any]:
        self.alerts.append(values)
        return {"data": {"notifyScriptableRunAlert": {"success": True}}}

    def _create_run_files(self, values: dict[str, Any]) -> dict[str, Any]:
        made = [{"name": name, "uploadUrl": f"{self.url}/put/{name}"} for name in values["files"]]
        created = {"runID": values["run"], "uploadHeaders": [], "files": made}
        return {"data": {"createRunFiles": created}}

    def stream(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Take in what the file stream brings; offsets count lines, as the real one's do."""
        with self._lock:
            run = self.runs.setdefault(name, Run(name=name))
            for file, part in (body.get("files") or {}).items():
                if file == HISTORY:
                    run.lines[int(part["offset"]) :] = part["content"]
                elif file == "wandb-summary.json":
                    run.summary.update(json.loads(part["content"][-1]))
            if body.get("complete"):
                run.state = "finished" if body.get("exitcode", 0) == 0 else "failed"
            return {"stopped": run.stopped}


class _Handler(BaseHTTPRequestHandler):
    of: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def do_POST(self) -> None:
        """GraphQL, or the file stream."""
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            raw = gzip.decompress(raw)
        if self.of.fault == "hang":
            self.of._over.wait(600.0)
            return
        if self.of.fault == "500":
            self._say({"error": "away"}, 500)
            return
        self._note_key()
        if self.path == "/graphql":
            body = json.loads(raw)
            found = re.search(r"(?:query|mutation)\s+(\w+)", body["query"])
            name = body.get("operationName") or (found.group(1) if found else "")
            self._say(self.of.answer(name, body.get("variables") or {}))
        elif self.path.endswith("/file_stream"):
            self._say(self.of.stream(self.path.split("/")[-2], json.loads(raw)))
        else:
            self._say({})

    def do_PUT(self) -> None:
        """An upload, which nobody looks at."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._say({})

    def handle(self) -> None:
        """A client that is killed leaves without a word."""
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        """Whether there is a server at all."""
        self._say({"ok": True})

    def _note_key(self) -> None:
        import base64

        kind, _, value = (self.headers.get("Authorization") or "").partition(" ")
        if kind == "Basic":
            self.of.keys.add(base64.b64decode(value).decode().partition(":")[2])

    def _say(self, body: dict[str, Any], status: int = 200) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
