"""Does the detector of GPUs tell each fault once, of the right kind, with the driver's own word first?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitors.catalogue.kernel import Catalogue
from monitors.detect.gpus import Gpus
from monitors.detect.gpus_meaning import VERDICTS
from monitors.hardware import GpuEvent, GpuFailed, GpuLooked, KernelSaw
from monitors.incidents import Incident, Kind
from monitors.signals import Phase, RankProgress, Signal


def uuid(index: int) -> str:
    """As the driver would make it up."""
    return f"GPU-0000-{index}"


def look(at: float, index: int = 0, **values: object) -> GpuLooked:
    """A GPU that is well, but for these values."""
    well = GpuLooked(
        at=at,
        node=0,
        device=uuid(index),
        index=index,
        name="H100",
        pci=f"0000:{index:02x}:00.0",
        recovery_action=0,
        power_w=400.0,
        energy_j=1000.0 + 400.0 * at,
        ecc_corrected=0,
        ecc_uncorrected=0,
        remap_failed=False,
        rows_remapped_uncorrected=0,
        nvlinks=18,
        nvlinks_up=18,
        pcie_width=16,
        pcie_width_max=16,
        fabric="completed",
    )
    return replace(well, **values)  # type: ignore[arg-type]


def failed(at: float, error: str, index: int = 0) -> GpuFailed:
    return GpuFailed(at=at, node=0, device=uuid(index), index=index, error=error, pci=f"0000:{index:02x}:00.0")


def event(at: float, name: str, data: int = 0, index: int = 0) -> GpuEvent:
    return GpuEvent(at=at, node=0, device=uuid(index), event=name, data=data)


def concluded(*signals: Signal) -> list[Incident]:
    """What a fresh detector makes of them, in world 1."""
    gpus = Gpus()
    gpus.world_began(1)
    return [incident for signal in signals for incident in gpus.see(signal)]


def kinds(*signals: Signal) -> list[Kind]:
    return [incident.kind for incident in concluded(*signals)]


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (failed(2.0, "lost"), Kind.GPU_LOST),
        (failed(2.0, "no_answer"), Kind.GPU_LOST),
        (failed(2.0, "reset_required"), Kind.GPU_FAULT),
        (look(2.0, recovery_action=1), Kind.GPU_FAULT),
        (look(2.0, recovery_action=2), Kind.GPU_LOST),
        (look(2.0, recovery_action=3), Kind.LINK_FAULT),
        (look(2.0, recovery_action=4), Kind.GPU_FAULT),
        (look(2.0, recovery_action=99), Kind.GPU_FAULT),
        (look(2.0, ecc_uncorrected=1), Kind.GPU_MEMORY),
        (look(2.0, remap_failed=True), Kind.GPU_MEMORY),
        (look(2.0, rows_remapped_uncorrected=1), Kind.GPU_MEMORY),
        (look(2.0, nvlinks_up=17), Kind.LINK_FAULT),
        (look(2.0, fabric="completed:route_unhealthy"), Kind.LINK_FAULT),
        (event(2.0, "xid", 79), Kind.GPU_LOST),
        (event(2.0, "xid", 119), Kind.GPU_FAULT),
        (event(2.0, "xid", 48), Kind.GPU_MEMORY),
        (event(2.0, "xid", 94), Kind.GPU_MEMORY),
        (event(2.0, "xid", 95), Kind.GPU_MEMORY),
        (event(2.0, "xid", 64), Kind.GPU_MEMORY),
        (event(2.0, "xid", 74), Kind.LINK_FAULT),
        (event(2.0, "recovery_action", 2), Kind.GPU_LOST),
        (event(2.0, "recovery_action", 1), Kind.GPU_FAULT),
        (event(2.0, "ecc_uncorrected"), Kind.GPU_MEMORY),
        (event(2.0, "unavailable"), Kind.GPU_LOST),
    ],
)
def test_a_fault_is_told_as_what_it_is(bad: Signal, kind: Kind) -> None:
    (incident,) = concluded(look(1.0), bad)
    assert incident.kind is kind
    assert (incident.subject.node, incident.subject.device, incident.world) == (0, uuid(0), 1)
    assert incident.evidence[0].startswith("GPU 0 of node 0 (GPU-0000-0, PCI 0000:00:00.0): ")
    # Seen at a look, it began after the look before; told by the driver, it began then.
    assert incident.onset == (2.0 if isinstance(bad, GpuEvent) else 1.0)


@pytest.mark.parametrize(
    "harmless",
    [
        look(2.0, recovery_action=None, ecc_uncorrected=None, nvlinks_up=None, fabric=None, remap_failed=None),
        look(2.0, ecc_corrected=7),
        look(2.0, pcie_generation=1, pcie_generation_max=5),
        failed(2.0, "unknown"),
        event(2.0, "xid", 13),
        event(2.0, "xid", 31),
        event(2.0, "xid", 43),
        event(2.0, "xid", 45),
        event(2.0, "xid", 63),
        event(2.0, "xid", 149),
        event(2.0, "xid", 154),
        event(2.0, "xid", 4711),
        event(2.0, "recovery_action", 0),
        event(2.0, "ecc_corrected"),
        event(2.0, "something_new"),
    ],
)
def test_what_is_a_programs_or_a_consequence_or_unknown_is_no_fault_of_the_gpu(harmless: Signal) -> None:
    assert kinds(look(1.0), harmless) == []


def test_every_verdict_of_the_driver_is_a_kind() -> None:
    assert sorted(VERDICTS) == list(range(1, 8))
    for action, (kind, words) in VERDICTS.items():
        (incident,) = concluded(look(1.0, recovery_action=action))
        assert incident.kind is kind
        assert words in incident.evidence[0]


def test_old_counts_are_no_news_at_the_first_look() -> None:
    worn = {"ecc_uncorrected": 3, "remap_failed": True, "rows_remapped_uncorrected": 2, "nvlinks_up": 16}
    assert kinds(*(look(at, **worn) for at in range(1, 5))) == []


def test_one_fault_that_many_words_tell_of_is_told_once() -> None:
    told = concluded(
        look(1.0),
        event(1.5, "xid", 79),
        event(1.5, "xid", 45),
        event(1.6, "xid", 119),
        event(1.6, "recovery_action", 2),
        failed(2.0, "lost"),
        failed(3.0, "lost"),
        event(3.1, "ecc_uncorrected"),
    )
    assert [incident.kind for incident in told] == [Kind.GPU_LOST]


def test_the_verdict_that_comes_after_a_lesser_fault_is_told_too() -> None:
    memory, fault, lost = concluded(
        look(1.0), event(1.5, "xid", 95), event(1.6, "recovery_action", 1), look(2.0, recovery_action=2)
    )
    assert (memory.kind, fault.kind, lost.kind) == (Kind.GPU_MEMORY, Kind.GPU_FAULT, Kind.GPU_LOST)
    assert "Xid 95" in lost.evidence[1]


def test_links_that_go_down_with_a_lost_peer_are_not_told() -> None:
    before = [look(1.0, index) for index in range(4)]
    after = [look(2.0, index, nvlinks_up=15) for index in (0, 1, 3)]
    assert kinds(*before, failed(2.0, "lost", 2), *after, event(2.1, "xid", 74, 1)) == [Kind.GPU_LOST]
    assert kinds(*before, *after) == [Kind.LINK_FAULT] * 3


def test_a_contained_error_after_another_xid_is_its_cascade_and_repeated_it_is_not() -> None:
    assert kinds(look(1.0), event(2.0, "xid", 74), event(2.1, "xid", 94)) == [Kind.LINK_FAULT]
    gpus = Gpus()
    told = []
    for world, at in ((1, 2.0), (2, 32.0)):
        gpus.world_began(world)
        told += gpus.see(event(at, "xid", 94))
    assert [(incident.kind, incident.world) for incident in told] == [(Kind.GPU_MEMORY, 1), (Kind.GPU_MEMORY, 2)]


def test_what_is_still_wrong_is_told_to_the_next_world_and_what_was_told_to_the_last_is_not() -> None:
    gpus = Gpus()
    gpus.world_began(1)
    gpus.see(look(1.0))
    assert [i.kind for i in gpus.see(event(1.5, "xid", 94))] == [Kind.GPU_MEMORY]
    gpus.world_began(2)
    assert gpus.see(look(2.0, ecc_uncorrected=1)) == [], "the poll counts what the event told"
    assert [i.kind for i in gpus.see(failed(3.0, "lost"))] == [Kind.GPU_LOST]
    gpus.world_began(3)
    (again,) = gpus.see(failed(4.0, "lost"))
    assert (again.kind, again.world, again.onset) == (Kind.GPU_LOST, 3, 2.0)


def test_after_the_driver_said_that_it_is_well_the_same_fault_is_news() -> None:
    ill = [look(1.0), failed(2.0, "lost")]
    well = [look(at) for at in (3.0, 4.0, 5.0)]
    assert kinds(*ill, *well, failed(6.0, "lost")) == [Kind.GPU_LOST] * 2
    assert kinds(*ill, *well[:1], failed(6.0, "lost")) == [Kind.GPU_LOST], "one good answer is not yet well"


def test_a_log_that_is_read_again_tells_nothing_anew() -> None:
    lost = event(10.0, "xid", 79)
    mended = [failed(10.5, "lost"), *(look(at) for at in (11.0, 12.0, 13.0))]
    assert kinds(look(9.0), lost, *mended, lost) == [Kind.GPU_LOST]
    world = Gpus()
    told = [incident for signal in (look(9.0), lost, *mended) for incident in world.see(signal)]
    world.world_began(2)
    assert len(told) == 1
    assert world.see(lost) == [], "nor to the next world"
    assert [incident.kind for incident in world.see(replace(lost, at=25.0))] == [Kind.GPU_LOST]


def test_a_fault_that_only_events_told_of_is_over_after_a_quiet_minute() -> None:
    seconds = [look(float(at)) for at in range(3, 70)]
    assert kinds(event(2.0, "xid", 95), *seconds[:50], event(53.0, "xid", 95)) == [Kind.GPU_MEMORY]
    assert kinds(event(2.0, "xid", 95), *seconds, event(70.0, "xid", 95)) == [Kind.GPU_MEMORY] * 2


def test_counters_that_began_again_with_the_driver_are_no_fault() -> None:
    old = look(1.0, energy_j=9e6, ecc_uncorrected=0, nvlinks_up=18)
    assert kinds(old, look(2.0, energy_j=5.0, ecc_uncorrected=1, nvlinks_up=17)) == []


def test_an_error_without_a_meaning_counts_when_it_stays() -> None:
    assert kinds(look(1.0), failed(2.0, "unknown"), failed(3.0, "unknown"), look(4.0), failed(5.0, "unknown")) == []
    (incident,) = concluded(look(1.0), *(failed(at, "unknown") for at in (2.0, 3.0, 4.0)))
    assert incident.kind is Kind.GPU_FAULT
    assert incident.confidence == 0.5
    assert "unknown" in incident.evidence[0]


def narrow(polls: int, *, of: int, gpus: int = 8) -> list[GpuLooked]:
    """Looks at a node of which the last GPUs have half of their lanes."""
    return [
        look(float(at), index, pcie_width=16 if index < gpus - of else 8)
        for at in range(1, polls + 1)
        for index in range(gpus)
    ]


def test_a_narrow_bus_counts_beside_wide_ones_and_over_three_looks() -> None:
    assert concluded(*narrow(2, of=1)) == []
    (incident,) = concluded(*narrow(9, of=1))
    assert (incident.kind, incident.subject.device) == (Kind.GPU_DEGRADED, uuid(7))
    assert (incident.onset, incident.at) == (1.0, 3.0)
    assert "8 of 16 lanes" in incident.evidence[0]
    assert concluded(*narrow(9, of=8)) == [], "all alike: the board is built so"
    assert concluded(*narrow(9, of=1, gpus=1)) == [], "nobody to compare it with"


def test_a_gpu_that_never_said_who_it_is_has_its_index() -> None:
    (incident,) = concluded(GpuFailed(at=1.0, node=3, device=None, index=2, error="lost"))
    assert incident.subject.device is None
    assert incident.evidence == ("GPU 2 of node 3: the driver says that it is lost (GPU_IS_LOST)",)


def test_the_evidence_tells_how_far_the_run_was_and_when_it_answered_last() -> None:
    progress = RankProgress(at=1.0, node=0, world=1, rank=0, step=41, phase=Phase.STEP, moved_at=1.0)
    (incident,) = concluded(progress, look(1.0), failed(2.5, "no_answer"))
    assert incident.step == 41
    assert incident.evidence[1] == "it answered its driver 1.5 s before, at 400 W"


def test_a_site_may_know_better_what_a_xid_means() -> None:
    catalogue = Catalogue().with_overrides('{"xids": {"79": {"action": "none"}}}')
    assert Gpus(catalogue=catalogue).see(event(1.0, "xid", 79)) == []


def test_a_xid_means_what_the_node_that_heard_it_says() -> None:
    """A site's changes lie on its nodes: whoever concludes has the catalogue as it comes."""
    assert kinds(replace(event(1.0, "xid", 79), fault="gpu_lost", action="none")) == []
    assert kinds(replace(event(1.0, "xid", 13), fault="gpu_stopped", action="reset_gpu")) == [Kind.GPU_FAULT]
    (incident,) = concluded(replace(event(1.0, "xid", 4711), fault="gpu_lost", action="reboot_node"))
    assert (incident.kind, incident.evidence[0]) == (
        Kind.GPU_LOST,
        "a GPU of node 0 (GPU-0000-0): the driver told of Xid 4711",
    )
    assert kinds(replace(event(1.0, "xid", 149), fault="gpu_stopped", action="reset_gpu")) == [Kind.GPU_FAULT]
    assert kinds(replace(event(1.0, "xid", 149), fault="nvlink_error", action="reset_gpu")) == [], (
        "see the kernel's line"
    )


def test_a_line_of_the_kernel_and_the_drivers_event_are_one_fault() -> None:
    gpus = Gpus()
    gpus.world_began(1)
    gpus.see(GpuLooked(at=1.0, node=0, device="GPU-a", index=0, pci="0000:3b:00.0"))
    line = KernelSaw(at=2.0, node=0, fault="gpu_lost", action="reboot_node", xid=79, pci="0000:3b:00", text="Xid 79")
    (lost,) = gpus.see(line)
    assert (lost.kind, lost.subject.device, lost.senses) == (Kind.GPU_LOST, "GPU-a", ("kernel",))
    assert gpus.see(GpuEvent(at=2.1, node=0, device="GPU-a", event="xid", data=79)) == []


def test_lines_that_are_consequences_or_programs_faults_are_none_of_the_gpu() -> None:
    gpus = Gpus()
    for fault, action, cascade in (
        ("gpu_lost", "reboot_node", True),
        ("app_gpu_error", "restart_app", False),
        ("nvswitch_nonfatal", "observe", False),
        ("pcie_uncorrectable", "reboot_node", False),
    ):
        saw = KernelSaw(at=2.0, node=0, fault=fault, action=action, cascade=cascade, pci="0000:3b:00")
        assert gpus.see(saw) == [], fault


def test_the_verdict_that_the_kernel_prints_decides() -> None:
    gpus = Gpus()
    for action, kind in (("reset_gpu", Kind.GPU_FAULT), ("reboot_node", Kind.GPU_LOST)):
        pci = f"0000:{len(kind)}b:00"
        saw = KernelSaw(at=2.0, node=0, fault="gpu_recovery_action", action=action, xid=154, pci=pci)
        assert [incident.kind for incident in gpus.see(saw)] == [kind]
