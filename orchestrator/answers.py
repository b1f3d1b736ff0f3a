"""What is done about a request, and what is answered? What the core decides about goes through the journal first."""

from __future__ import annotations

import json
import os
import secrets
from typing import Any

from jobs.errors import SpecError
from jobs.spec import Spec
from orchestrator import bulkhead, folders, meaning, requests
from orchestrator.core import events
from orchestrator.house import House
from orchestrator.journal import Submission
from orchestrator.requests import AskError
from orchestrator.steering import steer

ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""for run ids that are typed at 3 a.m.: no i, l, o, 0, 1"""


def answer(house: House, request: requests.Request) -> dict[str, Any]:
    """Do what is asked; the parts of the answer. Raises AskError."""
    match request:
        case requests.Ping():
            return {"pid": os.getpid(), "runs": sorted(house.runs)}
        case requests.Submit():
            return {"run": _submit(house, _valid(request.spec), request.yaml)}
        case requests.Ranks():
            return house.live(request.run).table(house.clock.now())
        case requests.Readings():
            return {"runs": {run: live.readings(request.most) for run, live in house.runs.items()}}
        case requests.Shutdown():
            return _shutdown(house)
        case _:
            return _steered(house, request)


def _shutdown(house: House) -> dict[str, Any]:
    """Leave the runs to themselves: they train on, and nobody starts a supervisor until one is asked for."""
    try:
        house.home.off.touch()
    except OSError as error:
        raise AskError("failed", f"the agents cannot be kept from starting it anew: {error}") from None
    house.leaving.set()
    return {"runs": sorted(house.runs)}


def _submit(house: House, spec: Spec, yaml: str) -> str:
    run = f"{spec.name}-{''.join(secrets.choice(ALPHABET) for _ in range(5))}"
    now = house.clock.now()
    resolved = spec.model_dump(mode="json")
    folders.refuse_shared(house.home, house.journal, run, resolved)
    try:
        first, policy = meaning.origin_of(spec, now), house.policy(spec)
        _keep(house, run, resolved, yaml)
    except SpecError as error:
        raise AskError("usage", str(error)) from None
    except OSError as error:
        raise AskError("failed", f"the run cannot be taken in: {error}") from None
    given = Submission(run=run, name=spec.name, submitted_at=now, spec=resolved, spec_yaml=yaml)
    submitted = events.RunSubmitted(at=now, run=run, plan=meaning.plan_of(spec), policy=policy, origin=first)
    with house.bulkhead(run):
        house.assemble(run, spec, None).loop.begin(given, submitted)
    if house.journal.phase(run) is None:  # what was to be decided first is a fault of ours: it never was
        house.unsupervised.discard(run)
        raise AskError("failed", f"the run was not taken in; see {house.home.log}")
    house.changed.set()
    return run


def _keep(house: House, run: str, resolved: dict[str, Any], yaml: str) -> None:
    folder = house.home.run(run)
    folder.mkdir(parents=True)
    (folder / "spec.yaml").write_text(yaml)
    (folder / "spec.json").write_text(json.dumps(resolved, indent=2))


def _valid(spec: dict[str, Any]) -> Spec:
    try:
        return Spec.model_validate(spec)
    except ValueError as error:
        raise AskError("usage", f"the spec is not valid: {error}") from None


def _steered(house: House, request: requests.Steering) -> dict[str, Any]:
    run = request.run
    if run in house.unsupervised:
        # What was wrong may have been repaired since.
        house.adopt_one(run, events.SupervisorStarted(at=house.clock.now(), pid=os.getpid()))
        if isinstance(request, requests.Resume) and run in house.runs:
            return {"run": run}
    if run not in house.unsupervised:
        with house.bulkhead(run):
            return {"run": run, **steer(house, request)}
    why = bulkhead.unsupervised(house.home.root, run)
    raise AskError("broken", f"nothing can be decided about {run}: {why}; see {house.home.log}")
