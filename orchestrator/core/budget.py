"""How often may it go wrong? Strikes, ladders and budgets, per kind of incident.

Two memories (after OTP's restart intensity and s6's death counts, both filtered by cause): the strikes *without
progress* choose the rung of the ladder and the back-off; all strikes inside the window must stay within the budget.
"""

from __future__ import annotations

from collections.abc import Iterable

from monitors.detect.crash_loop import TIMES, TIMES_CERTAIN, repeats
from monitors.incidents import SURFACE, Incident, Kind
from orchestrator.core.policy import Response, Rung
from orchestrator.core.replacing import replace
from orchestrator.core.state import Phase, State, Strike

LIVED_S = 300.0
"""A program that cannot start fails within seconds, and four tries of it take less than a minute."""


def settled_step(state: State, response: Response) -> int:
    """The step that proves a fault striking now to be over: past the best one, far past for doubts about numbers."""
    return state.best_step + (state.plan.probation_steps if response.taints else 1)


def struck(state: State, incident: Incident, at: float) -> State:
    """The state with one more strike; strikes outside every window are forgotten."""
    horizon = at - max(response.window_s for response in state.policy.responses.values())
    strike = Strike(
        at=at,
        kind=incident.kind,
        step=incident.step,
        fingerprint=incident.fingerprint,
        best_step=settled_step(state, state.policy.responses[incident.kind]),
    )
    return replace(state, strikes=(*(s for s in state.strikes if s.at > horizon), strike))


def unstruck(state: State, incidents: Iterable[Incident]) -> State:
    """The strikes of these taken back: what they were for is told, and counted, as something else."""
    strikes = list(state.strikes)
    for incident in incidents:
        told = (incident.kind, incident.step, incident.fingerprint)
        newest = (n for n in reversed(range(len(strikes))) if _of(strikes[n]) == told)
        if (found := next(newest, None)) is not None:
            del strikes[found]
    return replace(state, strikes=tuple(strikes))


def _of(strike: Strike) -> tuple[Kind, int, str]:
    return (strike.kind, strike.step, strike.fingerprint)


def unforgiven(state: State, kind: Kind) -> tuple[Strike, ...]:
    """Strikes of a kind since which the run has not proved itself.

    Kinds that cast doubt on the numbers count as one: a NaN where a spike was rewound says that one went too short.
    """
    responses = state.policy.responses
    alike = {k for k in responses if responses[k].taints} if responses[kind].taints else {kind}
    return tuple(s for s in state.strikes if s.kind in alike and not _is_proved(state, s))


def _is_proved(state: State, strike: Strike) -> bool:
    """The run got past it; one that tells of no steps can only show that by living on."""
    if strike.kind in SURFACE and not tells_steps(state, strike.step):
        return state.now - strike.at >= LIVED_S
    return strike.best_step <= state.best_step


def tells_steps(state: State, step: int = 0) -> bool:
    """Whether this run was ever heard to speak of steps; `step`: one that is not part of the state."""
    return state.entered or max(state.best_step, step) > 0


def rewound(state: State, best_step: int) -> State:
    """The run's best step, taken back; strikes that it had proved itself beyond stay forgiven."""
    if best_step >= state.best_step:
        return state
    strikes = tuple(replace(s, best_step=0) if s.best_step <= state.best_step else s for s in state.strikes)
    return replace(state, best_step=best_step, strikes=strikes)


def spent(state: State, kind: Kind, at: float) -> bool:
    """One more strike of this kind would exceed its budget."""
    response = state.policy.responses[kind]
    recent = sum(1 for s in state.strikes if s.kind is kind and s.at > at - response.window_s)
    return recent >= response.strikes_max


def rung(state: State, kind: Kind) -> tuple[Rung, float]:
    """The rung that answers the next strike of this kind, and the wait before it in seconds."""
    response = state.policy.responses[kind]
    earlier = len(unforgiven(state, kind))
    step = response.ladder[min(earlier, len(response.ladder) - 1)]
    return step, response.backoff_s[min(earlier, len(response.backoff_s) - 1)]


def loops(state: State, incident: Incident) -> bool:
    """The same failure at the same step, again and again: a restart cannot help.

    Where nobody tells the step, it may be another one each time: then only what fails for certain, and before the world
    was seen to train, is the same.
    """
    if incident.kind is not Kind.WORKER_EXCEPTION:
        return False
    times = TIMES if incident.retryable else TIMES_CERTAIN
    if not tells_steps(state, incident.step):
        if incident.retryable or state.phase is not Phase.STARTING:
            return False
        times = TIMES
    history = [(s.fingerprint, s.step) for s in state.strikes if s.kind is Kind.WORKER_EXCEPTION]
    return repeats(history, incident.fingerprint, incident.step, times)
