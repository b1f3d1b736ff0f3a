"""Whom does the power of the GPUs point at, and what is it silent about?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitors.detect.power import Power, Witness
from monitors.detect.power_pattern import Pattern
from monitors.hardware import GpuFailed, GpuLooked
from monitors.incidents import Incident, Kind
from monitors.signals import PHASES, Phase, RankExited, RankProgress, Signal

POLL_S = 5.0
WORK, SPIN, IDLE = 620.0, 125.0, 70.0


class Machine:
    """Nodes of eight GPUs, one rank each, that train until told otherwise."""

    def __init__(self, *, nodes: int = 2, sdk: bool = True, **options: object) -> None:
        self.power = Power(ranks_per_node=8, **options)  # type: ignore[arg-type]
        self.power.world_began(1)
        self.looks = [self._look(node, index) for node in range(nodes) for index in range(8)]
        self.sdk = sdk
        self.now = 1000.0
        self.step = 0
        self.moves = True
        self.phases: dict[int, Phase] = {}
        self.incidents: list[Incident] = []

    @staticmethod
    def _look(node: int, index: int) -> GpuLooked:
        return GpuLooked(
            at=0.0,
            node=node,
            device=f"GPU-{node}{index}",
            index=index,
            name="NVIDIA H100",
            power_w=WORK,
            power_mean_w=WORK + node + index,
            limit_w=700.0,
            limit_default_w=700.0,
            utilisation=1.0,
            sm_clock_mhz=1800.0,
            sm_clock_max_mhz=1980.0,
            throttled_s=(("power_cap", 0.0), ("hw_thermal", 0.0), ("sw_thermal", 0.0), ("power_brake", 0.0)),
        )

    def set(self, *ranks: int, **fields: object) -> None:
        """What these GPUs show from now on."""
        for rank in ranks:
            self.looks[rank] = replace(self.looks[rank], **fields)  # type: ignore[arg-type]

    def draw(self, watts: float, *ranks: int, use: float = 1.0) -> None:
        """Power, use, and the clock that goes with it."""
        for rank in ranks or range(len(self.looks)):
            self.set(rank, power_w=watts, power_mean_w=watts, utilisation=use, sm_clock_mhz=1980.0)

    def say(self, signal: Signal) -> None:
        self.incidents += self.power.see(signal)

    def poll(self, times: int = 1, *, without: tuple[int, ...] = (), **grows: float) -> None:
        """Every agent looks at its GPUs, and tells where its ranks are; `grows`: throttled seconds of rank 3."""
        for _ in range(times):
            self.now += POLL_S
            self.step += self.moves
            for rank in range(len(self.looks)) if self.sdk else ():
                self.say(self._progress(rank))
            if grows:
                counted = dict(self.looks[3].throttled_s)
                self.set(3, throttled_s=tuple({k: v + grows.get(k, 0.0) for k, v in counted.items()}.items()))
            for rank, look in enumerate(self.looks):
                if rank not in without:
                    self.say(replace(look, at=self.now + look.node))

    def _progress(self, rank: int) -> RankProgress:
        return RankProgress(
            at=self.now,
            node=rank // 8,
            world=1,
            rank=rank,
            step=self.step,
            phase=self.phases.get(rank, Phase.STEP),
            moved_at=self.now,
            spent_s=(0.0,) * len(PHASES),
        )

    def stalls(self) -> None:
        """No step ends from now on."""
        self.moves = False

    @property
    def witness(self) -> Witness | None:
        return self.power.witnesses[0] if self.power.witnesses else None


def trained(**options: object) -> Machine:
    machine = Machine(**options)  # type: ignore[arg-type]
    machine.poll(12)
    assert machine.incidents == []
    assert machine.witness is None
    return machine


def test_the_one_gpu_that_does_not_spin_is_whom_the_others_wait_for() -> None:
    machine = trained()
    machine.stalls()
    machine.draw(SPIN)
    machine.draw(IDLE, 11, use=0.0)
    machine.poll(7)
    assert machine.witness is not None
    assert machine.witness.pattern is Pattern.LAGGARD
    assert (machine.witness.subject.node, machine.witness.subject.rank) == (1, 11)
    (drop,) = machine.incidents
    assert (drop.kind, drop.subject.rank, drop.subject.device) == (Kind.POWER_DROP, 11, "GPU-13")
    assert drop.onset >= 1060
    assert drop.senses == ("power", "progress")


def test_a_gpu_that_still_works_while_the_others_spin_is_named_too() -> None:
    machine = trained()
    machine.stalls()
    machine.draw(SPIN, *(rank for rank in range(16) if rank != 5))
    machine.poll(8)
    assert [incident.subject.rank for incident in machine.incidents] == [5]


@pytest.mark.parametrize("how", ["failed", "zero", "none"])
def test_a_gpu_that_cannot_be_read_while_the_others_spin_is_named(how: str) -> None:
    machine = trained()
    machine.stalls()
    machine.draw(SPIN)
    if how == "failed":
        machine.say(GpuFailed(at=machine.now, node=0, device="GPU-02", index=2, error="lost"))
    else:
        power = 0.0 if how == "zero" else None
        machine.set(2, power_w=power, power_mean_w=power)
    machine.poll(8, without=(2,) if how == "failed" else ())
    assert [incident.subject.rank for incident in machine.incidents] == [2]


def test_a_node_that_idles_while_the_others_spin_is_named_as_a_node() -> None:
    machine = trained(nodes=4)
    machine.stalls()
    machine.draw(SPIN)
    machine.draw(IDLE, *range(16, 24), use=0.0)
    machine.poll(8)
    (drop,) = machine.incidents
    assert (drop.subject.node, drop.subject.rank) == (2, None)


@pytest.mark.parametrize(("watts", "use"), [(SPIN, 1.0), (IDLE, 0.0)])
def test_all_down_together_names_nobody(watts: float, use: float) -> None:
    machine = trained()
    machine.stalls()
    machine.draw(watts, use=use)
    machine.poll(20)
    (drop,) = machine.incidents
    assert (drop.subject.node, drop.subject.rank) == (None, None)


@pytest.mark.parametrize("phase", [Phase.SAVE, Phase.EVAL])
@pytest.mark.parametrize("everybody", [True, False])
def test_a_save_or_an_evaluation_is_no_drop(phase: Phase, everybody: bool) -> None:
    machine = trained()
    machine.stalls()
    machine.draw(SPIN)
    machine.draw(IDLE, 0, use=0.0)
    machine.phases = dict.fromkeys(range(16) if everybody else range(1), phase)
    machine.poll(30)
    assert machine.incidents == []
    assert machine.witness is not None, "that rank 0 is waited for is true all the same"
    assert machine.witness.confidence < 0.5


def test_where_nothing_is_known_of_steps_a_drop_is_told_late_and_later_after_one_that_passed() -> None:
    machine = trained(sdk=False)
    machine.draw(SPIN)
    machine.poll(9)
    assert machine.incidents == [], "45 s: so long may a save take"
    machine.draw(WORK)
    machine.poll(5)
    machine.draw(SPIN)
    machine.poll(15)
    assert machine.incidents == [], "75 s, after 45 s that were harmless"
    machine.poll(6)
    assert len(machine.incidents) == 1


def test_a_step_that_ends_now_and_then_is_no_drop() -> None:
    machine = trained()
    machine.draw(SPIN)
    machine.poll(20)
    assert machine.incidents == []


def test_one_gpu_at_the_power_of_a_wait_while_the_others_work_is_told() -> None:
    machine = trained()
    machine.draw(SPIN, 6)
    machine.poll(6)
    (drop,) = machine.incidents
    assert (drop.kind, drop.subject.rank) == (Kind.POWER_DROP, 6)
    machine.poll(30)
    assert len(machine.incidents) == 1, "once"


def test_one_low_poll_says_nothing() -> None:
    machine = trained()
    for _ in range(10):
        machine.draw(SPIN, 6)
        machine.poll(2)
        machine.draw(WORK, 6)
        machine.poll(2)
    assert machine.incidents == []


def test_a_sensor_that_lags_points_at_nobody() -> None:
    machine = trained()
    machine.phases = dict.fromkeys(range(16), Phase.SAVE)
    for watts in (400.0, 250.0, 150.0, 90.0, IDLE, IDLE, IDLE):
        machine.draw(watts, use=0.0)
        machine.poll()
    assert machine.incidents == []
    assert all(witness.subject.rank is None for witness in machine.power.witnesses)


def test_pipeline_stages_are_held_against_their_own() -> None:
    roles = {rank: "first" if rank < 8 else "last" for rank in range(16)}
    machine = Machine(role_of=roles.__getitem__)
    machine.draw(380.0, *range(8, 16))
    machine.poll(40)
    assert machine.incidents == []


def test_gpus_of_no_rank_are_neither_peers_nor_suspects() -> None:
    machine = Machine(rank_of=lambda node, index: node * 4 + index if index < 4 else None)
    machine.draw(IDLE, *(rank for rank in range(16) if rank % 8 >= 4), use=0.0)
    machine.poll(20)
    assert machine.incidents == []
    machine.stalls()
    machine.draw(SPIN, *(rank for rank in range(16) if rank % 8 < 4))
    machine.draw(IDLE, 1, use=0.0)
    machine.poll(8)
    assert [incident.subject.rank for incident in machine.incidents] == [1]


def test_slices_of_a_gpu_whose_use_is_not_counted_are_not_judged() -> None:
    machine = Machine()
    machine.set(*range(16), utilisation=None)
    machine.poll(12)
    machine.draw(SPIN, 3)
    machine.set(*range(16), utilisation=None)
    machine.poll(20)
    assert machine.incidents == []


def test_the_end_of_a_run_is_no_drop() -> None:
    machine = trained()
    machine.say(RankExited(at=machine.now, node=0, world=1, rank=0, code=0, signal=None, step=12))
    machine.draw(IDLE, use=0.0)
    machine.poll(20)
    assert machine.incidents == []
    assert machine.power.witnesses == ()


def test_a_start_is_no_drop() -> None:
    machine = Machine()
    machine.stalls()
    machine.phases = dict.fromkeys(range(16), Phase.STARTING)
    machine.draw(IDLE, use=0.0)
    machine.draw(SPIN, 2, 3, 4)
    machine.poll(30)
    assert machine.incidents == []


@pytest.mark.parametrize("reason", ["hw_thermal", "power_brake", "sw_thermal"])
def test_a_gpu_that_is_slowed_is_told_by_its_counter(reason: str) -> None:
    machine = trained()
    machine.poll(6, **{reason: 3.0})
    (slow,) = machine.incidents
    assert (slow.kind, slow.subject.rank, slow.subject.device) == (Kind.GPU_DEGRADED, 3, "GPU-03")
    assert "60 % of the time" in slow.evidence[0]


def test_the_power_cap_at_full_load_and_a_little_heat_are_normal() -> None:
    machine = trained()
    machine.poll(20, power_cap=4.5, sw_thermal=0.3)
    assert machine.incidents == []


def test_a_counter_that_starts_again_is_no_brake() -> None:
    machine = trained()
    machine.poll(2, hw_thermal=4.0)
    machine.set(3, throttled_s=(("hw_thermal", 0.0),))
    machine.poll(20)
    assert machine.incidents == []


def test_bits_are_read_where_there_are_no_counters() -> None:
    machine = Machine()
    machine.set(*range(16), throttled_s=(), throttles=0x4)
    machine.poll(6)
    machine.set(9, throttles=0x84)
    machine.poll(6)
    assert [(i.kind, i.subject.rank) for i in machine.incidents] == [(Kind.GPU_DEGRADED, 9)]


def test_a_node_with_a_lower_limit_is_one_incident_and_a_limit_of_all_is_none() -> None:
    machine = trained(nodes=3)
    machine.set(*range(8, 16), limit_w=500.0)
    machine.poll(8)
    (capped,) = machine.incidents
    assert (capped.kind, capped.subject.node, capped.subject.rank) == (Kind.GPU_DEGRADED, 1, None)
    everywhere = trained()
    everywhere.set(*range(16), limit_w=500.0)
    everywhere.poll(8)
    assert everywhere.incidents == []


def test_a_clock_that_stays_low_below_the_limit_is_told_and_one_at_the_limit_is_not() -> None:
    machine = trained()
    machine.set(3, sm_clock_mhz=900.0, power_w=400.0, power_mean_w=470.0)
    machine.set(4, sm_clock_mhz=1400.0, power_w=695.0, power_mean_w=690.0)
    machine.poll(8)
    assert [(i.kind, i.subject.rank) for i in machine.incidents] == [(Kind.GPU_DEGRADED, 3)]


def test_two_gpus_that_differ_are_told_with_doubt_while_nothing_is_known_of_steps() -> None:
    machine = Machine(nodes=1, sdk=False, rank_of=lambda _, index: index if index < 2 else None)
    machine.poll(12)
    machine.draw(SPIN, 0)
    machine.draw(IDLE, 1, use=0.0)
    machine.poll(5)
    assert machine.witness is not None
    assert machine.witness.subject.rank == 1
    assert machine.witness.confidence < 0.5


def test_a_new_world_keeps_the_levels_and_forgets_the_streaks() -> None:
    machine = trained()
    machine.draw(SPIN, 6)
    machine.poll(6)
    machine.power.world_began(2)
    assert machine.power.witnesses == ()
    machine.poll(6)
    assert [incident.world for incident in machine.incidents] == [1, 2]


@pytest.mark.parametrize("nodes", [1, 2])
def test_gpus_whose_power_is_limited_meanwhile_are_nobodys_fault(nodes: int) -> None:
    """Lower than they ever drew, one node some polls before the other: it is another level, not another picture."""
    machine = Machine(nodes=nodes)
    machine.poll(30)
    for node in range(nodes):
        ranks = tuple(range(8 * node, 8 * node + 8))
        machine.set(*ranks, limit_w=300.0, power_w=300.0, power_mean_w=300.0, sm_clock_mhz=1800.0)
        machine.poll(2)
    machine.poll(40)
    assert machine.incidents == []
    assert machine.power.witnesses == ()
