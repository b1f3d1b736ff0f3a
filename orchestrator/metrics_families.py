"""How are runs, their books and their supervisor told to Prometheus? Names, units and labels; the values come in.

Names are ours behind `lastgood_`, in base units. What may fall is a gauge, so seconds in a bucket are one: a step that
is rolled back leaves `productive`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily

from orchestrator import contract
from orchestrator.core import spending
from orchestrator.core.state import Checkpoint, CheckpointState, Phase, State
from orchestrator.ledger import Ledger
from orchestrator.metrics_runs import Book, Recoveries, recoveries

STATES = tuple(dict.fromkeys(word for word, _ in contract.STATES.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One run, ready to be told."""

    run: str
    book: Book
    state: State | None
    ledger: Ledger
    recoveries: Recoveries
    agents: int | None
    """connected now; None: the supervisor was not heard"""
    unsupervised: bool
    now: float


def told(book: Book, now: float, *, agents: int | None, unsupervised: bool) -> Told:
    """A run as its books are now."""
    return Told(
        run=book.submission.run,
        book=book,
        state=book.state,
        ledger=book.account.ledger(now),
        recoveries=recoveries(book.account.timeline(), book.state),
        agents=agents,
        unsupervised=unsupervised,
        now=now,
    )


Value = Callable[[Told], float | None]


def _of_state(value: Callable[[State], float | None]) -> Value:
    return lambda one: None if one.state is None else value(one.state)


def _newest(name: str) -> Value:
    return lambda one: getattr(one.book.rows[-1], name) if one.book.rows else None


def _tokens_per_s(one: Told) -> float | None:
    timed = [row for row in one.book.rows if row.step_s]
    counted = [row.tokens for row in timed if row.tokens is not None]
    return sum(counted) / sum(row.step_s or 0.0 for row in timed) if counted else None


def _step_s(one: Told) -> float | None:
    return median(found) if (found := [row.step_s for row in one.book.rows if row.step_s is not None]) else None


def _good(one: Told) -> float | None:
    return max((save.step for save in _saves(one.state) if save.state is CheckpointState.GOOD), default=None)


def _good_age_s(one: Told) -> float | None:
    found = (save.saved_at for save in _saves(one.state) if save.state is CheckpointState.GOOD)
    newest = max(found, default=None)
    return None if newest is None else max(0.0, one.now - newest)


def _saves(state: State | None) -> Sequence[Checkpoint]:
    return state.checkpoints if state is not None else ()


def _attention(one: Told) -> float:
    return float(one.unsupervised or (one.state is not None and one.state.phase is Phase.HELD))


GAUGES: tuple[tuple[str, str, Value], ...] = (
    ("run_attention", "1 when the run waits for a person: held, or not supervised.", _attention),
    ("run_submitted_timestamp_seconds", "When it was handed in.", lambda one: one.book.submission.submitted_at),
    ("run_state_since_timestamp_seconds", "When its state began.", _of_state(lambda state: state.since)),
    ("run_attempt", "Newest submission to the scheduler, from 1.", _of_state(lambda state: state.attempt)),
    ("run_world", "Newest set of ranks that train together, from 1.", _of_state(lambda state: state.world)),
    ("run_ranks", "Ranks of a world.", _of_state(lambda state: state.plan.nodes * state.plan.ranks_per_node)),
    ("run_nodes", "Nodes asked for.", _of_state(lambda state: state.plan.nodes)),
    ("run_agents_joined", "Nodes whose agent is connected now.", lambda one: one.agents),
    ("run_step", "Last step that every rank finished.", _of_state(lambda state: state.step)),
    ("run_best_step", "Furthest step on the present line of data.", _of_state(lambda state: state.best_step)),
    ("run_target_step", "Step at which it is complete.", _of_state(lambda state: state.target)),
    ("run_progress_timestamp_seconds", "When steps were last heard of.", lambda one: one.book.progressed_at),
    ("run_loss", "Newest loss that was reported.", _newest("loss")),
    ("run_grad_norm", "Newest gradient norm that was reported.", _newest("grad_norm")),
    ("run_learning_rate", "Newest learning rate that was reported.", _newest("lr")),
    ("run_tokens_per_second", "Tokens of the reporting rank over its newest steps.", _tokens_per_s),
    ("run_step_seconds", "Median of the newest steps.", _step_s),
    ("run_incidents_open", "Incidents that are not over.", _of_state(lambda state: len(state.open))),
    ("run_ettr_ratio", "Productive time over wall clock, pauses left out.", lambda one: one.ledger.ettr),
    ("run_goodput_ratio", "Productive time over the time with devices.", lambda one: one.ledger.goodput),
    ("run_mttf_seconds", "Training time for each incident that was answered.", lambda one: one.ledger.mttf_s),
    ("run_mttr_seconds", "Mean from an onset to the first step after it.", lambda one: one.ledger.mttr_s),
    ("run_energy_known_ratio", "Share of the GPU time that is in it.", lambda one: one.ledger.energy_known_share),
    ("run_energy_lost_joules", "Spent on steps that were rolled back.", lambda one: one.ledger.energy_lost_j),
    ("checkpoint_last_good_step", "Step of the newest checkpoint that is good.", _good),
    ("checkpoint_last_good_age_seconds", "Since the state in it was copied.", _good_age_s),
    ("checkpoint_bytes", "Size of the newest durable save.", lambda one: one.book.saves.bytes or None),
)
"""name behind `lastgood_`, what it says, its value; None: no sample"""

COUNTERS: tuple[tuple[str, str, Value], ...] = (
    ("run_restarts", "Worlds started after the first, for a fault.", _of_state(lambda state: state.restarts)),
    ("run_steps_lost", "Finished, rolled back, to be trained again.", lambda one: one.ledger.steps_lost),
    (
        "run_gpu_seconds",
        "Ranks times seconds with their devices.",
        lambda one: one.ledger.gpu_hours * 3600,
    ),
    ("run_energy_joules", "Of its GPUs, as far as they were read.", lambda one: one.ledger.energy_j),
)
"""likewise, but for the `_total` of their names"""


def of_runs(runs: Sequence[Told]) -> Iterator[Metric]:
    """Everything about runs."""
    info = GaugeMetricFamily("lastgood_run_info", "Always 1; says what the run is called.", labels=("run", "name"))
    for one in runs:
        info.add_metric((one.run, one.book.submission.name), 1.0)
    yield info
    yield _states(runs)
    for name, text, value in GAUGES:
        yield _filled(GaugeMetricFamily(f"lastgood_{name}", text, labels=("run",)), runs, value)
    for name, text, value in COUNTERS:
        yield _filled(CounterMetricFamily(f"lastgood_{name}", text, labels=("run",)), runs, value)
    yield _buckets(runs)
    yield _budgets(runs)
    yield _incidents(runs)
    yield from _checkpoints(runs)
    yield _phases(runs)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, runs: Iterable[Told], value: Value) -> Metric:
    for one in runs:
        if (found := value(one)) is not None:
            family.add_metric((one.run,), found)
    return family


def _states(runs: Iterable[Told]) -> Metric:
    family = GaugeMetricFamily("lastgood_run_state", "1 for the state that a run is in.", labels=("run", "state"))
    for one in runs:
        word, _ = contract.STATES[one.book.phase]
        for state in STATES:
            family.add_metric((one.run, state), float(state == word))
    return family


def _buckets(runs: Iterable[Told]) -> Metric:
    text = "Wall clock by what it went to; a bucket that never had any is left out. They sum to the wall clock."
    family = GaugeMetricFamily("lastgood_run_ledger_seconds", text, labels=("run", "bucket"))
    for one in runs:
        for bucket, seconds in one.ledger.buckets.items():
            if seconds:
                family.add_metric((one.run, bucket.value), seconds)
    return family


def _budgets(runs: Iterable[Told]) -> Metric:
    text = "Share of a budget that is spent; at 1 the run saves and ends."
    family = GaugeMetricFamily("lastgood_run_budget_used_ratio", text, labels=("run", "budget"))
    for one in runs:
        for use in spending.uses(one.state, one.now) if one.state is not None else ():
            family.add_metric((one.run, use.what), use.share)
    return family


def _incidents(runs: Iterable[Told]) -> Metric:
    text = "Incidents; `drill` is true for those that were provoked on purpose."
    family = CounterMetricFamily("lastgood_run_incidents", text, labels=("run", "kind", "blame", "drill"))
    for one in runs:
        for names, count in one.recoveries.by_kind.items():
            family.add_metric((one.run, *names), count)
    return family


def _phases(runs: Iterable[Told]) -> Metric:
    text = "Recoveries by their parts, from the onset (detect) to the first step after it; total is all of it."
    family = SummaryMetricFamily("lastgood_run_recovery_seconds", text, labels=("run", "phase"))
    for one in runs:
        for phase, (count, seconds) in one.recoveries.spent_s.items():
            family.add_metric((one.run, phase), count_value=count, sum_value=seconds)
    return family


def _checkpoints(runs: Iterable[Told]) -> Iterator[Metric]:
    text = "Those that exist, by how far they are trusted."
    kept = GaugeMetricFamily("lastgood_checkpoints", text, labels=("run", "state"))
    text = "What steps waited for durable saves."
    stall = SummaryMetricFamily("lastgood_checkpoint_stall_seconds", text, labels=("run",))
    text = "From the copy of the state until it was durable."
    write = SummaryMetricFamily("lastgood_checkpoint_write_seconds", text, labels=("run",))
    for one in runs:
        for state, count in Counter(save.state for save in _saves(one.state)).items():
            kept.add_metric((one.run, state.value), count)
        saves = one.book.saves
        if saves.count:
            stall.add_metric((one.run,), count_value=saves.count, sum_value=saves.stall_s)
        if saves.written:
            write.add_metric((one.run,), count_value=saves.written, sum_value=saves.write_s)
    yield from (kept, stall, write)
