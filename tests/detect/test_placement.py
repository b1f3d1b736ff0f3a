"""Whose GPU is it: a rank's, nobody's, or not known, which counts as the run's?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from jobs.agent.gpus import given
from monitors.detect.straggler_hardware import Hardware
from monitors.hardware import GpuEvent, GpuFailed, GpuLooked, KernelSaw
from monitors.incidents import Incident, Kind, Subject
from monitors.placement import UNKNOWN, Placement
from monitors.signals import Phase, RankProgress, RankStarted, Signal
from monitors.watch import Watch, WatchConfig

PCI_ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def uuid(index: int) -> str:
    return f"GPU-{index}{index}aa-bbbb"


def looked(index: int, *, at: float = 1.0, node: int = 0, name: str = "H100", **more: Any) -> GpuLooked:
    return GpuLooked(at=at, node=node, device=uuid(index), index=index, name=name, **more)


def started(rank: int, env: Mapping[str, str], *, per_node: int, world: int = 1) -> RankStarted:
    """As an agent says it of a rank with this environment."""
    mine = given(env, rank % per_node)
    return RankStarted(
        at=2.0,
        node=rank // per_node,
        world=world,
        rank=rank,
        pid=100 + rank,
        gpu=mine.gpu,
        gpus=mine.gpus,
        gpu_order=mine.gpu_order,
    )


def placed(env: Mapping[str, str], *, ranks: int = 2, names: tuple[str, ...] = ("H100",) * 8) -> Placement:
    """A node with these GPUs, on which ranks with this environment run."""
    placement = Placement(ranks_per_node=ranks)
    placement.world_began(1)
    for index, name in enumerate(names):
        placement.see(looked(index, name=name))
    for rank in range(ranks):
        placement.see(started(rank, env, per_node=ranks))
    return placement


def whose(placement: Placement, gpus: int = 8) -> list[int | None]:
    """The answer for each GPU, by index and by UUID."""
    by_index = [placement.rank_of_index(0, index) for index in range(gpus)]
    assert by_index == [placement.rank_of(0, uuid(index)) for index in range(gpus)]
    return by_index


N = None
U = UNKNOWN


@pytest.mark.parametrize(
    ("visible", "answers"),
    [
        (None, [0, 1, N, N, N, N, N, N]),
        ("4,5,6,7", [N, N, N, N, 0, 1, N, N]),
        ("7, 2", [N, N, 1, N, N, N, N, 0]),
        ("3", [N, N, N, 0, N, N, N, N]),
        (f"{uuid(6)},{uuid(1)}", [N, 1, N, N, N, N, 0, N]),
        ("GPU-66,GPU-11AA", [N, 1, N, N, N, N, 0, N]),
        ("MIG-GPU-22aa-bbbb/3/0,5", [N, N, 0, N, N, 1, N, N]),
        ("MIG-8a7b-11,MIG-8a7b-12", [U] * 8),
        ("", [N] * 8),
        ("-1", [N] * 8),
        ("NoDevFiles", [N] * 8),
        ("1,0,-1,5", [1, 0, N, N, N, N, N, N]),
    ],
)
def test_two_ranks_of_a_node_with_eight_gpus(visible: str | None, answers: list[int | None]) -> None:
    assert whose(placed({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})) == answers


def test_ranks_that_share_what_they_see_may_be_on_any_of_it_and_on_nothing_else() -> None:
    assert whose(placed({"CUDA_VISIBLE_DEVICES": "2,3"}, ranks=4)) == [N, N, 0, 1, N, N, N, N]
    assert whose(placed({"CUDA_VISIBLE_DEVICES": "2,MIG-8a7b"}, ranks=4)) == [U, U, 0, U, U, U, U, U]


def test_two_runs_on_one_node_have_nothing_in_common() -> None:
    one, other = (placed({"CUDA_VISIBLE_DEVICES": visible}) for visible in ("0,1", "2,3"))
    assert whose(one, 4) == [0, 1, None, None]
    assert whose(other, 4) == [None, None, 0, 1]


MIXED = ("A30", "H100", "H100", "A30")


def test_among_unequal_gpus_an_index_means_something_only_in_the_order_of_addresses() -> None:
    """CUDA numbers the fastest first: its number 0 is some H100 here, the driver's is an A30."""
    assert whose(placed({}, names=MIXED), 4) == [UNKNOWN] * 4
    assert whose(placed(PCI_ORDER, names=MIXED), 4) == [0, 1, None, None]
    named = {"CUDA_VISIBLE_DEVICES": f"{uuid(2)},{uuid(1)}"}
    assert whose(placed(named, names=MIXED), 4) == [None, 1, 0, None]


def test_what_was_not_said_is_not_known() -> None:
    placement = Placement(ranks_per_node=2)
    placement.world_began(1)
    placement.see(looked(5))
    assert placement.rank_of_index(0, 5) == UNKNOWN, "no rank was started yet"
    placement.see(started(0, {}, per_node=2))
    assert placement.rank_of_index(0, 5) == UNKNOWN, "nobody knows what rank 1 was given"
    placement.see(RankStarted(at=2.0, node=0, world=1, rank=1, pid=7))
    assert placement.rank_of_index(0, 5) == UNKNOWN, "an agent of an older version does not say it"
    placement.see(started(1, {}, per_node=2))
    assert placement.rank_of_index(0, 5) is None
    assert placement.rank_of_index(1, 5) == UNKNOWN, "another node"
    assert placement.rank_of(0, "0000:3b:00 of node 0") == UNKNOWN, "an address is no name"
    placement.world_began(2)
    assert placement.rank_of_index(0, 5) == UNKNOWN


def test_a_rank_alone_on_its_node_may_drive_all_that_it_sees_and_does_not_drive_what_stands_idle() -> None:
    placement = placed({"CUDA_VISIBLE_DEVICES": "0,1,2"}, ranks=1)
    assert whose(placement, 4) == [0, None, None, None]
    placement.see(looked(1, utilisation=0.9))
    placement.see(looked(3, utilisation=0.9))
    assert whose(placement, 4) == [0, UNKNOWN, None, None], "it cannot see number 3: that is somebody else's work"


def test_another_host_under_the_same_number_has_other_gpus() -> None:
    placement = placed({}, names=MIXED)
    for index in range(2):
        placement.see(GpuLooked(at=9.0, node=0, device=f"GPU-new{index}", index=index, name="H200"))
    assert [placement.rank_of(0, f"GPU-new{index}") for index in range(2)] == [0, 1]


def test_witnesses_get_a_name_where_none_is_known() -> None:
    placement = Placement(ranks_per_node=2)
    assert [placement.likely_rank(1, index) for index in range(3)] == [2, 3, None]
    placement.world_began(1)
    for rank in range(2):
        placement.see(started(rank, {"CUDA_VISIBLE_DEVICES": "2,3"}, per_node=2))
    for index in range(4):
        placement.see(looked(index))
    assert [placement.likely_rank(0, index) for index in range(4)] == [None, None, 0, 1]
    placement.world_began(2)
    assert [placement.likely_rank(0, index) for index in range(4)] == [None, None, 0, 1], "as in the world before"


# ------------------------------------------------------------------------------------------------ in the watch


def told(*signals: Signal, ranks: int = 2) -> list[Incident]:
    """What a watch over one node concludes in world 1."""
    watch = Watch(WatchConfig(), nodes=1, ranks_per_node=ranks)
    watch.world_began(1, 0.0)
    return [incident for signal in signals for incident in watch.see(signal)]


def lost(index: int, at: float = 3.0) -> GpuFailed:
    return GpuFailed(at=at, node=0, device=uuid(index), index=index, error="lost")


FOUR = tuple(looked(index) for index in range(4))
TWO = tuple(started(rank, {}, per_node=2) for rank in range(2))


def test_a_broken_gpu_of_no_rank_is_no_incident_and_one_of_a_rank_names_it() -> None:
    assert told(*FOUR, *TWO, lost(3)) == []
    (incident,) = told(*FOUR, *TWO, lost(1))
    assert (incident.kind, incident.subject) == (Kind.GPU_LOST, Subject(node=0, rank=1, device=uuid(1)))
    line = KernelSaw(at=3.0, node=0, fault="gpu_lost", action="reboot_node", xid=79, pci="0000:3b:00")
    (incident,) = told(*FOUR, *TWO, line)
    assert incident.subject == Subject(node=0), "a device that is known by its address alone may be the run's"


def test_what_broke_before_the_ranks_were_started_waits_for_them() -> None:
    """A GPU that another run broke must not be told of in each new world before its ranks say what is theirs."""
    xid = GpuEvent(at=1.5, node=0, device=uuid(3), event="xid", data=79)
    assert told(*FOUR, xid, lost(3, at=1.6), *TWO, lost(3)) == []
    own = GpuEvent(at=1.5, node=0, device=uuid(1), event="xid", data=95)
    (incident,) = told(*FOUR, own, *TWO)
    assert (incident.kind, incident.subject.rank, incident.onset) == (Kind.GPU_MEMORY, 1, 1.5)
    (incident,) = told(*FOUR, lost(1, at=1.6), *TWO, lost(1))
    assert (incident.kind, incident.subject.rank) == (Kind.GPU_LOST, 1)


def test_ranks_that_told_a_supervisor_before_what_they_were_given_may_be_on_any_gpu() -> None:
    progress = RankProgress(at=2.0, node=0, world=1, rank=0, step=9, phase=Phase.STEP, moved_at=2.0)
    (incident,) = told(*FOUR, progress, lost(3))
    assert incident.subject == Subject(node=0, device=uuid(3))


def test_links_that_go_down_with_a_gpu_of_no_rank_are_explained_by_it() -> None:
    before = [looked(index, nvlinks=18, nvlinks_up=18) for index in range(4)]
    after = [looked(index, at=3.1, nvlinks=18, nvlinks_up=17) for index in range(3)]
    assert told(*before, *TWO, lost(3), *after) == []
    assert [one.subject.rank for one in told(*before, *TWO, *after)] == [0, 1]


def test_without_a_run_every_gpu_counts() -> None:
    watch = Watch(WatchConfig(), nodes=1, ranks_per_node=1)
    for look in FOUR:
        watch.see(look)
    assert [one.kind for one in watch.see(lost(3))] == [Kind.GPU_LOST]


def test_a_gpu_that_is_slow_is_laid_to_the_rank_that_it_was_given_to() -> None:
    placement = placed({"CUDA_VISIBLE_DEVICES": "2,3"})
    hardware = Hardware(ranks_per_node=2, rank_of=placement.likely_rank)
    for at in (1.0, 2.0):
        for index in range(4):
            hot = ("hw_thermal", at if index in (0, 3) else 0.0)
            hardware.looked(looked(index, at=at, throttled_s=(hot,)))
    hint = hardware.outstanding(None)
    assert hint is not None, "number 0 is as hot, and nobody's"
    assert (hint.rank, hint.device) == (1, uuid(3))


def test_what_a_new_supervisor_hears_of_an_idle_gpu_before_any_other_is_looked_at_is_no_fault_of_the_run() -> None:
    """Seed 26 of the simulation: an agent kept the failure for hours, and thinned out the looks around it."""
    watch = Watch(WatchConfig(), nodes=1, ranks_per_node=1)
    watch.world_began(1, 100.0)
    old, now = (GpuFailed(at=at, node=0, device=uuid(1), index=1, error="lost") for at in (50.0, 101.0))
    watch.see(started(0, {}, per_node=1))
    assert watch.see(old) == []
    assert watch.see(looked(0, at=101.0)) == watch.see(now) == []


def test_a_node_whose_gpus_are_all_gone_is_told_at_the_second_look() -> None:
    watch = Watch(WatchConfig(), nodes=1, ranks_per_node=1)
    watch.world_began(1, 100.0)
    watch.see(started(0, {}, per_node=1))
    told = [watch.see(GpuFailed(at=at, node=0, device=None, index=0, error="lost")) for at in (101.0, 102.0)]
    assert [len(incidents) for incidents in told] == [0, 1]
