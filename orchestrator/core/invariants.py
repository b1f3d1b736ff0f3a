"""What must never be true? Checked after every decision, in production too; a breach is our bug, never the world's."""

from __future__ import annotations

from orchestrator.core import checkpoints, cordons, events, origin, silence, worlds
from orchestrator.core.actions import DeleteCheckpoint, EndAttempt, Launch, StartWorld, StopWorld
from orchestrator.core.policy import Rung
from orchestrator.core.state import ENDED, CheckpointState, Decision, Phase, State

ANSWERED = frozenset({Phase.HELD, Phase.HOLDING})
"""phases that answer a budget which is spent"""


class InvariantBroken(AssertionError):
    """The core decided something it must never decide. Stop, keep the journal, report it."""


def check(before: State | None, event: events.Event, decision: Decision) -> None:
    """Raise InvariantBroken when the decision breaks one of the invariants (their numbers are in ARCHITECTURE.md)."""
    if decision.actions:  # these forbid orders, and most decisions give none
        _one_world(before, event, decision)
        _trusted_resume(before, decision)
        _no_cordoned_host(before, decision)
        _nothing_unseen_is_killed(event, decision)
        _last_good_kept(before, decision)
    _budgets(before, event, decision.state)
    _never_stuck(decision.state)


def _require(holds: bool, text: str, *facts: object) -> None:
    if not holds:
        raise InvariantBroken(f"{text}: {facts}")


def _one_world(before: State | None, event: events.Event, decision: Decision) -> None:
    """1: a world starts only when no worker of the one before is left; an attempt only when the one before is gone."""
    if before is None:
        return
    for action in decision.actions:
        if isinstance(action, StartWorld) and action.world != before.world:
            stopped = {*before.stopped, *((event.node,) if isinstance(event, events.NodeStopped) else ())}
            gone = before.world == 0 or before.phase is Phase.LAUNCHING or stopped == set(worlds.all_nodes(before))
            _require(gone and action.world == before.world + 1, "1: two worlds", before.phase, stopped, action)
        if isinstance(action, Launch) and action.attempt != before.attempt:
            ended = before.phase in ENDED or isinstance(event, events.AttemptEnded)
            ended = ended or (before.phase is Phase.BACKING_OFF and not before.joined)
            _require(ended and action.attempt == before.attempt + 1, "1: two attempts", before.phase, action)


def _trusted_resume(before: State | None, decision: Decision) -> None:
    """2: never from a checkpoint that is uncommitted, unverified, or was saved inside a tainted interval."""
    after = decision.state
    for action in decision.actions:
        if not isinstance(action, StartWorld):
            continue
        if before is not None and action.world == before.world:
            same = (action.candidates, action.save_every) == (before.candidates, before.save_every)
            _require(same, "2: a repeated order differs", action, before.candidates, before.save_every)
            continue
        first = origin.origin(after)
        _require(bool(action.candidates) or first is None, "2: from scratch, not from its origin", first)
        known = {c.name: c for c in after.checkpoints}
        for name in action.candidates:
            save = known.get(name)
            _require(save is not None, "2: unknown checkpoint", name)
            assert save is not None
            _require(save.state in checkpoints.RESTORABLE, "2: untrusted checkpoint", save)
            _require(not checkpoints.tainted(save, after.taints), "2: saved inside a fault", save, after.taints)
        cause = None if before is None else before.recovery
        doubt = cause is not None and (cause.good_only or cause.from_disk or cause.asked)
        _require(not doubt or action.memory_since == action.world, "2: copies of doubted numbers", action)


def _by_the_same_clock(before: State, event: events.Event) -> State:
    """A new supervisor's clock may be behind: strikes that are only told by it are not new ones."""
    if not isinstance(event, events.SupervisorStarted) or event.at >= before.now:
        return before
    return silence.set_back(before, event.at)


def _budgets(before: State | None, event: events.Event, after: State) -> None:
    """3: no kind strikes more often than its runbook allows without the run being held."""
    if before is None or after.strikes is before.strikes or after.phase in ANSWERED or not after.strikes:
        return
    if after.strikes[-1:] == _by_the_same_clock(before, event).strikes[-1:]:
        return  # no new one
    newest = after.strikes[-1]
    response = after.policy.responses[newest.kind]
    recent = sum(1 for s in after.strikes if s.kind is newest.kind and s.at > newest.at - response.window_s)
    _require(recent <= response.strikes_max, "3: budget exceeded", newest.kind, recent)


def _no_cordoned_host(before: State | None, decision: Decision) -> None:
    """4: a cordoned host is given no ranks of a world that begins, and the scheduler is told of it."""
    after = decision.state
    if not after.cordons:
        return
    for action in decision.actions:
        if isinstance(action, StartWorld) and (before is None or action.world != before.world):
            _require(not cordons.here(after), "4: ranks on a cordoned host", action, cordons.here(after))
        if isinstance(action, Launch):
            _require(action.exclude == cordons.names(after), "4: a cordon kept from the scheduler", action)


def _nothing_unseen_is_killed(event: events.Event, decision: Decision) -> None:
    """5: what is merely not seen is observed; a death needs two witnesses."""
    destructive = [a for a in decision.actions if isinstance(a, StopWorld | EndAttempt)]
    if not destructive:
        return
    if isinstance(event, events.AgentGone):
        _require(len(set(event.witnesses)) >= 2, "5: one witness", event)
    if isinstance(event, events.IncidentDetected):
        response = decision.state.policy.responses[event.incident.kind]
        may = response.witnesses <= event.incident.witnesses and response.ladder != (Rung.OBSERVE,)
        _require(may, "5: killed without witnesses", event, destructive)


def _never_stuck(after: State) -> None:
    """7: every phase but the last ones has a deadline."""
    if (after.deadline is None) != (after.phase in ENDED):
        raise InvariantBroken(f"7: no deadline: {after.phase, after.deadline}")


def _last_good_kept(before: State | None, decision: Decision) -> None:
    """Retention never takes the last good checkpoint, nor another run's."""
    gone = {a.checkpoint for a in decision.actions if isinstance(a, DeleteCheckpoint)}
    if before is None or not gone:
        return
    good = {c.name for c in before.checkpoints if c.state is CheckpointState.GOOD}
    good |= {c.name for c in decision.state.checkpoints if c.state is CheckpointState.GOOD}
    _require(not good or bool(good - gone), "the last good checkpoint would be deleted", good, gone)
    first = origin.origin(decision.state)
    _require(first is None or first.name not in gone, "another run's checkpoint would be deleted", first)
    pinned = {c.name for c in before.checkpoints if c.pinned}
    _require(not pinned & gone, "a pinned checkpoint would be deleted", pinned & gone)
