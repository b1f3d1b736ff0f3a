"""How does a person take the wheel of one run? Each request becomes an event of its journal, or is refused."""

from __future__ import annotations

from typing import Any

from orchestrator import folders, refusals, requests
from orchestrator.core import events
from orchestrator.house import House
from orchestrator.liverun import LiveRun
from orchestrator.requests import AskError


def steer(house: House, request: requests.Steering) -> dict[str, Any]:
    """Parts of the answer beside the run's id. Raises AskError."""
    match request:
        case requests.Stop():
            return _stop(house, request)
        case requests.Resume():
            return _resume(house, request)
        case requests.Drill():
            return _drill(house, request)
        case _:
            raise AskError("usage", f"nobody can ask {type(request).__name__} yet")


def _took(house: House, live: LiveRun, event: events.Event) -> None:
    live.loop.take(event)
    house.changed.set()


def _stop(house: House, request: requests.Stop) -> dict[str, Any]:
    live = house.runs.get(request.run) or house.reopened(request.run, house.recorded(request.run))
    _took(house, live, events.StopRequested(at=house.clock.now(), by=request.by, now=request.now))
    return {}


def _resume(house: House, request: requests.Resume) -> dict[str, Any]:
    known = house.runs.get(request.run)
    if known is not None and not known.loop.ended:
        raise AskError("running", f"run {request.run} is running: nothing to resume")
    state = house.recorded(request.run)
    refusals.refuse_step(state, request.from_step)
    spec = house.spec(request.run).model_dump(mode="json")
    folders.refuse_shared(house.home, house.journal, request.run, spec)
    policy = house.policy_asked(request.run)
    live = house.reopened(request.run, state)
    house.take_policy(live, policy)
    asked = events.ResumeRequested(at=house.clock.now(), by=request.by, from_step=request.from_step)
    live.loop.take(asked)
    live.loop.verify_unread()
    house.changed.set()
    return {}


def _drill(house: House, request: requests.Drill) -> dict[str, Any]:
    live = house.live(request.run)
    at = house.clock.now()
    assert live.loop.state is not None
    refusals.refuse_drill(live.loop.state, request.drill, request.rank, live.inbox.has_started)
    number = int(at * 1000)  # unique in the run, also across supervisors
    live.loop.take(events.DrillRequested(at=at, by=request.by, drill=request.drill, rank=request.rank, number=number))
    return {"number": number}
