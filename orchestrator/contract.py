"""What may other programs rely on? The JSON of `status`, `incident`, `ckpt`, `ledger`, `events` and `story`.

Read from the journal alone, so that every answer is there with the supervisor dead. Fields, types and units are in
docs/contract.md (a test compares); within a schema version fields are only added. Times are seconds since the epoch;
a number that is not finite is the string "nan", "inf" or "-inf", which JSON has no number for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from monitors import wire
from monitors.clock import SystemClock
from monitors.incidents import Kind
from monitors.signals import StepReported
from orchestrator import bulkhead, contract_money, contract_parts, timeline
from orchestrator import ledger as books
from orchestrator import story as telling
from orchestrator.core.events import AgentGone, AgentJoined
from orchestrator.core.policy import Rung
from orchestrator.core.state import Checkpoint, CheckpointState, Phase, State
from orchestrator.home import Home
from orchestrator.journal import Entry, Journal, Submission
from orchestrator.timeline import Timeline

SCHEMA = "lastgood/1"
NEWEST = "-"
ALIVE_S = 8.0
"""The supervisor says every two or three seconds that it lives; a dying disk may hold it up for a few more."""
RECENT_ROWS = 20
"""steps over which speed is measured"""

STATES: dict[Phase, tuple[str, str | None]] = {
    Phase.LAUNCHING: ("PENDING", "the scheduler to start the agents"),
    Phase.STARTING: ("STARTING", "the first step"),
    Phase.TRAINING: ("RUNNING", "more steps"),
    Phase.STOPPING_WORLD: ("RECOVERING", "the world before to end"),
    Phase.BACKING_OFF: ("RECOVERING", "the back-off before the next world"),
    Phase.RELAUNCHING: ("RECOVERING", "the attempt before to end"),
    Phase.FINISHING: ("STOPPING", "the last processes to end"),
    Phase.STOPPING: ("STOPPING", "the last save, and the processes to end"),
    Phase.PAUSING: ("STOPPING", "the last save, and the processes to end, to be paused"),
    Phase.HOLDING: ("STOPPING", "the processes to end, to be held"),
    Phase.HELD: ("HELD", "a person"),
    Phase.PAUSED: ("PAUSED", "whoever paused it to let it go on"),
    Phase.SUCCEEDED: ("SUCCEEDED", None),
    Phase.STOPPED: ("STOPPED", None),
}
"""The state that people see, and what the run waits for."""

NOT_FINISHED = 101
EXIT_CODES = {Phase.SUCCEEDED: 0, Phase.STOPPED: 103}
HELD_CODES = {
    Kind.WORKER_EXCEPTION: 100,
    Kind.CRASH_LOOP: 100,
    Kind.CODE_DIVERGENCE: 100,
    None: 104,
    Kind.LAUNCH_FAILED: 105,
    Kind.AGENT_LOST: 105,
}
"""SkyPilot's numbers where it has them; None: a budget was spent."""
OTHER_HELD = 106
OUT_OF_BUDGET = "budget_spent"


def find(home: str | Path, text: str) -> str:
    """The id of the run that `text` begins, or of the newest for `-`.

    Raises LookupError, naming the candidates, when there is none or more than one.
    """
    known = [submission.run for submission in _submissions(home)]
    if not known:
        raise LookupError(f"no run was ever submitted in {home}")
    if text == NEWEST:
        return known[-1]
    if text in known:
        return text
    found = [run for run in known if run.startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        raise LookupError(f"'{text}' may be {_listed(found)}: give more of the id")
    raise LookupError(f"no run begins with '{text}'; there is {_listed(known)}")


def runs(home: str | Path, *, now: float | None = None) -> dict[str, Any]:
    """Every run, oldest first, each as in `status`."""
    if not _journal(home).exists():
        return _answer(runs=[])
    with _opened(home) as journal:
        found = [standing(home, journal, submission, _now(now)) for submission in journal.runs()]
    return _answer(runs=found)


def status(home: str | Path, run: str, *, now: float | None = None) -> dict[str, Any]:
    """Where a run stands. Raises LookupError for an id that is not there, here and below."""
    with _opened(home) as journal:
        return _answer(**standing(home, journal, _submission(journal, run), _now(now)))


def incidents(home: str | Path, run: str, *, now: float | None = None) -> dict[str, Any]:
    """Every incident of a run, oldest first."""
    with _opened(home, run) as journal:
        entries, state = journal.entries(run, thin=True), journal.state(run)
    return _answer(run=run, incidents=_incidents(entries, timeline.walk(entries), state, _now(now)))


def incident(home: str | Path, run: str, id: str) -> dict[str, Any]:  # noqa: A002 - the word of the contract
    """One incident."""
    found = incidents(home, run)
    for one in found["incidents"]:
        if one["id"] == id:
            return _answer(run=run, incident=one)
    known = [one["id"] for one in found["incidents"]]
    raise LookupError(f"{run} has no incident '{id}'; there is {_listed(known)}")


def checkpoints(home: str | Path, run: str) -> dict[str, Any]:
    """The checkpoints that exist, oldest first."""
    with _opened(home, run) as journal:
        state = journal.state(run)
    saved = state.checkpoints if state else ()
    return _answer(run=run, checkpoints=[contract_parts.plain_checkpoint(save) for save in saved])


def ledger(home: str | Path, run: str, *, now: float | None = None) -> dict[str, Any]:
    """Where the wall clock of a run went."""
    with _opened(home, run) as journal:
        entries, state = journal.entries(run, thin=True), journal.state(run)
    at = _now(now)
    bill = contract_money.of_ledger(entries, state, timeline.walk(entries), at)
    return _answer(run=run, **asdict(books.balance(entries, at)), **bill)


def report(home: str | Path, days: float = 7, *, now: float | None = None) -> dict[str, Any]:
    """The last days of all runs: interruptions by cause, how fast they were over, what it cost."""
    with _opened(home) as journal:
        return _answer(**contract_money.report(journal, days, _now(now)))


def events(home: str | Path, run: str, since_id: int = 0) -> dict[str, Any]:
    """What happened and what was decided, after event `since_id`."""
    with _opened(home, run) as journal:
        entries = journal.entries(run, since_id)
    return _answer(run=run, events=[plain_event(entry) for entry in entries])


def story(home: str | Path, run: str) -> dict[str, Any]:
    """The whole course of a run: attempts, worlds, incidents, and sentences for a person."""
    with _opened(home, run) as journal:
        entries, state = journal.entries(run, thin=True), journal.state(run)
    course = timeline.walk(entries)
    return _answer(
        run=run,
        attempts=[asdict(attempt) for attempt in course.attempts],
        worlds=[asdict(world) for world in course.worlds.values()],
        incidents=_incidents(entries, course, state, _now(None)),
        sentences=[asdict(sentence) for sentence in telling.sentences(entries)],
    )


def exit_code(state: State | None) -> int:
    """What a command that waited for the run ends with."""
    if state is None:
        return NOT_FINISHED
    if state.phase is Phase.HELD:
        return HELD_CODES.get(state.hold_kind, OTHER_HELD)
    return EXIT_CODES.get(state.phase, NOT_FINISHED)


# The journal


def _journal(home: str | Path) -> Path:
    return Home(Path(home)).journal


@contextmanager
def _opened(home: str | Path, run: str | None = None) -> Iterator[Journal]:
    if not _journal(home).exists():
        raise LookupError(f"no run was ever submitted in {home}")
    with Journal(_journal(home), read_only=True) as journal:
        if run is not None:
            _submission(journal, run)
        yield journal


def _submissions(home: str | Path) -> list[Submission]:
    if not _journal(home).exists():
        return []
    with _opened(home) as journal:
        return journal.runs()


def _submission(journal: Journal, run: str) -> Submission:
    known = journal.runs()
    for submission in known:
        if submission.run == run:
            return submission
    raise LookupError(f"no run '{run}'; there is {_listed([submission.run for submission in known])}")


def _now(now: float | None) -> float:
    return SystemClock().now() if now is None else now


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[-most:]) or "none") + more


# The parts


def _answer(**parts: Any) -> dict[str, Any]:
    return {"schema": SCHEMA, **{name: plain(part) for name, part in parts.items()}}


def standing(home: str | Path, journal: Journal, submission: Submission, now: float) -> dict[str, Any]:
    """The parts of `status`, from a journal that is open."""
    return described(home, journal, submission, journal.state(submission.run), now)


def described(
    home: str | Path, journal: Journal, submission: Submission, state: State | None, now: float
) -> dict[str, Any]:
    """The same of a state that was read."""
    phase = state.phase if state else Phase.LAUNCHING
    word, waits_for = STATES[phase]
    seen_at = journal.last_heartbeat()
    ended = phase in (Phase.SUCCEEDED, Phase.STOPPED, Phase.HELD)
    return {
        "run": submission.run,
        "name": submission.name,
        "state": word,
        "reason": state.reason if state else "submitted",
        "since": state.since if state else submission.submitted_at,
        "waits_for": waits_for,
        "deadline": state.deadline if state else None,
        "cause": _cause(state),
        "spec_revision": state.revision if state else 0,
        "paused_by": (state.paused_by or None) if state else None,
        "paused_why": (state.paused_why or None) if state else None,
        "cordoned": [asdict(cordon) for cordon in state.cordons] if state else [],
        "exit_code": exit_code(state),
        "attempt": state.attempt if state else 0,
        "world": state.world if state else 0,
        "step": state.step if state else 0,
        "best_step": state.best_step if state else 0,
        "last_good_step": _last_good_step(state),
        **_interval(state),
        "restarts": state.restarts if state else 0,
        "open_incidents": [opened.id for opened in state.open] if state else [],
        **speed(journal, submission.run, state.world if state else 0),
        "nodes": _nodes(journal, submission.run, state),
        "ranks": state.plan.nodes * state.plan.ranks_per_node if state else 0,
        **contract_money.of_status(state, now),
        "submitted_at": submission.submitted_at,
        "ended_at": state.since if state and ended else None,
        "unsupervised": bulkhead.unsupervised(Path(home), submission.run),
        "supervisor": {"alive": seen_at is not None and now - seen_at < ALIVE_S, "seen_at": seen_at},
    }


def _cause(state: State | None) -> str | None:
    if state is None:
        return None
    if state.out_of:
        return OUT_OF_BUDGET
    if state.hold_kind is not None:
        return state.hold_kind.value
    answered = [opened.incident.kind for opened in state.open if opened.rung is not Rung.OBSERVE]
    return answered[-1].value if answered else None


def _last_good_step(state: State | None) -> int | None:
    saved: Iterable[Checkpoint] = state.checkpoints if state else ()
    return max((save.step for save in saved if save.state is CheckpointState.GOOD), default=None)


def _interval(state: State | None) -> dict[str, Any]:
    known = state is not None and state.entered and state.save_every > 0
    return {
        "save_every_steps": state.save_every if state and known else None,
        "save_every_why": state.save_why if state and known else None,
    }


def speed(journal: Journal, run: str, world: int) -> dict[str, float | None]:
    """The parts of `status` that steps tell, of one world."""
    return _speed(journal.rows(run, limit=RECENT_ROWS, world=world))


def _speed(rows: Sequence[StepReported]) -> dict[str, float | None]:
    timed = [row for row in rows if row.step_s is not None]
    spent_s = sum(row.step_s or 0.0 for row in timed)
    counted = [row.tokens for row in timed if row.tokens is not None]
    return {
        "loss": rows[-1].loss if rows else None,
        "step_s": median(row.step_s or 0.0 for row in timed) if timed else None,
        "tokens_per_s": sum(counted) / spent_s if counted and spent_s else None,
    }


def _nodes(journal: Journal, run: str, state: State | None) -> list[dict[str, Any]]:
    if state is None:
        return []
    found: list[dict[str, Any]] = [
        {"node": node, "host": None, "joined_at": None, "gone_at": None, "clock_offset_s": 0.0}
        for node in range(state.plan.nodes)
    ]
    for _, event in journal.events(run, kind=AgentJoined):
        if isinstance(event, AgentJoined) and event.attempt == state.attempt and event.node < len(found):
            found[event.node] |= {"host": event.host, "joined_at": event.at, "clock_offset_s": event.clock_offset_s}
    for _, event in journal.events(run, kind=AgentGone):
        if isinstance(event, AgentGone) and event.attempt == state.attempt and event.node < len(found):
            found[event.node] |= {"gone_at": event.at}
    return found


def _incidents(entries: Sequence[Entry], course: Timeline, state: State | None, now: float) -> list[dict[str, Any]]:
    costs = contract_money.of_incidents(entries, state, course, now) if course.cases else {}
    return [{**contract_parts.plain_incident(case, course, state), "cost": costs.get(case.id)} for case in course.cases]


def plain_event(entry: Entry) -> dict[str, Any]:
    """One of `events`."""
    return {
        "id": entry.id,
        "at": entry.event.at,
        "kind": type(entry.event).__name__,
        "body": wire.encode(entry.event),
        "state": STATES[entry.phase][0],
        "reason": entry.reason,
        "actions": [wire.encode(action) for action in entry.actions],
        "opened": [opened.id for opened in entry.opened],
        "closed": list(entry.closed),
    }


def plain(value: Any) -> Any:
    """Only what JSON has: enums as their words, tuples as lists, numbers that are not finite as words."""
    match value:
        case dict():
            return {str(key): plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [plain(inner) for inner in value]
        case str():
            return str(value)
        case float() if not math.isfinite(value):
            return str(value)
        case _:
            return value
