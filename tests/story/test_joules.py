"""Do the joules of a run add up, whoever supervised it, and in whatever order its events are read?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitors.incidents import Kind
from orchestrator import joules
from orchestrator.core import events as e
from orchestrator.core.state import Phase
from orchestrator.journal import Entry, Journal
from orchestrator.ledger import Ledger, balance
from tests.story.scripted import RUN, T0, Script

WATTS = 300.0
"""of the two GPUs together"""


def read(script: Script, since: float = T0, **changes: Any) -> e.EnergyRead:
    """What one supervisor has added up by now, of two GPUs that it has read since it came."""
    spent_s = script.now - since
    total = e.EnergyRead(since=since, until=script.now, joules=WATTS * spent_s, gpu_s=2 * spent_s)
    return replace(total, **changes)


def train(script: Script, steps: int, since: float = T0) -> Script:
    """Steps of 0.1 s, and what they took."""
    script.wait(steps * 0.1)
    return script.train(steps, 0.0, energy=read(script, since))


def stop(script: Script, since: float = T0) -> Script:
    """The end of a world, and what was spent up to it."""
    script.wait(0.5)
    script.take(e.NodeStopped(at=script.now, world=script.state.world, node=0, energy=read(script, since)))
    return script


def books(script: Script) -> Ledger:
    return balance(script.entries, script.now)


def test_where_no_gpu_was_read_nothing_is_known() -> None:
    ledger = books(Script().join().begin(0).train(10))
    assert (ledger.energy_j, ledger.energy_known_share, ledger.energy_lost_j) == (None, None, None)
    assert (ledger.energy_per_step_j, ledger.energy_per_token_j) == (None, None)
    carried = e.EnergyRead(since=T0, until=T0, joules=0.0, gpu_s=0.0)
    assert books(Script().join().begin(0).train(10, energy=carried)).energy_j is None, "a supervisor that read nothing"


def test_the_newest_total_is_the_energy_of_the_run() -> None:
    ledger = books(train(train(Script().join(2.0).begin(0), 10), 10))
    assert ledger.energy_j == pytest.approx(WATTS * 7.5)
    assert ledger.energy_known_share == 1.0, "read before it had its devices, but never more than all of the time"
    assert ledger.energy_lost_j == 0.0


def test_what_is_not_read_is_not_zero() -> None:
    script = Script().join(0.0).begin(0, start_s=0.0, restore_s=0.0)
    script.wait(10.0).train(10, 0.0, energy=read(script, gpu_s=5.0))
    assert books(script).energy_known_share == pytest.approx(0.25)


def test_energy_is_spent_up_to_the_end_of_a_world() -> None:
    script = stop(train(Script().join().begin(0), 10))
    assert books(script).energy_j == pytest.approx(WATTS * (script.now - T0))


def test_each_supervisor_adds_up_for_itself() -> None:
    script = train(Script().join(2.0).begin(0), 10)
    script.take(e.SupervisorStarted(at=script.wait(5.0).now, pid=2, last_alive=T0))
    came = script.now
    train(train(script, 10, came), 10, came)
    ledger = books(script)
    assert ledger.energy_j == pytest.approx(WATTS * (6.5 + 2.0))
    assert ledger.energy_known_share == pytest.approx((2 * 8.5) / (2 * (script.now - T0 - 2.0)))


def test_means_are_those_of_all_supervisors() -> None:
    script = Script().join().begin(0)
    first = read(script, step_j=100.0, steps=10, token_j=60.0, tokens=30.0)
    script.train(10, energy=first).train(10, energy=replace(first, since=T0 + 1, step_j=500.0, steps=20))
    ledger = books(script)
    assert (ledger.energy_per_step_j, ledger.energy_per_token_j) == (pytest.approx(20.0), pytest.approx(2.0))


def test_lost_energy_is_that_of_the_time_recomputed() -> None:
    script = train(train(train(Script().join().begin(0), 10).save(), 10), 10)
    stop(script.fail(Kind.WORKER_KILLED, detect_s=0.5)).begin(10)
    ledger = books(script)
    assert ledger.buckets["recomputed"] == 2.0
    assert ledger.energy_lost_j == pytest.approx(WATTS * 2.0)
    again = books(train(script, 20))
    assert again.energy_lost_j == pytest.approx(WATTS * 2.0), "trained again, they are not lost again"


def test_a_total_that_covers_more_than_the_lost_steps_is_shared_by_time() -> None:
    script = Script().join(0.0).begin(0, start_s=0.0, restore_s=0.0).train(10).save().train(10)
    stop(script.fail(Kind.WORKER_KILLED, detect_s=0.5)).begin(10)
    assert books(script).energy_lost_j == pytest.approx(WATTS * 1.0)


def test_a_thinned_journal_has_the_same_energy(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db") as journal:
        script = Script(journal).join().begin(0)
        for _ in range(300):
            train(script, 10)
        script.save()
        for _ in range(300):
            train(script, 10)
        stop(script.fail(Kind.WORKER_KILLED)).begin(3000)
        train(script, 10)
        thin, full = journal.entries(RUN, thin=True), journal.entries(RUN)
    assert len(thin) < len(full) / 10
    few, many = balance(thin, script.now), balance(full, script.now)
    assert few.energy_j == pytest.approx(many.energy_j)
    assert few.energy_known_share == pytest.approx(many.energy_known_share)
    assert few.energy_lost_j == pytest.approx(many.energy_lost_j, abs=WATTS * 0.2)


# Any order of events

TOTALS = [
    e.EnergyRead(
        since=T0 + 1000 * life, until=T0 + 1000 * life + s, joules=100.0 * s, gpu_s=2.0 * s, step_j=5.0 * s, steps=s
    )
    for life in range(3)
    for s in (1, 10, 11, 50)
]


def entry(read: e.EnergyRead) -> Entry:
    event = e.Progressed(at=read.until, world=1, step=1, energy=read)
    return Entry(id=1, event=event, phase=Phase.TRAINING)


@given(st.permutations(TOTALS), st.lists(st.sampled_from(TOTALS)), st.lists(st.floats(0, 4000), max_size=8))
def test_in_any_order_and_however_often_an_event_is_read_the_sum_is_the_same(
    order: list[e.EnergyRead], again: list[e.EnergyRead], marks: list[float]
) -> None:
    ends = sorted(set(marks))
    lost = [(T0 + start, T0 + end) for start, end in zip(ends[::2], ends[1::2], strict=False)]
    meter = joules.Meter()
    for read in [*order, *again]:
        meter.see(entry(read))
    spent = meter.spent(gpu_s=600.0, lost=lost)
    assert spent.joules == pytest.approx(3 * 5000.0)
    assert spent.known_share == pytest.approx(0.5)
    assert spent.per_step_j == pytest.approx(5.0)
    assert spent.lost_j is not None
    assert 0.0 <= spent.lost_j <= 3 * 5000.0 + 1e-6
