"""What is wrong with a host by its counters: told when it lasts, once, and never of a host that is only busy."""

from __future__ import annotations

from typing import Any

import pytest

from monitors.detect.host_levels import Trend
from monitors.incidents import Kind, Subject
from monitors.signals import RankStarted
from tests.detect.hosts import GIB, MIB, T0, Case, kinds


@pytest.fixture
def case() -> Case:
    return Case()


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


def test_a_trend_is_not_moved_by_a_burst() -> None:
    trend = Trend(history_s=600.0, sample_s=1.0)
    for second in range(60):
        trend.add(float(second), 1000.0 if second < 50 else 1000.0 - 50 * (second - 50))
    assert trend.zero_in_s(span_s=30.0) is None
    for second in range(60, 120):
        trend.add(float(second), 1000.0 - 5 * (second - 60))
    assert trend.zero_in_s(span_s=30.0) == pytest.approx((1000.0 - 5 * 59) / 5, rel=0.4)
