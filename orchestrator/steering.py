"""How does a person take the wheel of one run? Each request becomes an event of its journal, or is refused."""

from __future__ import annotations

from typing import Any

from jobs.errors import SpecError
from orchestrator import folders, meaning, rationing, refusals, requests, revisions
from orchestrator.core import events
from orchestrator.core.state import Phase, State
from orchestrator.house import House
from orchestrator.liverun import LiveRun
from orchestrator.requests import AskError

Remark = requests.Acknowledge | requests.Resolve | requests.Note | requests.Judge


def steer(house: House, request: requests.Steering) -> dict[str, Any]:
    """Parts of the answer beside the run's id. Raises AskError."""
    match request:
        case requests.Stop():
            return _stop(house, request)
        case requests.Pause():
            return _pause(house, request)
        case requests.Resume():
            return _resume(house, request)
        case requests.Restart():
            return _restart(house, request)
        case requests.Cordon():
            return _cordon(house, request)
        case requests.Pin():
            return _pin(house, request)
        case requests.Drill():
            return _drill(house, request)
        case requests.Budget():
            return rationing.budget(house, request)
        case requests.Power():
            return rationing.power(house, request)
        case _:
            return _remark(house, request)


def _decided(house: House, live: LiveRun, event: events.Event) -> State:
    live.loop.take(event)
    house.changed.set()
    assert live.loop.state is not None, "an event of a run that never began"
    return live.loop.state


def _standing(house: House, run: str) -> tuple[LiveRun, State]:
    """A run that goes on, and where it stands. Raises AskError."""
    live = house.live(run)
    assert live.loop.state is not None, "a run lives here before it began"
    return live, live.loop.state


def _any(house: House, run: str) -> tuple[LiveRun, State]:
    """Any run, over or not; one that is over is put together anew, for its journal to be written."""
    if (live := house.runs.get(run)) is not None and live.loop.state is not None:
        return live, live.loop.state
    state = house.recorded(run)
    return house.reopened(run, state), state


def _stop(house: House, request: requests.Stop) -> dict[str, Any]:
    live, _ = _any(house, request.run)
    _decided(house, live, events.StopRequested(at=house.clock.now(), by=request.by, now=request.now))
    return {}


def _pause(house: House, request: requests.Pause) -> dict[str, Any]:
    live, state = _any(house, request.run)
    refusals.refuse_pause(state, request.by)
    why = refusals.words(request.why)
    state = _decided(house, live, events.PauseRequested(at=house.clock.now(), by=request.by, why=why))
    return {"paused_by": state.paused_by}


def _resume(house: House, request: requests.Resume) -> dict[str, Any]:
    known = house.runs.get(request.run)
    if known is not None and not known.loop.ended:
        if known.loop.state is not None and known.loop.state.phase is Phase.PAUSING:
            raise AskError("not_yet", f"run {request.run} is still pausing: ask again once it is PAUSED")
        raise AskError("running", f"run {request.run} is running: nothing to resume")
    state = house.recorded(request.run)
    refusals.refuse_resume(state, request.by)
    refusals.refuse_step(state, request.from_step)
    rationing.refuse_spent(state)
    spec = house.spec(request.run).model_dump(mode="json")
    folders.refuse_shared(house.home, house.journal, request.run, spec)
    if request.sets:
        state = _revise(house, state, request)
    policy = house.policy_asked(request.run)
    live = house.reopened(request.run, state)
    house.take_policy(live, policy)
    _decided(house, live, events.ResumeRequested(at=house.clock.now(), by=request.by, from_step=request.from_step))
    live.loop.verify_unread()
    return {}


def _revise(house: House, state: State, request: requests.Resume) -> State:
    """Change the spec of a run that rests: kept as a file, noted in the journal, then in force."""
    folder, revision = house.home.run(request.run), state.revision + 1
    spec = revisions.revised(house.spec(request.run), request.sets)
    try:
        house.policy(spec)
        revisions.keep(folder, spec, revision)
        event = events.SpecRevised(
            at=house.clock.now(),
            by=request.by,
            revision=revision,
            sets=tuple(refusals.words(revisions.shown(text)) for text in request.sets),
            plan=meaning.plan_of(spec),
        )
        state = _decided(house, house.reopened(request.run, state), event)
        revisions.settle(folder, state.revision)
    except SpecError as error:
        raise AskError("usage", f"--set: {error}") from None
    except OSError as error:
        raise AskError("failed", f"the spec cannot be changed: {error}") from None
    return state


def _restart(house: House, request: requests.Restart) -> dict[str, Any]:
    live, state = _standing(house, request.run)
    refusals.refuse_restart(state, request.without)
    _decided(house, live, events.RestartRequested(at=house.clock.now(), by=request.by, without=request.without))
    return {}


def _cordon(house: House, request: requests.Cordon) -> dict[str, Any]:
    live, state = _any(house, request.run)
    refusals.refuse_cordon(state, request.host, request.cordoned)
    event = events.HostCordoned(
        at=house.clock.now(),
        by=request.by,
        host=request.host,
        cordoned=request.cordoned,
        why=refusals.words(request.why),
    )
    _decided(house, live, event)
    return {"host": request.host, "cordoned": request.cordoned}


def _pin(house: House, request: requests.Pin) -> dict[str, Any]:
    live, state = _any(house, request.run)
    refusals.refuse_pin(state, request.checkpoint, request.pinned)
    event = events.CheckpointPinned(
        at=house.clock.now(), by=request.by, checkpoint=request.checkpoint, pinned=request.pinned
    )
    _decided(house, live, event)
    return {"checkpoint": request.checkpoint, "pinned": request.pinned}


def _drill(house: House, request: requests.Drill) -> dict[str, Any]:
    live, state = _standing(house, request.run)
    at = house.clock.now()
    refusals.refuse_drill(state, request.drill, request.rank, live.inbox.has_started)
    number = int(at * 1000)  # unique in the run, also across supervisors
    live.loop.take(events.DrillRequested(at=at, by=request.by, drill=request.drill, rank=request.rank, number=number))
    return {"number": number}


def _remark(house: House, request: Remark) -> dict[str, Any]:
    live, state = _any(house, request.run)
    refusals.refuse_incident(state, request.incident)
    _decided(house, live, _said(request, state, house.clock.now()))
    return {"incident": request.incident}


def _said(request: Remark, state: State, at: float) -> events.Event:
    by, incident = request.by, request.incident
    match request:
        case requests.Acknowledge():
            return events.IncidentAcknowledged(at=at, by=by, incident=incident)
        case requests.Resolve():
            refusals.refuse_resolve(state, incident)
            return events.IncidentResolved(at=at, by=by, incident=incident, text=refusals.words(request.text))
        case requests.Note():
            text = refusals.words(request.text, needed=True)
            return events.IncidentNoted(at=at, by=by, incident=incident, text=text)
        case requests.Judge():
            text = refusals.words(request.text)
            return events.IncidentJudged(at=at, by=by, incident=incident, right=request.right, text=text)
