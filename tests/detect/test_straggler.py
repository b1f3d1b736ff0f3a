"""Which rank is named when steps become slower, and when is nobody?"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from monitors.detect.straggler import Straggler
from monitors.detect.straggler_arrivals import Arrivals
from monitors.detect.straggler_blame import named
from monitors.detect.straggler_pace import Pace
from monitors.hardware import GpuLooked, HostLooked
from monitors.incidents import Blame, Incident, Kind
from monitors.signals import (
    PHASES,
    CollectivesLooked,
    GroupStatus,
    Phase,
    ProcessLooked,
    RankExited,
    RankProgress,
    Signal,
    StepReported,
)


def report(step: int, at: float, took_s: float, rank: int = 0, tokens: float | None = None) -> StepReported:
    return StepReported(at=at, node=rank // 4, world=1, rank=rank, step=step, step_s=took_s, tokens=tokens)


class Gloo:
    """Ranks in lockstep, two collectives a step, four ranks a node; rank 0 reports."""

    def __init__(self, *, nodes: int = 2, clock_s: float = 0.0) -> None:
        self.ranks = 4 * nodes
        self.detector = Straggler(ranks=self.ranks, ranks_per_node=4)
        self.detector.world_began(1)
        self.late: dict[int, float] = {}
        """seconds of more work, by rank, each step"""
        self.clock_s = clock_s
        """by which the clock of the last node is ahead"""
        self.arrivals: dict[int, list[tuple[int, float]]] = {rank: [] for rank in range(self.ranks)}
        self.now, self.step, self.seq = 1000.0, 0, 0
        self.incidents: list[Incident] = []
        self.asked = 0
        self.deaf: set[int] = set()

    def say(self, *signals: Signal) -> None:
        for signal in signals:
            self.incidents += self.detector.see(signal)

    def train(self, steps: int, step_s: float = 1.0, tokens: float | None = None, *, extra_s: float = 0.0) -> None:
        """Steps of two halves; then whoever is asked answers."""
        for _ in range(steps):
            began, self.step = self.now, self.step + 1
            self.now += extra_s
            for half in range(2):
                self._collective(step_s / 2, late=half == 0)
            self.say(report(self.step, self.now, self.now - began, tokens=tokens))
            self.answer()

    def _collective(self, seconds: float, *, late: bool) -> None:
        self.seq += 1
        came = {r: self.now + seconds + (self.late.get(r, 0.0) if late else 0.0) for r in range(self.ranks)}
        for rank, at in came.items():
            ahead = self.clock_s if rank // 4 == self.ranks // 4 - 1 else 0.0
            self.arrivals[rank].append((self.seq, at + ahead))
        self.now = max(came.values()) + 0.01

    def answer(self) -> None:
        """Flight recorders of the ranks that are asked."""
        looks = self.detector.looks
        self.asked += bool(looks)
        for rank in looks:
            if rank not in self.deaf:
                group = GroupStatus(group="0", arrivals=tuple(self.arrivals[rank][-64:]))
                self.say(CollectivesLooked(at=self.now, node=rank // 4, world=1, rank=rank, groups=(group,)))


def trained(**options: float) -> Gloo:
    gloo = Gloo(**options)  # type: ignore[arg-type]
    gloo.train(30)
    assert gloo.incidents == []
    return gloo


def test_the_late_rank_is_named_after_three_slow_steps() -> None:
    gloo = trained()
    gloo.late = {5: 0.3}
    gloo.train(3)
    (slow,) = gloo.incidents
    assert slow.kind is Kind.STRAGGLER
    assert (slow.subject.node, slow.subject.rank) == (1, 5)
    assert slow.confidence >= 0.9
    assert slow.next_best is not None
    assert slow.onset == pytest.approx(gloo.now - 3 * 1.32, abs=0.01)
    assert "since step 31 a step takes 1.320 s instead of 1.020 s" in slow.evidence[0]
    assert "rank 5 on node 1 works between its collectives 0.300 s longer" in slow.evidence[1]
    gloo.train(40)
    assert len(gloo.incidents) == 1, "once"


def test_the_clock_of_another_host_makes_nobody_late() -> None:
    gloo = trained(clock_s=0.4)
    gloo.late = {2: 0.3}
    gloo.train(3)
    assert [incident.subject.rank for incident in gloo.incidents] == [2]


def test_a_node_that_is_late_as_a_whole_is_named_as_a_node() -> None:
    gloo = trained(nodes=3, clock_s=0.05)
    gloo.say(HostLooked(at=gloo.now, node=1, cpu_steal=0.5))
    gloo.late = dict.fromkeys(range(4, 8), 0.3)
    gloo.train(3)
    (slow,) = gloo.incidents
    assert (slow.subject.node, slow.subject.rank) == (1, None)
    assert slow.blame is Blame.HOST
    assert "50 %" in slow.evidence[-1]


def test_another_rank_in_each_step_is_no_straggler() -> None:
    gloo = trained()
    for turn in range(40):
        gloo.late = {turn * 3 % 8: 0.5}
        gloo.train(1)
    assert gloo.incidents == []
    assert gloo.asked >= 1


def test_more_work_for_all_is_no_straggler_and_becomes_usual() -> None:
    gloo = trained()
    gloo.train(60, step_s=1.4)
    assert gloo.incidents == []
    assert gloo.detector.slowdown == ""
    asked = gloo.asked
    gloo.train(60, step_s=1.4)
    assert gloo.asked == asked, "nobody is asked for ever"


def test_a_slowdown_is_told_in_words_while_it_lasts() -> None:
    gloo = trained()
    gloo.train(3, step_s=1.4)
    assert gloo.detector.slowdown == "since step 31 a step takes 1.420 s instead of 1.020 s"


def test_evaluations_and_pauses_ask_nobody() -> None:
    gloo = trained()
    asked = gloo.asked
    for _ in range(20):
        gloo.train(1, extra_s=10.0)
        gloo.train(9)
    assert (gloo.incidents, gloo.asked) == ([], asked)


def test_a_marked_evaluation_is_no_step() -> None:
    gloo = trained()
    for _ in range(10):
        phase = RankProgress(at=gloo.now, node=0, world=1, rank=0, step=gloo.step, phase=Phase.EVAL, moved_at=gloo.now)
        gloo.say(phase)
        gloo.train(1, extra_s=5.0)
    assert gloo.asked == 1, "only the look at a run that is well"


def test_a_rank_that_was_slow_from_the_start_is_found() -> None:
    gloo = Gloo()
    gloo.late = {6: 0.4}
    gloo.train(40)
    (slow,) = gloo.incidents
    assert slow.subject.rank == 6
    assert "than the others" in slow.evidence[0]


def test_steps_that_have_more_tokens_take_longer_and_that_is_all() -> None:
    pace = Pace()
    for step in range(1, 80):
        tokens = 4000.0 + 400 * (step * 7 % 11)
        pace.took(step, tokens / 4000, tokens)
    for step in range(80, 90):
        pace.took(step, 2.2, 8800.0)
    assert pace.slow_since is None
    for step in range(90, 94):
        pace.took(step, 2.2 * 1.3, 8800.0)
    assert pace.slow_since == 90


def test_a_slow_run_that_passed_by_itself_makes_the_next_one_wait() -> None:
    pace = Pace()
    for step in range(1, 40):
        pace.took(step, 1.0)
    for step in range(40, 45):  # the disk was busy after a save
        pace.took(step, 1.3)
    assert pace.slow_since == 40
    for step in range(45, 60):
        pace.took(step, 1.0)
    for step in range(60, 65):
        pace.took(step, 1.3)
    assert pace.slow_since is None
    for step in range(65, 70):
        pace.took(step, 1.3)
    assert pace.slow_since == 60


def test_a_rank_that_waits_for_its_data_is_named_without_asking_anybody() -> None:
    gloo = trained()
    asked = gloo.asked
    waits = dict.fromkeys(range(8), 0.0)
    for step in range(20, 34):
        for rank in range(8):
            waits[rank] += 0.5 if rank == 3 and step > 30 else 0.01
            spent = [0.0] * len(PHASES)
            spent[PHASES.index(Phase.DATA)] = waits[rank]
            gloo.say(
                RankProgress(
                    at=gloo.now,
                    node=rank // 4,
                    world=1,
                    rank=rank,
                    step=step,
                    phase=Phase.STEP,
                    moved_at=gloo.now,
                    spent_s=tuple(spent),
                )
            )
    gloo.train(3, step_s=1.5)
    (slow,) = gloo.incidents
    assert (slow.subject.rank, slow.blame) == (3, Blame.DATA)
    assert "waits for data 0.490 s longer" in slow.evidence[1]
    assert gloo.asked == asked


def test_ranks_that_time_their_own_work_name_the_slow_one_at_once() -> None:
    detector = Straggler(ranks=4, ranks_per_node=4)
    detector.world_began(1)
    found: list[Incident] = []
    for step in range(1, 34):
        for rank in range(4):
            took_s = 1.3 if rank == 2 and step > 30 else 1.0
            found += detector.see(report(step, 100.0 + step, took_s, rank))
    assert [(incident.subject.rank, incident.step) for incident in found] == [(2, 33)]


def gpu(rank: int, at: float, **fields: object) -> GpuLooked:
    return GpuLooked(
        at=at,
        node=rank // 4,
        device=f"GPU-{rank}",
        index=rank % 4,
        name="NVIDIA H100",
        limit_w=700.0,
        utilisation=1.0,
        **fields,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"throttled_s": (("hw_thermal", 60.0),)}, "was slowed by its hardware for heat"),
        ({"pcie_width": 4}, "has 4 PCIe lanes, its peers 16"),
        ({"limit_w": 450.0}, "is limited to 450 W, its peers to 700 W"),
    ],
)
def test_where_all_cpus_come_alike_the_gpu_that_is_held_back_is_named(fields: dict[str, object], words: str) -> None:
    gloo = trained()
    for rank in range(8):
        gloo.say(gpu(rank, gloo.now, throttled_s=(("hw_thermal", 0.0),), pcie_width=16))
        shown: dict[str, object] = {"throttled_s": (("hw_thermal", 0.0),), "pcie_width": 16}
        shown.update(fields if rank == 5 else {})
        limit = {"limit_w": shown.pop("limit_w")} if "limit_w" in shown else {}
        look = gpu(rank, gloo.now + 70, **shown)
        gloo.say(look if not limit else _with_limit(look, limit))
    gloo.train(3, step_s=1.3)
    (slow,) = gloo.incidents
    assert (slow.subject.rank, slow.subject.device, slow.blame) == (5, "GPU-5", Blame.HARDWARE)
    assert words in " ".join(slow.evidence)
    assert slow.confidence < 0.8


def _with_limit(look: GpuLooked, limit: Mapping[str, object]) -> GpuLooked:
    from dataclasses import replace

    return replace(look, **limit)  # type: ignore[arg-type]


def test_what_the_kernel_says_of_the_slow_rank_is_told() -> None:
    gloo = trained()
    gloo.late = {1: 0.5}
    gloo.say(ProcessLooked(at=gloo.now, node=0, world=1, rank=1, state="D", cpu_s=1.0, stack=("a:1", "read:2")))
    gloo.train(3)
    (slow,) = gloo.incidents
    assert slow.blame is Blame.STORAGE
    assert slow.evidence[-1] == "the kernel says that rank 1 waits for a disk or a file server, in read:2"


def test_recorders_that_do_not_answer_are_waited_for_no_longer_than_they_may() -> None:
    gloo = trained()
    gloo.deaf = {7}
    gloo.late = {5: 0.3}
    gloo.train(3)
    assert gloo.incidents == []
    assert gloo.detector.deadline is not None
    (slow,) = gloo.detector.silent(gloo.detector.deadline)
    assert slow.subject.rank == 5
    assert gloo.detector.deadline is None


def test_after_a_death_nobody_is_slow() -> None:
    gloo = trained()
    gloo.late = {5: 0.3}
    gloo.say(RankExited(at=gloo.now, node=0, world=1, rank=0, code=None, signal=9, step=30))
    gloo.train(10)
    assert (gloo.incidents, gloo.detector.looks) == ([], ())


def test_a_new_world_is_held_against_the_old_one() -> None:
    gloo = trained()
    gloo.detector.world_began(2)
    found: list[Incident] = []
    for step in range(20, 40):
        row = StepReported(at=2000.0 + 2 * step, node=0, world=2, rank=0, step=step, step_s=2.0)
        found += gloo.detector.see(row)
    assert gloo.detector.slowdown.startswith("since step 23 a step takes 2.000 s instead of 1.020 s")


def test_stored_rows_teach_what_is_usual() -> None:
    detector = Straggler(ranks=2, ranks_per_node=2)
    detector.recall([report(step, float(step), 1.0) for step in range(1, 40)])
    detector.world_began(1)
    for step in range(40, 50):
        detector.see(report(step, float(step), 1.5))
    assert detector.slowdown


def look(rank: int, node: int, **groups: tuple[tuple[int, float], ...]) -> CollectivesLooked:
    return CollectivesLooked(
        at=0.0,
        node=node,
        world=1,
        rank=rank,
        groups=tuple(GroupStatus(group=name, arrivals=arrivals) for name, arrivals in groups.items()),
    )


def test_who_waited_for_a_late_rank_in_one_group_is_not_late_in_the_next() -> None:
    # Ranks 0 and 1 work in group t; then 0 and 2 meet in d, 1 and 3 in e. Rank 1 is 1 s late, so 0 is late in d.
    looks = [
        look(0, 0, t=((1, 1.0), (2, 11.0)), d=((1, 3.0),)),
        look(1, 0, t=((1, 2.0), (2, 12.0)), e=((1, 3.0),)),
        look(2, 0, u=((1, 1.0), (2, 11.0)), d=((1, 2.0),)),
        look(3, 0, u=((1, 1.0), (2, 11.0)), e=((1, 2.0),)),
    ]
    own = Arrivals(looks).own_times([(1, 0.5), (2, 5.0)], {0: 0.0})
    assert own == {2: {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}}


def test_clocks_are_told_from_steps_in_which_nobody_was_late() -> None:
    ahead = [
        look(rank, rank, w=tuple((n, n + (0.5 if rank == 2 else 0.0) + (0.3 if rank == 1 and n > 20 else 0.0))
                                 for n in range(40)))
        for rank in range(3)
    ]  # fmt: skip
    found = Arrivals(ahead).clocks(onset_at=20.5)
    assert found[2] - found[0] == pytest.approx(0.5)
    assert found[1] == pytest.approx(found[0])


def test_nobody_is_named_where_the_excess_is_spread() -> None:
    own = {step: {rank: 1.0 + (0.3 if rank in (1, 5) else 0.0) for rank in range(8)} for step in range(5)}
    assert named(own, {}, lambda rank: rank // 4, least_s=0.1) is None
    own[4][1] = 9.0
    assert named(own, {}, lambda rank: rank // 4, least_s=0.1) is None, "one step is one step"
