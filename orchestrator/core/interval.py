"""How many steps should lie between two durable saves? What a save costs against how often one is needed.

Young's optimum, `sqrt(2 * cost of a save * time between failures)`, makes what saves cost as much as what failures
throw away. (Daly's higher-order estimate differs by less than a new interval must differ to be told until a save costs
a fifth of the time between two failures, and there no run trains.) It is kept within three bounds:

- a save is never due before the one before it is written: twice the time that takes, for the first interval after a
  change may be half as long as the others (`lastgood.interval`);
- half an hour of training, whatever the optimum is: a durable save is also what a person goes back to, takes away and
  stops with, and a fault nobody thought of must not cost an afternoon. A save that costs more than half a percent of
  that is made as seldom as costs half a percent, unless failures are frequent;
- a whole step.

**Which failures count.** Those that go back to a durable save. Where ranks keep copies of their state in memory
(`Plan.copies`), a kill, an exception or a hang is answered from these and loses a step, however old the last save is:
not counted. A rewind and hardware that spoils memory leave no copy that may be taken, and a new attempt (a lost node,
hardware that a new process cannot use) may find that copies were lost with their nodes: counted. Without copies every
world that ended for a fault counts. What ended in a hold does not: a person decides what comes then.

**How often.** A Gamma distribution over the rate, by ranks times seconds trained: the prior counts for one failure,
after which the run's own record takes over. The machines: 419 unexpected interruptions in 54 days on 16,384 GPUs (The
Llama 3 Herd of Models, arXiv 2407.21783, table 5), one in 50,700 GPU-hours; 314 of them (faulty GPUs, their memory and
processors, hosts, wrong results) leave no copies in memory, 105 (software, network, time-outs, dependencies) do. And
the run itself, however small: OPT-175B was started again about 105 times in 60 days on 992 GPUs (arXiv 2205.01068),
1.3 times a day more often than its machines explain: one a day. Copies in memory answer all of these but rewinds, for
which the weekly loss spike of ZAYA1 (arXiv 2511.17127) stands.
"""

from __future__ import annotations

from math import ceil, sqrt

from orchestrator.core.actions import SaveEvery
from orchestrator.core.events import CheckpointCommitted, Plan
from orchestrator.core.policy import Rung
from orchestrator.core.replacing import replace
from orchestrator.core.state import Phase, Recovery, State

HOUR_S = 3600.0
GPU_S = 54 * 24 * HOUR_S * 16_384 / 419
"""rank-seconds between interruptions of any kind by machines"""
GPU_DURABLE_S = GPU_S * 419 / 314
"""the same of those that leave no copies in memory"""
OWN_S, OWN_DURABLE_S = 24 * HOUR_S, 7 * 24 * HOUR_S
"""seconds between failures that the run itself brings, whatever its size"""

FIRST_STEPS = 10
"""until a save was measured"""
WRITES = 2
"""intervals are at least so many times as long as a save takes to be written"""
LONGEST_S = 1800.0
SHARE = 0.005
"""of training time, that saves may cost for the sake of the longest interval"""
COST_LEAST_S = 0.001
"""no save is free: it is read back, and deleted"""
TOLD_RATIO = 1.25
"""a new interval that differs by less is not worth a line of the journal; the optimum is flat: 25 % cost it 2.5 %"""
KEPT = 5
"""saves that are remembered"""

FIXED = "the spec fixes it"
FIRST = "soon, to measure what a save costs"


def failure_every_s(plan: Plan, trained_s: float, failures: int) -> float:
    """Seconds of training between two failures that go back to a durable save, as far as is known.

    `failures` of that kind were seen in `trained_s` seconds of training.
    """
    ranks = plan.nodes * plan.ranks_per_node
    machine_s, own_s = (GPU_DURABLE_S, OWN_DURABLE_S) if plan.copies else (GPU_S, OWN_S)
    prior_s = 1.0 / (ranks / machine_s + 1.0 / own_s)  # of the world, for which a failure was seen
    return (prior_s + trained_s) / (1 + failures)


def optimum_s(cost_s: float, failure_s: float, written_s: float = 0.0) -> float:
    """Seconds of training between two saves. `cost_s`: what a step waits for one; `written_s`: until it is durable."""
    cost_s = max(cost_s, COST_LEAST_S)
    longest_s = max(LONGEST_S, cost_s / SHARE)
    return max(min(sqrt(2.0 * cost_s * failure_s), longest_s), WRITES * written_s)


def begun(state: State) -> State:
    """The state of a run that was just submitted, with its first interval."""
    if state.plan.save_every is not None:
        return replace(state, save_every=state.plan.save_every, save_why=FIXED)
    return replace(state, save_every=FIRST_STEPS, save_why=FIRST) if state.plan.chooses_interval else state


def trained(state: State, at: float) -> float:
    """Seconds trained until now, `at` being when progress is heard of."""
    return state.trained_s + (max(0.0, at - state.heard) if state.phase is Phase.TRAINING else 0.0)


def failed(state: State) -> State:
    """The next world is about to begin: count what the one before ended for, and choose anew."""
    recovery = state.recovery
    if recovery is None or recovery.asked or not (_is_durable(recovery) or not state.plan.copies):
        return state
    return _chosen(replace(state, durable_restarts=state.durable_restarts + 1))


def _is_durable(recovery: Recovery) -> bool:
    """No copy in memory may be taken, or some may have been lost with their nodes."""
    return recovery.good_only or recovery.from_disk or recovery.rung is Rung.RELAUNCH


def measured(state: State, save: CheckpointCommitted) -> tuple[State, tuple[SaveEvery, ...]]:
    """A save tells what one costs: the newest world is told when another interval is better by more than a little."""
    if not state.plan.chooses_interval:
        return state, ()
    state = replace(
        state,
        stalls_s=(*state.stalls_s, save.stall_s)[-KEPT:],
        writes_s=(*state.writes_s, save.write_s)[-KEPT:] if save.write_s is not None else state.writes_s,
    )
    if state.phase is not Phase.TRAINING:
        return state, ()  # a world that is being started is told once, and every node the same
    chosen = _chosen(state)
    return chosen, order(chosen) if chosen.save_every != state.save_every else ()


def order(state: State) -> tuple[SaveEvery, ...]:
    """What a world that trains has to know of the interval; it is safe to be told again."""
    if not state.plan.chooses_interval or state.save_every == 0:
        return ()
    return (SaveEvery(attempt=state.attempt, world=state.world, steps=state.save_every, why=state.save_why),)


def _chosen(state: State) -> State:
    """With the interval by what is known now, when that differs by enough, and with the reason for it."""
    if not state.stalls_s or not state.step_s:
        return state
    cost_s, written_s = max(_typical(state.stalls_s), COST_LEAST_S), _typical(state.writes_s)
    failure_s = failure_every_s(state.plan, state.trained_s, state.durable_restarts)
    best_s = optimum_s(cost_s, failure_s, written_s)
    steps = best_s / state.step_s
    differs = not state.save_every / TOLD_RATIO <= steps <= state.save_every * TOLD_RATIO
    # Rounded up: never below a bound, and one that lies between two whole numbers does not go to and fro.
    every = max(1, ceil(steps)) if differs else state.save_every
    return replace(state, save_every=every, save_why=_why(state.plan, cost_s, failure_s, written_s))


def _typical(values_s: tuple[float, ...]) -> float:
    """The lower median: the first save makes its buffers, and is slower than those that follow."""
    return sorted(values_s)[(len(values_s) - 1) // 2] if values_s else 0.0


def _why(plan: Plan, cost_s: float, failure_s: float, written_s: float) -> str:
    best_s = optimum_s(cost_s, failure_s, written_s)
    kind = "a failure that memory does not answer" if plan.copies else "a failure"
    why = f"a save costs {_length(cost_s)}, {kind} is expected every {_length(failure_s)}"
    if best_s > optimum_s(cost_s, failure_s):
        return f"{why}; one takes {_length(written_s)} to be written"
    if best_s >= LONGEST_S and best_s < sqrt(2.0 * cost_s * failure_s):
        return f"{why}; {_length(best_s)} of training at most"
    return why


def _length(value_s: float) -> str:
    """For people: `0.02 s`, `45 min`, `9.1 h`, `12 days`."""
    if value_s < 60.0:
        return f"{value_s:.2g} s"
    if value_s < HOUR_S:
        return f"{value_s / 60.0:.0f} min"
    return f"{value_s / HOUR_S:.3g} h" if value_s < 48 * HOUR_S else f"{value_s / 24 / HOUR_S:.0f} days"
