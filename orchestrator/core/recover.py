"""What is done about an incident? The ladder of its runbook, bent by what the run can still do."""

from __future__ import annotations

from monitors.incidents import DEPTH, SURFACE, Incident, Kind
from orchestrator.core import budget, checkpoints, origin, worlds
from orchestrator.core.actions import Action, Alert, StartWorld
from orchestrator.core.policy import Paging, Response, Rung, Severity
from orchestrator.core.replacing import replace
from orchestrator.core.state import ENDED, Decision, Opened, Phase, Recovery, State, Taint

RECOVERING = frozenset({Phase.STOPPING_WORLD, Phase.BACKING_OFF, Phase.RELAUNCHING, Phase.LAUNCHING})
"""the newest world is being ended, or is gone and the next not begun"""
GIVEN_UP = RECOVERING | {Phase.HOLDING}
"""what the newest world still does counts for nothing any more"""
ENDING = frozenset({Phase.FINISHING, Phase.HOLDING, Phase.STOPPING, Phase.PAUSING})
WHOLE_ATTEMPT = frozenset({Kind.AGENT_LOST, Kind.LAUNCH_FAILED})
"""kinds that no new world inside the same attempt can answer"""
READ_S = 60.0
"""for the newest save to be read back, when a person lets the run go on and an older one would do too"""
READ_AGAIN_S = 2.0
IN_PROCESS = frozenset({Kind.WORKER_KILLED, Kind.WORKER_EXCEPTION, Kind.HANG})
"""what one rank did, and says nothing of the processes of the others"""
SPOILS_MEMORY = frozenset({Kind.GPU_MEMORY, Kind.HOST_FAULT})
"""what was copied before the fault was told may be wrong already"""
LASTING = frozenset({Kind.SAVE_FAILED, Kind.NODE_UNSEEN})
"""observed kinds that stay open until their own end is seen"""


def on_incident(state: State, incident: Incident, at: float) -> Decision:
    """Open the incident and answer it; a victim of a fault already being answered is folded into it."""
    if state.phase in ENDED:
        return Decision(state=state, reason=f"{incident.kind} noted: the run has ended")
    if incident.world > state.world:
        return Decision(state=state, reason=f"{incident.kind} of a world that was never ordered: ignored")
    if any(_same(o.incident, incident) for o in state.open):
        return Decision(state=state, reason=f"{incident.kind}: known and not over")
    if budget.loops(state, incident):
        incident = replace(incident, kind=Kind.CRASH_LOOP)
    response = state.policy.responses[incident.kind]
    state = _tainted(state, incident, response)
    if _is_victim(state, incident, response):
        return Decision(state=state, reason=f"{incident.kind} folded into the fault being answered")
    explained = _explained(state, incident)
    # What is only observed takes no strike over: a world that fails again and again of it would never be held.
    if not explained or _rung(state, incident, at)[0] is Rung.OBSERVE:
        return _answer(state, incident, response, at, id_=f"i{state.incidents + 1}")
    # It is the same incident, better understood: its name stays, and it is no second strike.
    state = replace(state, open=tuple(o for o in state.open if o not in explained))
    state = budget.unstruck(state, [o.incident for o in explained])
    decision = _answer(state, incident, response, at, id_=explained[0].id)
    return replace(decision, closed=(*(o.id for o in explained[1:]), *decision.closed))


def _answer(state: State, incident: Incident, response: Response, at: float, *, id_: str) -> Decision:
    if incident.world == state.world:
        # Progress is heard about once a second; the incident knows the last step better.
        state = replace(state, best_step=max(state.best_step, incident.step))
    rung, backoff_s = (Rung.OBSERVE, 0.0) if state.phase in ENDING else _rung(state, incident, at)
    opened = _opened(state, incident, rung, response, id_)
    state = replace(state, incidents=max(state.incidents, int(id_[1:])), open=(*state.open, opened))
    if rung is Rung.OBSERVE:
        return _noted(state, opened, response)
    return _answered(state, budget.struck(state, incident, at), opened, backoff_s, at)


def _same(known: Incident, incident: Incident) -> bool:
    """A fault that lasts was concluded once more: another supervisor, another silence."""
    return incident.kind in LASTING and known.kind is incident.kind and known.subject.node == incident.subject.node


def _is_victim(state: State, incident: Incident, response: Response) -> bool:
    """A fault of a world that is already being ended is its consequence, unless it says more than the cause did."""
    if incident.kind is Kind.SAVE_FAILED and state.phase in RECOVERING:
        return True  # a world that is being ended saves nothing: that says nothing about the storage
    if response.ladder == (Rung.OBSERVE,):
        return False
    if incident.kind in WHOLE_ATTEMPT:
        return state.phase is Phase.RELAUNCHING or worlds.attempt_is_over(state)
    if incident.world < state.world:
        return True
    if state.phase not in RECOVERING:
        return False
    known = state.recovery
    return not (_explained(state, incident) or (response.taints and known is not None and not known.good_only))


def _explained(state: State, incident: Incident) -> tuple[Opened, ...]:
    """Failures of ranks of this world, open until now, that this incident is the cause of."""
    if incident.kind not in DEPTH or state.phase not in (Phase.STOPPING_WORLD, Phase.BACKING_OFF):
        return ()
    if incident.witnesses < max(2, state.policy.responses[incident.kind].witnesses):
        return ()
    return tuple(
        o for o in state.open if o.incident.kind in SURFACE and o.incident.world == incident.world == state.world
    )


def _tainted(state: State, incident: Incident, response: Response) -> State:
    if not response.taints:
        return state
    mark = Taint(world=incident.world, onset=incident.onset, step=incident.onset_step)
    return checkpoints.taint(state, mark)


def _rung(state: State, incident: Incident, at: float) -> tuple[Rung, float]:
    rung, backoff_s = budget.rung(state, incident.kind)
    unproved = state.policy.responses[incident.kind].witnesses > incident.witnesses
    if rung is Rung.OBSERVE or unproved:
        return Rung.OBSERVE, 0.0
    if budget.spent(state, incident.kind, at):
        return Rung.HOLD, 0.0
    return rung, backoff_s


def _opened(state: State, incident: Incident, rung: Rung, response: Response, id_: str) -> Opened:
    until = 0 if rung is Rung.OBSERVE and incident.kind not in LASTING else budget.settled_step(state, response)
    return Opened(id=id_, incident=incident, rung=rung, until_step=until)


def _noted(state: State, opened: Opened, response: Response) -> Decision:
    """Nothing is changed; a kind that stays wrong stays open until its own end is seen."""
    kind = opened.incident.kind
    lasting = kind in LASTING
    closed = () if lasting else (opened.id,)
    if not lasting:
        state = replace(state, open=tuple(o for o in state.open if o.id != opened.id))
    alerts = (_alert(state, opened, response),) if response.page is Paging.ALWAYS or lasting else ()
    goes_on = f"the run is {state.phase} anyway" if state.phase in ENDING else "training goes on"
    reason = f"{kind}: noted, {goes_on}"
    return Decision(state=state, actions=alerts, reason=reason, opened=(opened,), closed=closed)


def _answered(before: State, state: State, opened: Opened, backoff_s: float, at: float) -> Decision:
    incident, rung = opened.incident, opened.rung
    response = state.policy.responses[incident.kind]
    if rung is Rung.HOLD:
        # A ladder that ends here holds for the cause itself, whatever its budget is.
        spent = budget.spent(before, incident.kind, at) and budget.rung(before, incident.kind)[0] is not Rung.HOLD
        reason = _sentence(before, opened) + (_budget_sentence(response) if spent else "")
        return hold(state, at, reason, opened=opened, spent=spent)
    whole = rung is Rung.RELAUNCH or incident.kind in WHOLE_ATTEMPT
    if not whole:
        state, recovery = _rewound(before, state, opened, backoff_s)
    else:
        recovery = _restart(before, state, incident, Rung.RELAUNCH, backoff_s)
    reason = _sentence(replace(before, recovery=recovery), opened)
    if why := unrestorable(state, recovery):
        return hold(state, at, f"{reason}; {why}", opened=opened)
    if whole:
        state, actions = worlds.end_attempt(replace(state, recovery=recovery), at, Phase.RELAUNCHING, reason)
    else:
        state, actions = _restarted(state, at, recovery, reason)
    paged = (_alert(state, opened, response),) if response.page is Paging.ALWAYS else ()
    return Decision(state=state, actions=(*actions, *paged), reason=reason, opened=(opened,))


def _restarted(state: State, at: float, recovery: Recovery, reason: str) -> worlds.Move:
    if state.phase not in RECOVERING:
        return worlds.stop_world(state, at, recovery, reason)
    # The world is being ended already: only what follows changes, and a new attempt stays one.
    known = state.recovery
    if known is not None and known.rung is Rung.RELAUNCH:
        recovery = replace(recovery, rung=Rung.RELAUNCH, backoff_s=max(recovery.backoff_s, known.backoff_s))
    return replace(state, recovery=recovery, reason=reason), ()


def _rewound(before: State, state: State, opened: Opened, backoff_s: float) -> tuple[State, Recovery]:
    """The recovery of a restart or a rewind; a rewind that did not help goes further back and skips more."""
    incident, rung = opened.incident, opened.rung
    if rung is Rung.RESTART:
        # A world that dies before its first step leaves what it was started for still to be done.
        return state, _restart(before, state, incident, rung, backoff_s)
    returns = len(budget.unforgiven(before, incident.kind))
    onset = max(1, incident.step + 1 if incident.onset_step is None else incident.onset_step)
    if rung is Rung.REWIND_SKIP:
        margin = state.plan.skip_margin_steps * 2**returns
        state = worlds.skip_from(state, onset, incident.step, margin)
    recovery = Recovery(rung=rung, backoff_s=backoff_s, good_only=True, below_step=onset, further_back=returns)
    # The numbers may have gone wrong before the loss showed it, so nothing saved after the checkpoint that is
    # gone back to can be trusted either: it never passed its probation.
    safe_step = next((c.step for c in checkpoints.candidates(state, recovery)), 0)
    mark = Taint(world=incident.world, onset=incident.onset, step=safe_step + 1)
    state = checkpoints.taint(state, mark)
    recovery = replace(recovery, further_back=0)  # done: what was passed over is tainted now
    # The steps from the onset on are a line of data that is given up: progress is counted anew on the next one.
    return budget.rewound(state, onset - 1), recovery


def _restart(before: State, state: State, incident: Incident, rung: Rung, backoff_s: float) -> Recovery:
    in_process = rung is Rung.RESTART and _in_process(before, incident)
    known = state.recovery or Recovery(rung=rung, copied=state.plan.copies and state.entered, in_process=in_process)
    from_disk = known.from_disk or incident.kind in SPOILS_MEMORY
    # A world that was to go on from copies, and failed before its first step, may have found none.
    found_none = state.phase is Phase.STARTING and incident.kind not in WHOLE_ATTEMPT
    copied = known.copied and not from_disk and not found_none
    culprits = {*known.culprits, *(rank for rank in (incident.subject.rank,) if rank is not None)}
    return replace(
        known,
        rung=rung,
        backoff_s=backoff_s,
        from_disk=from_disk,
        copied=copied,
        asked=False,
        in_process=known.in_process and in_process,
        culprits=tuple(sorted(culprits)),
        saving=False,
    )


def _in_process(before: State, incident: Incident) -> bool:
    """Processes may go on where one rank is to blame, and where that was not tried in vain just now."""
    return (
        before.plan.in_process
        and incident.kind in IN_PROCESS
        and incident.subject.rank is not None
        and before.phase is Phase.TRAINING
        and not budget.unforgiven(before, incident.kind)
    )


def unrestorable(state: State, recovery: Recovery | None, *, waits: bool = True) -> str:
    """Why no new world should be started from what there is; empty when one may, or when it `waits` for a save."""
    if checkpoints.candidates(state, recovery) or origin.is_unread(state):
        return ""
    if recovery is not None and recovery.copied:
        return ""  # or its ranks say that there are none
    if waits and checkpoints.awaited(state, recovery):
        return ""
    if (first := origin.origin(state)) is not None:
        return f"no usable checkpoint, and the run did not begin from scratch but from {first.name} ({first.state})"
    if origin.may_begin_fresh(state):
        return ""
    return (
        f"no usable checkpoint, and starting from scratch would throw {state.best_step} steps away "
        f"(allowed: {state.plan.fresh_steps_max})"
    )


def _sentence(before: State, opened: Opened) -> str:
    incident = opened.incident
    where = "".join(
        f" {name} {value}"
        for name, value in (("rank", incident.subject.rank), ("node", incident.subject.node))
        if value is not None
    )
    why = f": {incident.evidence[0]}" if incident.evidence else ""
    what = {
        Rung.RESTART: f"restarting {_restart_point(before)}",
        Rung.REWIND: "rewinding to a good checkpoint before it began",
        Rung.REWIND_SKIP: "rewinding to a good checkpoint before it began and skipping the data since",
        Rung.RELAUNCH: "launching a new attempt",
        Rung.HOLD: "holding the run for a person",
    }[opened.rung]
    step = f" at step {incident.step}" if incident.step else ""
    return f"{incident.kind}{where}{step}{why}; {what}"


def _restart_point(state: State) -> str:
    copies = "copies in memory" if state.recovery is not None and state.recovery.copied else ""
    saves = "the newest verified checkpoint" if checkpoints.candidates(state, state.recovery) else ""
    if copies or saves:
        return f"from {' or '.join(filter(None, (copies, saves)))}"
    return "from scratch, for no checkpoint is verified" if state.entered else "the command"


def _budget_sentence(response: Response) -> str:
    return f" (budget spent: {response.strikes_max} in {response.window_s:.0f} s)"


def hold(state: State, at: float, reason: str, *, opened: Opened | None = None, spent: bool = False) -> Decision:
    """Give up for now: end the attempt, keep everything, wake a person."""
    state = replace(state, hold_kind=None if opened is None or spent else opened.incident.kind)
    state, actions = worlds.end_attempt(state, at, Phase.HOLDING, reason)
    page = Alert(
        severity=Severity.CRITICAL,
        title=f"{state.run} is held",
        text=reason,
        incident=opened.id if opened else None,
        page=True,
    )
    return Decision(state=state, actions=(*actions, page), reason=reason, opened=(opened,) if opened else ())


def _alert(state: State, opened: Opened, response: Response) -> Action:
    incident = opened.incident
    return Alert(
        severity=response.severity,
        title=f"{state.run}: {incident.kind}",
        text=incident.evidence[0] if incident.evidence else str(incident.kind),
        incident=opened.id,
        page=response.page is Paging.ALWAYS,
    )


def moved(before: State, move: worlds.Move, at: float, reason: str) -> Decision:
    """The move, unless it begins a world that would throw the run away, or one that should wait for a save."""
    state, actions = move
    if not any(isinstance(action, StartWorld) for action in actions):
        return Decision(state=state, actions=actions, reason=reason)
    if checkpoints.awaited(before, before.recovery) and at - before.since < _patience_s(before):
        return _reading(before, at)
    if why := unrestorable(before, before.recovery, waits=False):
        held = hold(before, at, f"{before.reason}; {why}")
        return replace(held, state=replace(held.state, hold_kind=Kind.CHECKPOINT_CORRUPT))
    return Decision(state=state, actions=actions, reason=reason)


def _patience_s(state: State) -> float:
    """For a save to be read back: short where an older one would do."""
    return READ_S if checkpoints.candidates(state, state.recovery) else state.plan.unheard_s


def _reading(state: State, at: float) -> Decision:
    """What becomes known of the save ends the wait, and so does patience."""
    waiting = state
    if state.phase not in (Phase.LAUNCHING, Phase.BACKING_OFF):
        waiting = worlds.enter(state, Phase.BACKING_OFF, at, state.reason)
    if waiting.recovery is not None:
        waiting = replace(waiting, recovery=replace(waiting.recovery, backoff_s=0.0))  # that wait is over
    first = waiting.phase is not state.phase or state.phase is Phase.LAUNCHING
    reason = "the newest checkpoint is being read back: the next world waits for it" if first else ""
    deadline = max(waiting.since + _patience_s(state), at + READ_AGAIN_S)
    return Decision(state=replace(waiting, deadline=deadline), reason=reason)


def waited(state: State, at: float) -> Decision:
    """The wait before the next world, or the next attempt, is over."""
    return moved(state, worlds.after_back_off(state, at), at, f"waited long enough: {state.reason}")


def is_reading(state: State) -> bool:
    """The next world waits for a save to be read back, and for nothing else."""
    return state.phase is Phase.BACKING_OFF and state.recovery is not None and state.recovery.backoff_s == 0
