"""What is wrong with a host by the lines of its kernel; and nothing that is seen breaks the detector."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitors.detect.host import Host
from monitors.hardware import HostLooked, KernelSaw
from monitors.incidents import Kind, Subject
from monitors.signals import RankStarted, Signal
from tests.detect.hosts import T0, Case, kinds


@pytest.fixture
def case() -> Case:
    return Case()


AT_ONCE = {
    "host_mce_fatal": Kind.HOST_FAULT,
    "host_memory_ue": Kind.HOST_FAULT,
    "kernel_panic": Kind.HOST_FAULT,
    "kernel_oops": Kind.HOST_FAULT,
    "soft_lockup": Kind.HOST_FAULT,
    "pcie_uncorrectable": Kind.HOST_FAULT,
    "disk_io_error": Kind.STORAGE_FAULT,
    "fs_error": Kind.STORAGE_FAULT,
    "fs_readonly": Kind.STORAGE_FAULT,
    "nvme_lost": Kind.STORAGE_FAULT,
    "nvme_reset": Kind.STORAGE_FAULT,
    "raid_failure": Kind.STORAGE_FAULT,
    "nfs_lock_lost": Kind.STORAGE_FAULT,
    "nic_firmware": Kind.NIC_FAULT,
    "nic_hardware": Kind.NIC_FAULT,
    "nic_init": Kind.NIC_FAULT,
    "nic_power": Kind.NIC_FAULT,
    "nic_of_tomorrow": Kind.NIC_FAULT,
}


@pytest.mark.parametrize("fault", AT_ONCE)
def test_what_the_catalogue_acts_on_is_told_at_once_and_once(fault: str, case: Case) -> None:
    (told,) = case.line(fault)
    assert (told.kind, told.onset, told.at, told.subject) == (AT_ONCE[fault], T0, T0, Subject(node=1))
    assert told.senses == ("kernel",)
    assert f"text of {fault}" in told.evidence[0]
    for _ in range(20):
        case.now += 30.0
        assert case.line(fault) == []
    case.now += 900.0
    assert kinds(case.line(fault)) == [AT_ONCE[fault]]
    case.host.world_began(2)
    assert kinds(case.line(fault)) == [AT_ONCE[fault]]


def test_two_lines_of_one_fault_are_one_incident(case: Case) -> None:
    assert kinds([*case.line("fs_error"), *case.line("fs_readonly")]) == [Kind.STORAGE_FAULT]
    assert kinds(case.line("nic_hardware")) == [Kind.NIC_FAULT]


OFTEN = {
    "nvme_timeout": (3, Kind.STORAGE_FAULT),
    "nic_tx_timeout": (3, Kind.NIC_FAULT),
    "hung_task": (1, Kind.HOST_DEGRADED),
    "host_memory_ce": (10, Kind.HOST_DEGRADED),
    "pcie_corrected": (10, Kind.HOST_DEGRADED),
    "kernel_net_leak": (10, Kind.HOST_DEGRADED),
}


@pytest.mark.parametrize("fault", OFTEN)
def test_what_is_only_observed_must_come_often(fault: str, case: Case) -> None:
    count, kind = OFTEN[fault]
    for _ in range(count - 1):
        assert case.line(fault, "observe") == []
        case.now += 10.0
    assert kinds(case.line(fault, "observe")) == [kind]


def test_a_line_may_stand_for_many(case: Case) -> None:
    assert case.line("host_memory_ce", "observe", count=4) == []
    assert kinds(case.line("host_memory_ce", "observe", count=6)) == [Kind.HOST_DEGRADED]


@pytest.mark.parametrize("fault", [fault for fault, (count, _) in OFTEN.items() if count > 1])
def test_what_comes_rarely_is_not_told(fault: str, case: Case) -> None:
    for _ in range(50):
        assert case.line(fault, "observe") == []
        case.now += 7200.0


def test_a_graver_line_is_told_after_a_lesser_one(case: Case) -> None:
    for _ in range(3):
        case.line("nvme_timeout", "observe")
    case.line("nvme_lost")
    assert [(told.kind, told.confidence) for told in case.told] == [
        (Kind.STORAGE_FAULT, 0.5),
        (Kind.STORAGE_FAULT, 0.9),
    ]


@pytest.mark.parametrize(
    ("fault", "action", "fields"),
    [
        ("nic_access_reg_noise", "none", {}),
        ("pcie_uncorrectable", "reboot_node", {"cascade": True}),
        ("gpu_lost", "reboot_node", {}),
        ("nccl_segfault", "restart_app", {}),
        ("host_oom", "restart_app", {"cascade": True}),
    ],
)
def test_lines_that_are_nothing_or_somebody_elses(fault: str, action: str, fields: dict[str, Any], case: Case) -> None:
    assert case.line(fault, action, **fields) == []
    assert case.silence(600.0) == []


def test_a_victim_of_the_oom_killer_is_named_by_its_rank(case: Case) -> None:
    case.say(RankStarted(at=T0, node=1, world=1, rank=7, pid=4711))
    assert case.line("host_oom", "restart_app") == []
    (told,) = case.line("host_oom", "restart_app", pid=4711)
    assert (told.kind, told.subject, told.confidence) == (Kind.HOST_OOM, Subject(node=1, rank=7), 1.0)
    assert case.line("host_oom", "restart_app", pid=4711) == []
    assert case.silence(60.0) == []
    case.host.world_began(2)
    case.say(RankStarted(at=T0, node=1, world=2, rank=7, pid=4712))
    (told,) = case.line("host_oom", "restart_app", pid=4712)
    assert (told.world, told.subject.rank) == (2, 7)


@pytest.mark.parametrize("pid", [None, 99])
def test_a_victim_that_is_no_rank_is_told_after_a_moment(pid: int | None, case: Case) -> None:
    case.say(RankStarted(at=T0, node=0, world=1, rank=0, pid=99))
    assert case.line("host_oom", "restart_app", pid=pid) == []
    assert case.host.deadline == T0 + 1.0
    (told,) = case.silence(1.0)
    assert (told.kind, told.subject, told.onset) == (Kind.HOST_OOM, Subject(node=1), T0)
    assert ("process 99" in told.evidence[0]) == (pid == 99)
    assert case.host.deadline is None


@pytest.mark.parametrize(
    ("fault", "action", "seen"),
    [("nfs_stall", "check_storage", "dead_mounts"), ("nic_link_down", "isolate_node", "links_down")],
)
def test_what_may_pass_waits_for_the_hosts_own_word(fault: str, action: str, seen: str, case: Case) -> None:
    # It passed: the host's counters know nothing of it.
    assert case.line(fault, action) == []
    assert case.looks(20) == []
    assert case.host.deadline is None
    # It did not: one incident, in both words; yet they tell one fact, and only a rank can show that the run suffers.
    assert case.line(fault, action) == []
    told = case.looks(30, **{seen: ("mlx5_0:1",)})
    assert [(incident.senses, "kernel: " in incident.evidence[1]) for incident in told] == [(("host",), True)]
    assert case.silence(100.0) == []
    # Nobody looks at the host: the kernel's word alone.
    assert case.line(fault, action) == []
    assert [incident.senses for incident in case.silence(40.0)] == [("kernel",)]
    # The kernel itself says that it is over.
    case.host.world_began(2)
    case.line(fault, action)
    case.line(fault, "none")
    assert case.silence(100.0) == []
    assert len(case.told) == 2


def test_a_server_that_two_senses_miss_is_told_at_the_first_look(case: Case) -> None:
    case.line("nfs_stall", "check_storage")
    assert kinds(case.look(dead_mounts=("/ckpt",))) == [Kind.STORAGE_FAULT]


def test_a_port_that_flaps_is_told_at_the_third_time(case: Case) -> None:
    for _ in range(2):
        assert case.looks(2, links_down=("eth0",)) == []
        assert case.looks(60) == []
    (told,) = case.looks(2, links_down=("eth0",))
    assert (told.kind, "3 times" in told.evidence[0]) == (Kind.NIC_FAULT, True)


WILD = st.one_of(st.floats(-1e12, 1e12), st.sampled_from([0.0, 1.0, float("nan"), float("inf"), -float("inf")]))
COUNTS = st.one_of(st.none(), st.integers(-(2**63), 2**63), st.integers(0, 3))
LOOKS = st.builds(
    HostLooked,
    at=st.floats(-1e12, 1e12),
    node=st.integers(0, 1),
    memory_bytes=COUNTS,
    memory_available_bytes=COUNTS,
    swap_free_bytes=COUNTS,
    memory_stalled_share=st.one_of(st.none(), WILD),
    shm_bytes=COUNTS,
    shm_free_bytes=COUNTS,
    disks=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(-5, 2**60), st.integers(-5, 2**60), WILD), max_size=2
    ).map(tuple),
    dead_mounts=st.sampled_from([(), ("a",), ("a", "b")]),
    cpu_steal=st.one_of(st.none(), WILD),
    load_per_cpu=st.one_of(st.none(), WILD),
    zombies=COUNTS,
    blocked=st.sampled_from([(), ((7, "x"),)]),
    clock_offset_s=st.one_of(st.none(), WILD),
    links_down=st.sampled_from([(), ("p",)]),
    link_errors=st.lists(
        st.tuples(st.just("p"), st.sampled_from(["symbol_error", "rnr_nak_retry_err", "x"]), WILD), max_size=2
    ).map(tuple),
)
LINES = st.builds(
    KernelSaw,
    at=st.floats(-1e12, 1e12),
    node=st.integers(0, 1),
    fault=st.sampled_from([*AT_ONCE, *OFTEN, "host_oom", "nfs_stall", "nic_link_down", "", "gpu_lost"]),
    action=st.sampled_from(["none", "observe", "restart_app", "isolate_node", "something_new"]),
    cascade=st.booleans(),
    pid=st.sampled_from([None, 7]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(LOOKS, LINES), max_size=30), st.floats(-1e12, 1e12))
def test_whatever_is_seen_nothing_breaks_and_silence_has_an_end(seen: list[Signal], now: float) -> None:
    host = Host()
    for signal in seen:
        host.see(signal)
    host.silent(now)
    while (deadline := host.deadline) is not None:
        host.silent(deadline)
        assert host.deadline != deadline
