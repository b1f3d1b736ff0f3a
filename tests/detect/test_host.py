"""What is wrong with a host: told when it lasts, once, and never of a host that is only busy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitors.detect.host import Host
from monitors.detect.host_levels import Trend
from monitors.hardware import HostLooked, KernelSaw
from monitors.incidents import Incident, Kind, Subject
from monitors.signals import RankStarted, Signal

GIB = 1 << 30
MIB = 1 << 20
T0 = 1_000_000.0
WELL = HostLooked(
    at=T0,
    node=1,
    memory_bytes=256 * GIB,
    memory_available_bytes=200 * GIB,
    swap_free_bytes=0,
    memory_stalled_share=0.0,
    shm_bytes=128 * GIB,
    shm_free_bytes=120 * GIB,
    disks=(("/", 1000 * GIB, 400 * GIB, 0.9), ("/data", 90_000 * GIB, 4_000 * GIB, 0.5)),
    cpu_steal=0.0,
    load_per_cpu=0.8,
    zombies=3,
    clock_offset_s=0.001,
)


class Case:
    """One host over time, looked at every 5 s."""

    def __init__(self) -> None:
        self.host = Host()
        self.host.world_began(1)
        self.now = T0
        self.told: list[Incident] = []

    def say(self, *signals: Signal) -> list[Incident]:
        new = [incident for signal in signals for incident in self.host.see(signal)]
        self.told += new
        return new

    def look(self, every_s: float = 5.0, **seen: Any) -> list[Incident]:
        self.now += every_s
        if (deadline := self.host.deadline) is not None and deadline <= self.now:
            self.told += self.host.silent(self.now)
        return self.say(replace(WELL, at=self.now, **seen))

    def looks(self, count: int, **seen: Any) -> list[Incident]:
        return [incident for _ in range(count) for incident in self.look(**seen)]

    def line(self, fault: str, action: str = "isolate_node", **fields: Any) -> list[Incident]:
        return self.say(KernelSaw(at=self.now, node=1, fault=fault, action=action, text=f"text of {fault}", **fields))

    def silence(self, seconds: float) -> list[Incident]:
        """Nobody looks; the deadline comes."""
        self.now += seconds
        new = self.host.silent(self.now)
        self.told += new
        return new


@pytest.fixture
def case() -> Case:
    return Case()


def kinds(incidents: Iterable[Incident]) -> list[Kind]:
    return [incident.kind for incident in incidents]


LASTING = {
    "memory nearly gone": (Kind.HOST_OOM, {"memory_available_bytes": 500 * MIB}, 0.0),
    "memory tight and waited for": (
        Kind.HOST_OOM,
        {"memory_available_bytes": 20 * GIB, "memory_stalled_share": 0.6},
        0.0,
    ),
    "disk full": (Kind.DISK_FULL, {"disks": (("/ckpt", 1000 * GIB, 10 * MIB, 0.9),)}, 0.0),
    "disk nearly full": (Kind.DISK_FULL, {"disks": (("/ckpt", 1000 * GIB, 9 * GIB, 0.9),)}, 0.0),
    "no inodes": (Kind.DISK_FULL, {"disks": (("/ckpt", 1000 * GIB, 900 * GIB, 0.0005),)}, 0.0),
    "few inodes": (Kind.DISK_FULL, {"disks": (("/ckpt", 1000 * GIB, 900 * GIB, 0.01),)}, 0.0),
    "shm of a container": (Kind.DISK_FULL, {"shm_bytes": 64 * MIB, "shm_free_bytes": 1 * MIB}, 0.0),
    "dead mount": (Kind.STORAGE_FAULT, {"dead_mounts": ("/ckpt",)}, 15.0),
    "port down": (Kind.NIC_FAULT, {"links_down": ("mlx5_0:1",)}, 25.0),
    "buffer overruns": (Kind.NIC_FAULT, {"link_errors": (("mlx5_0:1", "excessive_buffer_overrun_errors", 0.03),)}, 0.0),
    "symbol errors": (Kind.NIC_FAULT, {"link_errors": (("mlx5_0:1", "symbol_error", 40.0),)}, 40.0),
    "discards": (Kind.NIC_FAULT, {"link_errors": (("mlx5_0:1", "port_xmit_discards", 500.0),)}, 40.0),
    "stolen time": (Kind.HOST_DEGRADED, {"cpu_steal": 0.3}, 30.0),
    "wrong clock": (Kind.HOST_DEGRADED, {"clock_offset_s": -3.0}, 30.0),
    "zombies": (Kind.HOST_DEGRADED, {"zombies": 1500}, 60.0),
    "state D": (Kind.HOST_DEGRADED, {"blocked": ((17, "python"),)}, 45.0),
    "load": (Kind.HOST_DEGRADED, {"load_per_cpu": 9.0}, 300.0),
    "swapping": (Kind.HOST_DEGRADED, {"memory_stalled_share": 0.7}, 60.0),
}


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_is_told_once_and_what_comes_back_again(name: str, case: Case) -> None:
    kind, seen, hold_s = LASTING[name]
    assert case.looks(20) == []
    began = case.now + 5.0
    (told,) = case.looks(100, **seen)
    assert (told.kind, told.onset, told.subject) == (kind, began, Subject(node=1)), told
    assert hold_s <= told.at - began <= hold_s + 15.0, told
    assert told.senses == ("host",)
    assert all(told.evidence)
    assert case.looks(3) == []
    assert case.looks(20, **seen) == [], "it was well for 15 s only"
    case.looks(20)
    # A port that is down for the third time is also one that comes and goes.
    assert kinds(case.looks(100, **seen)) == [kind] * (2 if name == "port down" else 1)


@pytest.mark.parametrize("name", [name for name, (_, _, hold_s) in LASTING.items() if hold_s])
def test_what_passes_is_not_told(name: str, case: Case) -> None:
    _, seen, hold_s = LASTING[name]
    for _ in range(2):
        assert case.looks(int(hold_s / 5), **seen) == []
        assert case.looks(1) == []


INNOCENT: dict[str, list[dict[str, Any]]] = {
    "much page cache": [{"memory_available_bytes": 60 * GIB}] * 100,
    "no swap, no pressure files": [{"swap_free_bytes": 0, "memory_stalled_share": None}] * 100,
    "a big allocation that ends": [{"memory_available_bytes": (200 - 10 * n) * GIB} for n in range(12)]
    + [{"memory_available_bytes": 80 * GIB}] * 50,
    "swap takes what does not fit": [{"memory_available_bytes": 5 * GIB, "swap_free_bytes": 200 * GIB}] * 50,
    "images that are always full": [{"disks": (("/snap/core/1", 60 * MIB, 0, 0.0), ("/usr/lib", 2 * GIB, 0, 0.0))}]
    * 50,
    "a large disk at 96 %": [{"disks": (("/data", 90_000 * GIB, 3_600 * GIB, 0.5),)}] * 100,
    "one save on a disk with room": [{"disks": (("/d", 1000 * GIB, 190 * GIB, 0.5),)}] * 60
    + [{"disks": (("/d", 1000 * GIB, (190 - 5 * n) * GIB, 0.5),)} for n in range(10)]
    + [{"disks": (("/d", 1000 * GIB, 140 * GIB, 0.5),)}] * 60,
    "a busy node": [{"load_per_cpu": 2.5, "cpu_steal": 0.03, "zombies": 200}] * 100,
    "a peak of load": [{"load_per_cpu": 8.0}] * 30 + [{}] * 30,
    "few errors of a port": [{"link_errors": (("eth0", "rx_errors", 0.5), ("mlx5_0:1", "symbol_error", 1.0))}] * 100,
    "a counter that nobody knows": [{"link_errors": (("eth0", "new_counter", 1e9),)}] * 100,
    "nothing is known": [dict.fromkeys(("memory_bytes", "shm_bytes", "cpu_steal", "load_per_cpu", "zombies"))] * 50,
}


@pytest.mark.parametrize("name", INNOCENT)
def test_a_host_that_is_only_busy_is_innocent(name: str, case: Case) -> None:
    for seen in INNOCENT[name]:
        case.look(**seen)
    assert case.told == []


def test_a_leak_is_told_before_the_kernel_kills(case: Case) -> None:
    """2 GiB a second on 256 GiB."""
    left, gone_at = 100.0, case.now + 50.0
    while not case.told:
        left -= 2.0
        assert left > 0, "too late"
        case.look(1.0, memory_available_bytes=int(left * GIB))
    (told,) = case.told
    assert told.kind is Kind.HOST_OOM
    assert 5.0 < gone_at - told.at < 30.0
    assert "gone in" in told.evidence[0]
    assert told.confidence <= 0.5


def test_a_disk_that_fills_is_told_before_it_is_full(case: Case) -> None:
    free = 190.0
    while not case.told:
        free -= 1.0
        assert free > 0, "too late"
        case.look(disks=(("/ckpt", 1000 * GIB, int(free * GIB), 0.9),))
    assert "at this rate it is full in" in case.told[0].evidence[0]
    assert free > 50
    full = case.looks(5, disks=(("/ckpt", 1000 * GIB, 0, 0.9),))
    assert [incident.confidence for incident in full] == [1.0], "full is graver than nearly full"


def test_a_new_world_hears_of_a_fault_that_goes_on_but_not_of_a_note(case: Case) -> None:
    seen: dict[str, Any] = {"dead_mounts": ("/ckpt",), "cpu_steal": 0.5}
    assert sorted(kinds(case.looks(20, **seen))) == [Kind.HOST_DEGRADED, Kind.STORAGE_FAULT]
    case.host.world_began(2)
    (again,) = case.looks(20, **seen)
    assert (again.kind, again.world) == (Kind.STORAGE_FAULT, 2)


def test_a_stuck_rank_is_named(case: Case) -> None:
    case.say(RankStarted(at=T0, node=1, world=1, rank=5, pid=17), RankStarted(at=T0, node=0, world=1, rank=0, pid=18))
    (told,) = case.looks(20, blocked=((18, "tar"), (17, "python")))
    assert told.subject == Subject(node=1, rank=5)


# ------------------------------------------------------------------------------------------------ the kernel's log

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
    # It did not: one incident, with both witnesses.
    assert case.line(fault, action) == []
    told = case.looks(30, **{seen: ("mlx5_0:1",)})
    assert [incident.senses for incident in told] == [("host", "kernel")]
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


# ------------------------------------------------------------------------------------------------ whatever comes

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


def test_a_trend_is_not_moved_by_a_burst() -> None:
    trend = Trend(history_s=600.0, sample_s=1.0)
    for second in range(60):
        trend.add(float(second), 1000.0 if second < 50 else 1000.0 - 50 * (second - 50))
    assert trend.zero_in_s(span_s=30.0) is None
    for second in range(60, 120):
        trend.add(float(second), 1000.0 - 5 * (second - 60))
    assert trend.zero_in_s(span_s=30.0) == pytest.approx((1000.0 - 5 * 59) / 5, rel=0.4)
