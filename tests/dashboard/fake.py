"""What if the server of the dashboard said this? A stand-in with state, for what a real run does not show on demand."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from tests.dashboard import made, made_pages
from tests.dashboard.serving import Served

OF_INCIDENTS = ("acknowledge", "note", "judge", "resolve")
RUN_ACTIONS = ("stop", "pause", "resume", "restart", "acknowledge", "note", "judge", "resolve", "pin")
CLI = {
    "stop": "lastgood stop {run} [--now]",
    "pause": "lastgood pause {run}",
    "resume": "lastgood resume {run} [--from-step N]",
    "restart": "lastgood restart {run} [--exclude NODE]",
    "acknowledge": "lastgood incident ack {run} ID",
    "note": "lastgood incident note {run} ID TEXT",
    "judge": "lastgood incident judge {run} ID right TEXT",
    "resolve": "lastgood incident resolve {run} ID TEXT",
    "pin": "lastgood ckpt pin {run} NAME",
}


class Fake(Served):
    """A server on a port of its own; tests read and write its state."""

    def __init__(self) -> None:
        self.rows = {row["run"]: row for row in made.fleet()}
        self.session: dict[str, Any] = {
            "login": False,
            "role": "operator",
            "name": "dashboard",
            "csrf": "c5rf",
            "version": "0.2.0",
            "at": made.NOW,
            "host": "trainer-01",
            "supervisor": {"alive": True, "seen_at": made.NOW},
        }
        self.token = "let-me-in"
        self.incidents = made.incidents()
        self.notes: list[dict[str, Any]] = []
        self.acknowledged: dict[str, Any] | None = None
        self.judgement: dict[str, Any] | None = None
        self.checkpoints = [
            self._checkpoint(step, state)
            for step, state in ((48_200, "committed"), (48_000, "good"), (47_800, "good"), (40_000, "tainted"))
        ]
        self.ranks = made_pages.ranks()
        self.timeline = made.timeline()
        self.lines = [[n * 40, f"step {n} loss {2.3 - n / 1e4:.4f}", ""] for n in range(600)] + [
            [24_000, "Traceback (most recent call last):", "error"],
            [24_040, "RuntimeError: CUDA error: an illegal memory access", "error"],
        ]
        self.config = {"yaml": "name: gpt\nnodes: 2\n", "resolved": {"name": "gpt", "nodes": 2}, "revisions": []}
        self.events = [self._event(n) for n in range(1, 160)]
        self.done: list[tuple[str, str, dict[str, Any]]] = []
        self.refuse: tuple[int, str, str] | None = None
        super().__init__()

    def _checkpoint(self, step: int, state: str) -> dict[str, Any]:
        return {
            "name": f"step-{step:08d}.a2w7",
            "step": step,
            "state": state,
            "bytes": 3 << 32,
            "tier": "disk",
            "path": "runs/x",
            "world": 7,
            "saved_at": made.NOW - (48_210 - step) * 0.41,
            "age_s": 10.0,
            "usable": state in ("good", "committed"),
            "pinned": False,
            "copies": ["disk"],
        }

    def _event(self, n: int) -> dict[str, Any]:
        return {
            "id": n,
            "at": made.NOW - 4000 + n * 20,
            "kind": "CheckpointVerified" if n % 3 else "IncidentOpened",
            "body": {},
            "state": "RUNNING",
            "reason": f"event number {n}",
            "actions": [],
            "opened": ["i2"] if n % 40 == 0 else [],
            "closed": [],
            "sentences": [f"Sentence number {n}."],
        }

    def actions(self, run: str, incident: str | None = None) -> list[dict[str, Any]]:
        """What may be done: viewers may nothing, and nobody may resume what goes on."""
        viewer = self.session["role"] == "viewer"
        over = self.rows[run]["state"] in ("HELD", "STOPPED", "PAUSED", "SUCCEEDED")

        def why(name: str) -> str:
            if viewer:
                return "a viewer cannot act"
            if name == "resume" and not over:
                return "it goes on"
            return "it has ended" if name in ("stop", "pause", "restart") and over else ""

        return [
            {
                "action": name,
                "allowed": not why(name),
                "why": why(name),
                "cli": CLI[name].format(run=run).replace("ID", incident or "ID"),
            }
            for name in RUN_ACTIONS
            if name != "pin" and (incident is not None or name not in OF_INCIDENTS)
        ]

    def act(self, run: str, action: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Does it, and remembers that it was asked."""
        if self.session["role"] == "viewer":
            return 403, {"error": "a viewer cannot act", "code": "forbidden"}
        if self.refuse:
            status, code, sentence = self.refuse
            return status, {"error": sentence, "code": code}
        self.done.append((run, action, body))
        states = {"stop": "STOPPED", "pause": "PAUSED", "resume": "STARTING", "restart": "RECOVERING"}
        if action in states:
            self.rows[run] |= {
                "state": states[action],
                "sentence": f"{states[action]}: asked by a person",
                "attention": [],
            }
            self.tell("runs", {"at": made.NOW, "rows": [self.rows[run]]})
        by = {"at": made.NOW, "by": "dashboard"}
        match action:
            case "acknowledge":
                self.acknowledged = by
            case "note":
                self.notes.append(by | {"text": body["text"]})
            case "judge":
                self.judgement = by | {"right": body["right"], "text": body["text"]}
            case "pin":
                for one in self.checkpoints:
                    one["pinned"] = body["pinned"] if one["name"] == body["checkpoint"] else one["pinned"]
        self.tell("run", {"at": made.NOW, "run": run, "changed": ["summary", "incidents", "checkpoints"]})
        return 200, {"run": run, "done": f"{action}: the supervisor has it", "cli": CLI[action].format(run=run)}

    def home(self) -> dict[str, Any]:
        """Answer of /api/home."""
        rows = list(self.rows.values())
        return {
            "at": made.NOW,
            "cursor": "1",
            "supervisor": {"alive": True, "seen_at": made.NOW},
            "runs": rows,
            "attention": sum(bool(row["attention"]) for row in rows),
            "silences": 1,
        }

    def run(self, run: str) -> dict[str, Any]:
        """Answer of /api/runs/RUN."""
        row = self.rows[run]
        return {
            "at": made.NOW,
            "cursor": "1",
            "row": row,
            "status": {**row, "nodes": made_pages.NODES},
            "next": None,
            "kpi": self.kpi(run),
            "actions": self.actions(run),
            "links": [{"text": "W&B", "href": "https://wandb.example/run"}],
            "incidents": [one | {"acknowledged": self.acknowledged} for one in self.incidents],
            "attempts": [],
            "worlds": [],
        }

    def kpi(self, run: str) -> dict[str, Any]:
        """The strip of numbers."""
        row = self.rows[run]
        kpi = {
            name: row[name]
            for name in (
                "step",
                "steps",
                "eta",
                "loss",
                "tokens_per_s",
                "step_s",
                "restarts",
                "restarts_24h",
                "last_good_step",
                "last_good_at",
                "save_every_steps",
            )
        }
        budget = [{"what": "GPU-hours", "unit": "h", "spent": 47.8, "limit": 200.0, "share": 0.239}]
        kpi |= {
            "mfu": 0.412,
            "ledger": made.ledger(),
            "automatic_share": 1.0,
            "budget": budget,
            "money": None,
            "power_w": 10_400.0,
            "energy_kwh": 25.3,
        }
        return kpi

    def incident(self, run: str, id_: str) -> dict[str, Any] | None:
        """Answer of /api/runs/RUN/incidents/ID."""
        one = next((each for each in self.incidents if each["id"] == id_), None)
        if one is None:
            return None
        at, phases = one["onset"], []
        for name, seconds in [*list(one["phases_s"].items())[:-1], ("caught_up", 14.0)]:
            phases.append({"phase": name, "seconds": seconds, "from": at, "to": at + seconds})
            at += seconds
        return {
            "at": made.NOW,
            "cursor": "1",
            "incident": one,
            "title": "The run hangs, a rank has stopped moving",
            "severity": "warning",
            "sentence": "Rank 5 of node 0 hung for 14 s; 21 s later the run trained again, 40 steps to train anew.",
            "open": one["resolved"] is None,
            "phases": phases,
            "cost": {
                "steps_lost": 40,
                "wall_s": 21.31,
                "gpu_hours": 0.094,
                "energy_kwh": 0.061,
                "money": {"amount": 0.23, "currency": "EUR"},
            },
            "story": [
                {"at": one["detected"], "text": "i2: hang of rank 5."},
                {"at": one["detected"] + 3, "text": "World 3 trains from step 24 010."},
            ],
            "events": [10, 20],
            "runbook": made_pages.runbook(),
            "runbook_command": f"lastgood drill {run} spin --rank 1",
            "node": {
                "host": "node000",
                "incidents": [{"run": "gpt-small-4cq2x", "id": "i1", "kind": "hang", "at": made.NOW - 3 * made.DAY}],
            },
            "log": made_pages.sources()[0],
            "acknowledged": self.acknowledged,
            "notes": self.notes,
            "judgement": self.judgement,
            "actions": self.actions(run, id_),
        }

    def answer(self, path: str, query: dict[str, str]) -> dict[str, Any] | None:
        """The body of a GET, or None: there is no such thing."""
        match path.removeprefix("/api/").split("/"):
            case ["session"]:
                return self.session
            case ["home"]:
                return self.home()
            case ["nodes"]:
                return {
                    "nodes": [
                        {
                            "host": f"node{n:03d}",
                            "runs": [{"run": made.RUN, "node": n, "state": "RUNNING"}],
                            "joined_at": made.NOW - 9000,
                            "gone_at": None,
                            "incidents_30d": 4 - n,
                            "kinds": {"hang": 3, "gpu_fault": 1},
                            "last": {"run": made.RUN, "id": "i2", "kind": "hang", "at": made.NOW - 9000},
                            "repeat": n == 0,
                        }
                        for n in range(3)
                    ]
                }
            case ["alerts"]:
                return made_pages.ALERTS
            case ["reports"]:
                return made_pages.report(int(query.get("days", "7")))
            case ["runs", run, *rest] if unquote(run) in self.rows:
                return self._part(unquote(run), rest, query)
        return None

    def _part(self, run: str, rest: list[str], query: dict[str, str]) -> dict[str, Any] | None:
        match rest:
            case []:
                return self.run(run)
            case ["timeline"]:
                return self.timeline
            case ["series"]:
                return made.series(query["names"].split(","))
            case ["events"]:
                before = int(query.get("before", "1000000"))
                found = [one for one in reversed(self.events) if one["id"] < before][:100]
                older = found[-1]["id"] if found and found[-1]["id"] > 1 else None
                return {"events": found, "older": older, "newest": len(self.events)}
            case ["logs"]:
                return {
                    "sources": made_pages.sources(),
                    "more": 0,
                    "culprit": {"incident": "i5", "rank": 9, "world": 6},
                }
            case ["logs", "lines"]:
                return self._lines(query)
            case ["ranks"]:
                return self.ranks
            case ["checkpoints"]:
                return {"checkpoints": self.checkpoints}
            case ["config"]:
                return self.config
            case ["incidents", id_]:
                return self.incident(run, id_)
        return None

    def _lines(self, query: dict[str, str]) -> dict[str, Any]:
        source = next((one for one in made_pages.sources() if one["id"] == query["source"]), made_pages.sources()[0])
        every = [one for one in self.lines if query.get("grep", "").lower() in one[1].lower()]
        end = self.lines[-1][0] + 40
        if "from" in query:
            found = [one for one in every if one[0] >= int(query["from"])]
        elif "before" in query:
            found = [one for one in every if one[0] < int(query["before"])][-int(query.get("tail", "200")) :]
        else:
            found = every[-int(query.get("tail", "200")) :]
        return {
            "source": source,
            "lines": found,
            "first": found[0][0] if found else 0,
            "next": end,
            "bytes": end,
            "more": False,
            "level": "",
        }
