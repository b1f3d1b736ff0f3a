"""Are a cause and its consequence told as one, and strangers as two?"""

from __future__ import annotations

from dataclasses import replace

from monitors.attribution import Attribution, Suspicion
from monitors.incidents import Incident, Kind, Subject


def fault(kind: Kind, at: float = 100.0, *, node: int = 0, rank: int | None = None, sure: float = 1.0) -> Incident:
    """A conclusion of one sense."""
    senses = {Kind.HANG: "progress", Kind.WORKER_KILLED: "exit", Kind.WORKER_EXCEPTION: "exit"}
    return Incident(
        kind=kind,
        at=at,
        onset=at,
        world=1,
        subject=Subject(node=node, rank=rank),
        step=7,
        confidence=sure,
        evidence=(f"{kind} is seen",),
        senses=(senses.get(kind, "kernel"),),
    )


def told(*faults: Incident) -> list[Incident]:
    """What becomes of them, in this order."""
    return Attribution().judge(faults)


def test_a_port_that_fails_before_a_rank_is_the_cause_and_the_rank_comes_second() -> None:
    noted, failed = told(fault(Kind.NIC_FAULT, 90), fault(Kind.HANG, 100, rank=1, sure=0.6))
    assert (noted.kind, noted.witnesses) == (Kind.NIC_FAULT, 1)
    assert (failed.kind, failed.witnesses, failed.onset) == (Kind.NIC_FAULT, 2, 90)
    assert failed.subject == Subject(node=0, rank=1)
    assert failed.evidence == ("nic_fault is seen", "hang is seen")


def test_a_victim_is_not_named_beside_a_fault_of_nobody_knows_whose_gpu() -> None:
    _, failed = told(fault(Kind.LINK_FAULT, 90), fault(Kind.WORKER_EXCEPTION, 100, rank=1, sure=0.4))
    assert (failed.kind, failed.subject, failed.witnesses) == (Kind.LINK_FAULT, Subject(node=0), 2)
    assert failed.next_best == Subject(node=0, rank=1)


def test_a_line_that_is_read_after_the_death_still_explains_it() -> None:
    death, cause = told(fault(Kind.WORKER_EXCEPTION, 100, rank=1), fault(Kind.GPU_LOST, 101.5, rank=3))
    assert death.kind is Kind.WORKER_EXCEPTION
    assert (cause.kind, cause.witnesses, cause.subject.rank, cause.onset) == (Kind.GPU_LOST, 2, 3, 100)
    assert cause.next_best == Subject(node=0, rank=1)


def test_a_death_is_explained_once() -> None:
    _, first, second = told(
        fault(Kind.WORKER_KILLED, 100, rank=1), fault(Kind.GPU_FAULT, 101), fault(Kind.GPU_FAULT, 102)
    )
    assert (first.witnesses, second.witnesses) == (2, 1)


def test_what_is_too_old_or_too_late_explains_nothing() -> None:
    assert told(fault(Kind.NIC_FAULT, 30), fault(Kind.HANG, 100, rank=0))[1].kind is Kind.HANG
    assert told(fault(Kind.HANG, 100, rank=0), fault(Kind.NIC_FAULT, 115))[1].witnesses == 1


def test_another_node_is_the_cause_only_of_those_who_waited() -> None:
    elsewhere = fault(Kind.GPU_LOST, 99, node=1)
    assert told(elsewhere, fault(Kind.HANG, 100, rank=0, sure=0.4))[1].subject.node == 1
    assert told(elsewhere, fault(Kind.WORKER_KILLED, 100, rank=0))[1].kind is Kind.WORKER_KILLED
    disk = fault(Kind.STORAGE_FAULT, 99, node=1)
    assert told(disk, fault(Kind.HANG, 100, rank=0, sure=0.4))[1].kind is Kind.HANG


def test_a_port_is_the_cause_of_whoever_gives_up_at_the_other_end() -> None:
    port, gave_up = fault(Kind.NIC_FAULT, 99, node=1), fault(Kind.WORKER_EXCEPTION, 100, rank=0, sure=0.6)
    for said in (told(port, gave_up)[1], told(gave_up, replace(port, at=101.0, onset=101.0))[1]):
        assert (said.kind, said.subject, said.witnesses) == (Kind.NIC_FAULT, Subject(node=1), 2)
        assert said.next_best == Subject(node=0, rank=0)
    assert told(port, fault(Kind.WORKER_KILLED, 100, rank=0))[1].kind is Kind.WORKER_KILLED


def test_the_out_of_memory_killer_explains_its_own_victim_only() -> None:
    oom = fault(Kind.HOST_OOM, 100, rank=1)
    assert [one.kind for one in told(oom, fault(Kind.WORKER_KILLED, 100.1, rank=1))] == [Kind.HOST_OOM]
    assert [one.kind for one in told(oom, fault(Kind.WORKER_KILLED, 100.1, rank=0))] == [Kind.WORKER_KILLED]


def test_of_two_causes_the_nearer_and_then_the_deeper_wins() -> None:
    hang = fault(Kind.HANG, 100, rank=0, sure=0.4)
    assert told(fault(Kind.NIC_FAULT, 99), fault(Kind.GPU_LOST, 98), hang)[2].kind is Kind.GPU_LOST
    assert told(fault(Kind.GPU_LOST, 98, node=1), fault(Kind.NIC_FAULT, 99), hang)[2].kind is Kind.NIC_FAULT


def test_a_stranger_that_the_kernel_ended_is_the_last_to_be_blamed() -> None:
    stranger, check = fault(Kind.HOST_OOM, 60, sure=0.6), fault(Kind.HOST_FAULT, 99)
    assert told(stranger, check, fault(Kind.WORKER_KILLED, 100, rank=0))[-1].kind is Kind.HOST_FAULT
    assert told(stranger, fault(Kind.WORKER_KILLED, 100, rank=0))[-1].kind is Kind.HOST_OOM


def test_what_only_slows_explains_no_death() -> None:
    assert told(fault(Kind.GPU_DEGRADED, 99), fault(Kind.HANG, 100, rank=0))[1].kind is Kind.HANG


def test_a_power_outlier_is_the_next_best_suspect_of_a_weak_verdict_only() -> None:
    attribution = Attribution()
    odd = Suspicion(at=99, subject=Subject(node=0, rank=5), sentence="GPU 5 draws 90 W, its peers 600 W")
    attribution.suspect([odd])
    (weak,) = attribution.judge([fault(Kind.HANG, 100, rank=0, sure=0.4)])
    assert (weak.kind, weak.next_best, weak.witnesses) == (Kind.HANG, odd.subject, 2)
    (sure,) = attribution.judge([fault(Kind.HANG, 100, rank=0, sure=0.95)])
    assert (sure.next_best, sure.witnesses) == (None, 1)


def test_what_ended_a_world_does_not_explain_a_failure_in_the_next() -> None:
    for kind, explains in ((Kind.GPU_MEMORY, False), (Kind.NIC_FAULT, True)):
        attribution = Attribution()
        attribution.judge([fault(kind, 90)])
        attribution.world_began(2)
        (failed,) = attribution.judge([fault(Kind.WORKER_KILLED, 100, rank=1)])
        assert (failed.kind is kind) == explains


def test_a_fault_of_one_ranks_gpu_does_not_explain_what_another_rank_did_to_itself() -> None:
    for kind in (Kind.GPU_FAULT, Kind.GPU_MEMORY):
        broken = fault(kind, 99, rank=3)
        assert told(broken, fault(Kind.WORKER_KILLED, 100, rank=3))[1].kind is kind
        assert told(broken, fault(Kind.WORKER_EXCEPTION, 100, rank=5))[1].kind is Kind.WORKER_EXCEPTION
        (_, waited) = told(broken, fault(Kind.HANG, 100, rank=5, sure=0.4))
        assert (waited.kind, waited.subject.rank, waited.next_best) == (kind, 3, Subject(node=0, rank=5))


def test_a_lost_gpu_or_a_broken_link_takes_the_whole_node_along_and_stays_the_culprit() -> None:
    for kind in (Kind.GPU_LOST, Kind.LINK_FAULT):
        (_, failed) = told(fault(kind, 99, rank=3), fault(Kind.WORKER_EXCEPTION, 100, rank=5))
        assert (failed.kind, failed.subject.rank, failed.next_best) == (kind, 3, Subject(node=0, rank=5))


def test_of_two_broken_gpus_the_ranks_own_explains_its_failure() -> None:
    told_of = told(fault(Kind.GPU_LOST, 98, rank=3), fault(Kind.GPU_MEMORY, 99, rank=5), fault(Kind.HANG, 100, rank=5))
    assert (told_of[2].kind, told_of[2].subject.rank) == (Kind.GPU_MEMORY, 5)
