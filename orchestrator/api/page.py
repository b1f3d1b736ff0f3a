"""What is on the page of a run, of an incident, of its checkpoints and its spec? Called in the desk's thread."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jobs.errors import SpecError
from monitors.incidents import Kind
from orchestrator import contract, contract_money, contract_parts, runbooks
from orchestrator.api import kpi, logfiles, prose
from orchestrator.api.actions import offered
from orchestrator.api.course import Course
from orchestrator.api.desk import Desk, Missing
from orchestrator.api.events import told
from orchestrator.api.fleet import host_of, named_on
from orchestrator.api.tokens import Role
from orchestrator.core import checkpoints as saves
from orchestrator.core.asked import SpecRevised
from orchestrator.core.state import State
from orchestrator.timeline import Case

SECRET = re.compile(r"key|token|secret|passw|credential|auth|cookie|dsn", re.IGNORECASE)
SECRET_LINE = re.compile(rf"^(\s*[\"']?\w*(?:{SECRET.pattern})\w*[\"']?\s*:\s+)\S.*$", re.IGNORECASE | re.MULTILINE)
PASSWORD_IN_URL = re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")
HIDDEN = "(hidden)"
STORY_MOST = 300
BILL_S = 60.0
"""what incidents cost is reckoned from the whole journal: when there is another one, or one is over, or so often"""


def run(desk: Desk, run: str, row: Mapping[str, Any], cursor: str, role: Role) -> dict[str, Any]:
    """The body of `/api/runs/RUN`."""
    now = desk.clock.now()
    course, state = desk.course(run), desk.state(run)
    status = contract.described(desk.home.root, desk.journal, desk.submission(run), state, now)
    line = course.timeline()
    return {
        "at": now,
        "cursor": cursor,
        "row": row,
        "status": status,
        "next": advice(status),
        "kpi": kpi.of(desk, run, row, now),
        "actions": list(offered(run, status, role)),
        "links": [{"text": "W&B", "href": row["tracker"]}] if row.get("tracker") else [],
        "incidents": [
            contract_parts.plain_incident(case, line, state) | {"acknowledged": _acknowledged(case)}
            for case in line.cases
        ],
        "attempts": [_fields(attempt) for attempt in line.attempts],
        "worlds": [_fields(world) for world in line.worlds.values()],
    }


def advice(status: Mapping[str, Any]) -> str | None:
    """What a person should do; None: nothing."""
    run = status["run"]
    if status["unsupervised"]:
        return f"lastgood resume {run} tries again; its ranks, if there are any, train on"
    if status["state"] == "HELD":
        return f"read the runbook and the story; then lastgood resume {run}"
    if status["state"] == "PAUSED":
        return f"lastgood resume {run}"
    if not status["supervisor"]["alive"] and status["state"] not in ("SUCCEEDED", "STOPPED"):
        return "the supervisor is not running, ranks train on unsupervised: lastgood serve -d"
    return None


def incident(desk: Desk, run: str, id_: str, cursor: str, role: Role) -> dict[str, Any]:
    """The body of `/api/runs/RUN/incidents/ID`."""
    course, state = desk.course(run), desk.state(run)
    line = course.timeline()
    case = next((one for one in line.cases if one.id == id_), None)
    if case is None or state is None:
        raise Missing(f"{run} has no incident '{id_[:40]}'")
    one = contract_parts.plain_incident(case, line, state) | {"cost": _bill(desk, course, state).get(id_)}
    story = _story(desk, course, id_)
    status = contract.described(desk.home.root, desk.journal, desk.submission(run), state, desk.clock.now())
    front, blocks = _runbook(desk, run, case.incident.kind)
    return {
        "at": desk.clock.now(),
        "cursor": cursor,
        "incident": one,
        "title": front.title if front else case.incident.kind.value,
        "severity": state.policy.responses[case.incident.kind].severity.value,
        "sentence": story[0]["text"] if story else "; ".join(case.incident.evidence[:1]),
        "open": any(opened.id == id_ for opened in state.open),
        "phases": _phases(one),
        "cost": _cost(one),
        "story": story,
        "events": [course.opened_in.get(id_, 0), course.closed_in.get(id_, course.read_to)],
        "runbook": blocks,
        "runbook_command": front.drill.command if front else None,
        "node": _node(desk, course, one),
        "log": _log(desk, run, line.worlds, one),
        "acknowledged": _acknowledged(case),
        "notes": [_fields(note) for note in case.remarks.notes],
        "judgement": _judgement(case),
        "actions": list(offered(run, status, role, id_)),
    }


def _acknowledged(case: Case) -> dict[str, Any] | None:
    said = case.remarks
    return {"at": said.acknowledged_at, "by": said.acknowledged_by} if said.acknowledged_at is not None else None


def _judgement(case: Case) -> dict[str, Any] | None:
    said = case.remarks
    if said.judged_right is None:
        return None
    return {"at": said.judged_at, "by": said.judged_by, "right": said.judged_right, "text": said.judged_text or ""}


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _story(desk: Desk, course: Course, id_: str) -> list[dict[str, Any]]:
    """From its conclusion to its end, what the journal tells."""
    first = course.opened_in.get(id_)
    if first is None:
        return []
    until = course.closed_in.get(id_, course.read_to) + 1
    entries = desk.journal.page(course.run, after=first - 1, before=until, limit=STORY_MOST, dull=False)
    restored = course.timeline()
    return [{"at": event["at"], "text": text} for event in told(entries, restored) for text in event["sentences"]]


def _phases(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    found, since = [], one["onset"]
    for name, seconds in one["phases_s"].items():
        if name == "total" or seconds is None:
            continue
        found.append({"phase": name, "seconds": seconds, "from": since, "to": since + seconds})
        since += seconds
    if one["resolved"] is not None and one["phases_s"]["total"] is not None and one["resolved"] > since:
        caught = {"phase": "caught_up", "seconds": one["resolved"] - since, "from": since, "to": one["resolved"]}
        found.append(caught)
    return found


def _bill(desk: Desk, course: Course, state: State) -> dict[str, dict[str, Any]]:
    """What each incident of the run cost."""
    line, now = course.timeline(), desk.clock.now()
    mark = (len(line.cases), sum(case.over_at is not None for case in line.cases))
    if course.bill is None or course.bill[0] != mark or now - course.bill[1] > BILL_S:
        entries = desk.journal.entries(course.run, thin=True)
        course.bill = (mark, now, contract_money.of_incidents(entries, state, line, now))
    return course.bill[2]


def _cost(one: Mapping[str, Any]) -> dict[str, Any]:
    told = one["cost"] or {}
    money = told.get("money")
    return {
        "steps_lost": one["steps_lost"],
        "wall_s": one["phases_s"]["total"],
        "gpu_hours": told.get("gpu_hours"),
        "energy_kwh": told.get("kwh"),
        "co2e_g": told.get("co2e_g"),
        "money": {"amount": money, "currency": told["currency"]} if money is not None else None,
    }


def _runbook(desk: Desk, run: str, kind: Kind) -> tuple[runbooks.Front | None, list[dict[str, Any]]]:
    """The page in force: of the run's own folder where that has one that can be read, else the built-in."""
    own = (desk.submission(run).spec.get("recovery") or {}).get("runbooks")
    for folder in (Path(own), None) if own else (None,):
        try:
            return runbooks.front(kind, folder), prose.blocks(runbooks.page(kind, folder))
        except SpecError:
            continue
    return None, []


def _node(desk: Desk, course: Course, one: Mapping[str, Any]) -> dict[str, Any] | None:
    host = host_of(course, one)
    return None if host is None else {"host": host, "incidents": named_on(desk, host)}


def _log(desk: Desk, run: str, worlds: Mapping[int, Any], one: Mapping[str, Any]) -> dict[str, Any] | None:
    rank, world = one["subject"]["rank"], worlds.get(one["world"])
    if rank is None or world is None:
        return None
    found = logfiles.sources(desk.home.root, run, attempt=world.attempt, node=None, world=world.number, rank=rank)
    return found[0].plain(True) if found else None


def checkpoints(desk: Desk, run: str) -> dict[str, Any]:
    """The body of `/api/runs/RUN/checkpoints`."""
    now, state = desk.clock.now(), desk.state(run)
    usable = _usable(state)
    found = [
        contract_parts.plain_checkpoint(save)
        | {
            "age_s": max(0.0, now - save.saved_at),
            "usable": save.step in usable,
            "copies": ["disk"],
        }
        for save in (state.checkpoints if state else ())
    ]
    return {"run": run, "checkpoints": found[::-1]}


def _usable(state: State | None) -> frozenset[int]:
    return frozenset(saves.usable_steps(state)) if state is not None else frozenset()


def config(desk: Desk, run: str) -> dict[str, Any]:
    """The body of `/api/runs/RUN/config`."""
    given = desk.submission(run)
    spec = desk.home.run(run) / "spec.json"
    try:
        resolved = json.loads(spec.read_text())
    except (OSError, ValueError):  # what was submitted is in the journal, whatever became of the folder
        resolved = given.spec
    env = given.spec.get("env") or {}
    secrets = [str(value) for name, value in env.items() if SECRET.search(name) and len(str(value)) >= 4]
    yaml = SECRET_LINE.sub(lambda line: f"{line[1]}{HIDDEN}", given.spec_yaml)
    for secret in sorted(secrets, key=len, reverse=True):
        yaml = yaml.replace(secret, HIDDEN)
    return {
        "run": run,
        "yaml": PASSWORD_IN_URL.sub(HIDDEN, yaml),
        "resolved": hidden(resolved),
        "revisions": list(_revisions(desk, run)),
    }


def _revisions(desk: Desk, run: str) -> Iterator[dict[str, Any]]:
    """What was changed since it was submitted."""
    for _, event in desk.journal.events(run, kind=SpecRevised):
        if isinstance(event, SpecRevised):
            yield {"at": event.at, "by": event.by, "changes": [_unspoken(one) for one in event.sets]}


def _unspoken(change: str) -> str:
    """`a.b=c`, without the value of what looks like a secret."""
    key, equals, value = change.partition("=")
    if not equals:  # the journal was told no more
        return change
    return f"{key}{equals}{HIDDEN if SECRET.search(key) else PASSWORD_IN_URL.sub(HIDDEN, value)}"


def hidden(value: Any, name: str = "") -> Any:
    """The same, without what looks like a secret."""
    match value:
        case dict():
            return {key: hidden(inner, str(key)) for key, inner in value.items()}
        case list() | tuple():
            return [hidden(inner) for inner in value]
        case str() if SECRET.search(name):
            return HIDDEN
        case str():
            return PASSWORD_IN_URL.sub(HIDDEN, value)
        case _:
            return value
