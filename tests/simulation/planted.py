"""Would the simulation find a bug? Cores with a known one planted, for the tests of the simulation itself.

They are bugs that supervisors in the field have. They run without the core's own invariants, so that what finds them
is the truth of the simulated world alone.
"""

from __future__ import annotations

from dataclasses import replace

from monitors.incidents import DEPTH, Subject
from orchestrator.core import decide, worlds
from orchestrator.core import events as e
from orchestrator.core.actions import StartWorld
from orchestrator.core.state import Checkpoint, CheckpointState, Decision, Phase, State
from tests.simulation.journal import Decide


def honest(state: State | None, event: e.Event) -> Decision:
    """The real core without its invariants: what the planted ones are compared with."""
    if state is None:
        assert isinstance(event, e.RunSubmitted), event
        return decide.begin(event)
    return decide.decide(state, event)


def trusts_late_verification(state: State | None, event: e.Event) -> Decision:
    """A save that is verified counts as sound, though it was made after the onset of a spike that is known by now.

    Filtering at the time of detection only does this: what is not committed or verified by then is not looked at.
    """
    decision = honest(state, event)
    match event:
        case e.CheckpointVerified():
            saves = tuple(_sound(c, event.checkpoint) for c in decision.state.checkpoints)
            return replace(decision, state=replace(decision.state, checkpoints=saves))
        case _:
            return decision


def _sound(checkpoint: Checkpoint, name: str) -> Checkpoint:
    late = checkpoint.name == name and checkpoint.state is CheckpointState.TAINTED
    return replace(checkpoint, state=CheckpointState.VERIFIED) if late else checkpoint


def starts_early(state: State | None, event: e.Event) -> Decision:
    """The next world starts when the first node has stopped, not the last."""
    ending = state if state is not None and state.phase is Phase.STOPPING_WORLD else None
    if ending is not None and isinstance(event, e.NodeStopped) and event.world == ending.world:
        state = replace(ending, stopped=worlds.all_nodes(ending))
    return honest(state, event)


def trusts_memory(state: State | None, event: e.Event) -> Decision:
    """What is left in memory is taken whatever was doubted since, and whoever asked for a new start."""
    decision = honest(state, event)
    orders = (replace(a, memory_since=1) if isinstance(a, StartWorld) else a for a in decision.actions)
    return replace(decision, state=replace(decision.state, memory_since=1), actions=tuple(orders))


def counts_twice(state: State | None, event: e.Event) -> Decision:
    """A failure that is told again as what it was of stays a strike of its own."""
    decision = honest(state, event)
    if state is None or not decision.opened or decision.opened[0].id not in {known.id for known in state.open}:
        return decision
    new = decision.state.strikes[-1:]
    return replace(decision, state=replace(decision.state, strikes=(*state.strikes, *new)))


def blames_the_victim(state: State | None, event: e.Event) -> Decision:
    """Whoever failed first is taken for the culprit, wherever the hardware is broken."""
    if isinstance(event, e.IncidentDetected) and event.incident.kind in DEPTH and event.incident.next_best is not None:
        victim = event.incident.next_best
        incident = replace(event.incident, subject=Subject(node=victim.node, rank=victim.rank))
        event = replace(event, incident=incident)
    return honest(state, event)


def forgets_cordons(state: State | None, event: e.Event) -> Decision:
    """Where the agents are is not looked at: the scheduler was told which hosts not to give, and that must do."""
    decision = honest(replace(state, hosts=()) if state is not None else None, event)
    return replace(decision, state=replace(decision.state, hosts=()))


def deletes_what_is_pinned(state: State | None, event: e.Event) -> Decision:
    """Retention looks at states of checkpoints alone."""
    if state is None or not isinstance(event, e.Progressed):
        return honest(state, event)
    decision = honest(replace(state, checkpoints=tuple(replace(c, pinned=False) for c in state.checkpoints)), event)
    pinned = {c.name for c in state.checkpoints if c.pinned}
    saves = tuple(replace(c, pinned=c.name in pinned) for c in decision.state.checkpoints)
    return replace(decision, state=replace(decision.state, checkpoints=saves))


def obeys_the_budget(state: State | None, event: e.Event) -> Decision:
    """Whoever says that a paused run may go on is believed."""
    if isinstance(event, e.ResumeRequested) and state is not None and state.phase is Phase.PAUSED:
        return honest(state, replace(event, by="ada"))
    return honest(state, event)


IN_ROUGH: tuple[Decide, ...] = (
    trusts_late_verification,
    starts_early,
    trusts_memory,
    forgets_cordons,
    deletes_what_is_pinned,
    obeys_the_budget,
)
IN_HARDWARE: tuple[Decide, ...] = (counts_twice, blames_the_victim)
"""by the profile that has to find them"""
ALL = (*IN_ROUGH, *IN_HARDWARE)
