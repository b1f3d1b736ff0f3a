"""What Linux says of a host, read from trees of files; and the sense on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monitors.clock import SystemClock
from monitors.hardware import HostLooked
from monitors.sense import host_memory
from monitors.sense.host import Host, clock_offset_s
from monitors.sense.host_links import Links
from monitors.sense.host_processes import BLOCKED_LOOKS, Processes, Processors
from monitors.sense.host_reader import Reader
from monitors.signals import Blind
from tests.sense.trees import STAT, Tree

KB = 1024
WITHIN_S = 20.0
HUGE = 9223372036854771712


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


# ------------------------------------------------------------------------------------------------ memory


def memory(tree: Tree) -> host_memory.Memory:
    found = host_memory.look(tree.root)
    assert found is not None
    return found


def test_the_hosts_memory(tree: Tree) -> None:
    tree.memory(total=1000, available=300, swap=50)
    assert memory(tree) == host_memory.Memory(
        total=1000 * KB, available=300 * KB, swap_free=50 * KB, stalled_share=None
    )


def test_an_old_kernel_does_not_say_what_is_available(tree: Tree) -> None:
    file = tree.root / "proc/meminfo"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "Available" not in line))
    assert memory(tree).available == (100 + 700 - 50) * KB


@pytest.mark.parametrize("inside", [True, False], ids=["seen from the container", "seen from the host"])
def test_a_containers_limit_counts_where_less_is_left_and_its_page_cache_does_not(tree: Tree, inside: bool) -> None:
    path = "" if inside else "kubepods/pod7/"
    tree.write("proc/self/cgroup", f"0::/{path}\n")
    group = f"sys/fs/cgroup/{path}"
    tree.write(f"{group}memory.max", f"{400 * KB}\n")
    tree.write(f"{group}memory.current", f"{390 * KB}\n")
    tree.write(f"{group}memory.stat", f"anon {100 * KB}\nactive_file {40 * KB}\ninactive_file {250 * KB}\nfile 9\n")
    tree.write(f"{group}memory.pressure", "some avg10=12.50 avg60=1.00 avg300=0.00 total=9\nfull avg10=1.00\n")
    tree.write("proc/pressure/memory", "some avg10=3.00 avg60=0.00 avg300=0.00 total=1\n")
    found = memory(tree)
    assert (found.total, found.available, found.stalled_share) == (400 * KB, 300 * KB, 0.125)


def test_a_limit_further_up_counts_too(tree: Tree) -> None:
    tree.write("proc/self/cgroup", "0::/slurm/job_1/step_0\n")
    tree.write("sys/fs/cgroup/slurm/job_1/memory.max", f"{200 * KB}\n")
    tree.write("sys/fs/cgroup/slurm/job_1/memory.current", f"{150 * KB}\n")
    tree.write("sys/fs/cgroup/slurm/job_1/step_0/memory.max", "max\n")
    tree.write("sys/fs/cgroup/slurm/job_1/step_0/memory.current", f"{150 * KB}\n")
    assert (memory(tree).total, memory(tree).available) == (200 * KB, 50 * KB)


@pytest.mark.parametrize(("limit", "total"), [(500 * KB, 500), (HUGE, 1000)], ids=["limited", "unlimited"])
def test_the_first_version_of_control_groups(tree: Tree, limit: int, total: int) -> None:
    # Docker's path is that of the host, and its mount begins at the container.
    tree.write("proc/self/cgroup", "12:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n0::/docker/ab\n")
    tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{limit}\n")
    tree.write("sys/fs/cgroup/memory/memory.usage_in_bytes", f"{450 * KB}\n")
    tree.write(
        "sys/fs/cgroup/memory/memory.stat", f"inactive_file 0\ntotal_active_file 0\ntotal_inactive_file {100 * KB}\n"
    )
    assert memory(tree).total == total * KB
    assert memory(tree).available == (150 if total == 500 else 800) * KB


def test_more_page_cache_than_use_is_no_negative_memory(tree: Tree) -> None:
    tree.write("sys/fs/cgroup/memory.max", f"{400 * KB}\n")
    tree.write("sys/fs/cgroup/memory.current", f"{10 * KB}\n")
    tree.write("sys/fs/cgroup/memory.stat", f"inactive_file {99 * KB}\n")
    assert memory(tree).available == 400 * KB


def test_a_host_without_proc_is_blind_once_and_sees_again(tree: Tree) -> None:
    host = Host(node=3, root=tree.root)
    assert [type(one) for one in host.look(1.0)] == [HostLooked]
    (tree.root / "proc/meminfo").unlink()
    (blind,) = host.look(2.0)
    assert isinstance(blind, Blind)
    assert (blind.node, blind.sense) == (3, "host")
    assert "meminfo" in blind.why
    assert host.look(3.0) == []
    tree.memory()
    sees, looked = host.look(4.0)
    assert isinstance(sees, Blind)
    assert sees.why == ""
    assert isinstance(looked, HostLooked)
    host.close()


def test_it_hurries_when_memory_is_short(tree: Tree) -> None:
    host = Host(node=0, root=tree.root)
    host.look(1.0)
    relaxed = host.every_s
    tree.memory(available=50)
    host.look(2.0)
    assert host.every_s < relaxed
    host.close()


# ------------------------------------------------------------------------------------------------ processes


def test_a_process_that_does_not_leave_state_d_is_stuck(tree: Tree) -> None:
    tree.process(10, "a) D (name", "D")
    processes = Processes(tree.root / "proc")
    found = [processes.look(5.0 * n) for n in range(BLOCKED_LOOKS + 1)]
    assert found == [()] * (BLOCKED_LOOKS - 1) + [((10, "a) D (name"),)] * 2
    tree.process(10, "a) D (name", "R")
    assert processes.look(100.0) == ()


@pytest.mark.parametrize(
    "change", [{"switches": 2}, {"started": 8}, {"state": "S"}], ids=["it ran", "another one", "it sleeps"]
)
def test_a_process_that_moves_or_is_another_one_is_not(tree: Tree, change: dict[str, int]) -> None:
    processes = Processes(tree.root / "proc")
    for n in range(12):
        fields = {"state": "D", **(change if n % 2 else {})}
        tree.process(10, **fields)  # type: ignore[arg-type]
        assert processes.look(5.0 * n) == ()


def test_the_kernels_own_threads_sleep_as_they_like(tree: Tree) -> None:
    tree.process(2, "kthreadd", "S", parent=0)
    tree.process(20, "txg_sync", "D", parent=2)
    tree.process(30, "done", "Z")
    processes = Processes(tree.root / "proc")
    assert [processes.look(40.0 * n) for n in range(5)] == [()] * 5
    assert processes.zombies == 1


def test_a_process_that_vanishes_between_two_reads_is_nobody(tree: Tree) -> None:
    tree.write("proc/50/status", "")
    tree.write("proc/51/stat", "garbage")
    tree.write("proc/52/stat", "52 (x) D\n")
    assert Processes(tree.root / "proc").look(0.0) == ()


def test_steal_is_a_share_between_looks(tree: Tree) -> None:
    processors = Processors(tree.root / "proc")
    assert processors.look() == (None, 0.25)
    tree.write("proc/stat", STAT.format(idle=1300, steal=100))
    assert processors.look() == (0.25, 0.25)
    assert processors.look()[0] is None, "no time has passed"
    tree.write("proc/stat", STAT.format(idle=10, steal=0))
    assert processors.look()[0] is None, "the counters began anew"
    tree.write("proc/stat", "cpu 1 2\n")
    assert processors.look()[0] is None, "a kernel that does not say it"


# ------------------------------------------------------------------------------------------------ ports


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.close()


def test_a_port_that_was_up_for_long_enough_is_missed(tree: Tree, reader: Reader) -> None:
    tree.port("eth0")
    links = Links(tree.root, reader)
    for now in (0.0, 10.0):
        assert links.look(now)[0] == ()
    tree.port("eth0", "down")
    assert links.look(20.0)[0] == (), "it was up for 20 s: a flap"
    tree.port("eth0")
    links.look(30.0)
    links.look(60.0)
    for state in ("down", "lowerlayerdown", "dormant"):
        tree.port("eth0", state)
        assert links.look(70.0)[0] == ("eth0",)
    tree.port("eth0")
    assert links.look(80.0)[0] == ()


def test_ports_that_are_nobodys_fault(tree: Tree, reader: Reader) -> None:
    tree.port("veth12", device="")
    tree.port("docker0", device="")
    tree.port("bmc0", device="usb")
    tree.port("spare", "down")
    tree.port("moved")
    links = Links(tree.root, reader)
    links.look(0.0)
    links.look(60.0)
    for name in ("veth12", "docker0"):
        tree.port(name, "down", device="")
    tree.port("bmc0", "down", device="usb")
    for path in sorted((tree.root / "sys/class/net/moved").rglob("*"), reverse=True):
        path.unlink() if path.is_file() or path.is_symlink() else path.rmdir()
    (tree.root / "sys/class/net/moved").rmdir()
    assert links.look(70.0)[0] == ()


def test_a_driver_that_does_not_know_its_state_is_believed_by_its_flags(tree: Tree, reader: Reader) -> None:
    tree.port("ib0", "unknown", flags="0x1003")
    links = Links(tree.root, reader)
    links.look(0.0)
    links.look(60.0)
    tree.port("ib0", "unknown", flags="0x1002")
    assert links.look(70.0)[0] == ("ib0",)


def test_counters_are_rates_and_a_reset_is_none(tree: Tree, reader: Reader) -> None:
    tree.port("eth0", rx_errors=5)
    links = Links(tree.root, reader)
    assert links.look(0.0)[1] == ()
    tree.port("eth0", rx_errors=35, carrier_changes=2)
    assert links.look(30.0)[1] == (("eth0", "rx_errors", 1.0),)
    tree.port("eth0", rx_errors=0)
    assert links.look(60.0)[1] == ()


def waited(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_infiniband_is_counted_by_the_child_and_missed_when_it_is_gone(tree: Tree, reader: Reader) -> None:
    tree.infiniband("mlx5_0")
    links = Links(tree.root, reader)
    clock = iter(range(100_000))
    links.look(0.0)
    waited(lambda: bool(links.look(next(clock) * 0.001) and links._counted))
    tree.infiniband("mlx5_0", symbol_error=600, rnr_nak_retry_err=3, port_xmit_data=10**12)
    links.look(60.0)
    waited(lambda: bool(links.look(60.0)[1]))
    rates = {counter: rate for _, counter, rate in links.look(60.0)[1]}
    assert set(rates) == {"symbol_error", "rnr_nak_retry_err"}
    assert rates["symbol_error"] == pytest.approx(10.0, rel=0.05)
    tree.infiniband("mlx5_0", "2: INIT")
    assert links.look(61.0)[0] == ("mlx5_0:1",)
    (tree.root / "sys/class/infiniband").rename(tree.root / "gone")
    assert links.look(62.0)[0] == ("mlx5_0:1",)


# ------------------------------------------------------------------------------------------------ this machine


def test_this_machine() -> None:
    clock = SystemClock()
    host = Host(node=0, paths=["/no/such/folder"])
    seen: list[HostLooked] = []

    def looked() -> bool:
        seen.extend(one for one in host.look(clock.now()) if isinstance(one, HostLooked))
        return bool(seen and seen[-1].disks)

    waited(looked)
    host.close()
    last = seen[-1]
    assert last.memory_bytes is not None
    assert last.memory_available_bytes is not None
    assert 0 < last.memory_available_bytes <= last.memory_bytes
    assert last.dead_mounts == ()
    roots = [room for room in last.disks if room[0] == "/"]
    assert not roots or roots[0][1] >= roots[0][2] > 0
    assert last.load_per_cpu is not None
    assert last.zombies is not None


def test_a_look_costs_little() -> None:
    """The budget is half a percent of a core for all senses; a look comes every 5 s."""
    host = Host(node=0)
    host.look(0.0)
    began = time.process_time()
    for n in range(1, 21):
        host.look(5.0 * n)
    spent = (time.process_time() - began) / 20
    host.close()
    print(f"a look: {spent * 1000:.1f} ms of processor, {len(os.listdir('/proc'))} entries in /proc")
    assert spent < 0.025


def test_the_clocks_offset_is_small_or_not_known() -> None:
    now = SystemClock().now()
    offset = clock_offset_s(now)
    assert offset is None or abs(offset) < 3600
    if offset is not None:
        assert clock_offset_s(now + 100.0) == pytest.approx(offset + 100.0, abs=1.0)
