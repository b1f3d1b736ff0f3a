"""Does the sense of GPUs see every fault, in time, and never wait for a driver that does not answer?"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from monitors.detect import gpus as detect
from monitors.fakenvml.build import LIBRARY, build, compiler
from monitors.fakenvml.control import ALL, FakeNvml
from monitors.hardware import GpuEvent, GpuFailed, GpuLooked
from monitors.incidents import Incident, Kind
from monitors.sense import processes
from monitors.sense.gpus import EVENTS, OVERRIDES, Gpus, GpusConfig
from monitors.signals import Blind, Signal
from tests.fakenvml.lab import WITHIN_S, Looks, is_there

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler")

QUICK = GpusConfig(poll_s=0.2, deadline_s=1.0, again_s=0.5)
PATIENT = replace(QUICK, deadline_s=WITHIN_S)
"""where nothing hangs: a busy machine may take a second to start a process"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("library"))


@pytest.fixture
def fake(tmp_path: Path, library: Path) -> FakeNvml:
    return FakeNvml(tmp_path / "nvml", gpus=3, library=library)


@pytest.fixture
def looks(fake: FakeNvml) -> Iterator[Looks]:
    """Of all GPUs, again and again."""
    looks = Looks(Gpus(node=4, env=fake.environment, config=PATIENT))
    yield looks
    looks.gpus.close()


@pytest.fixture
def hasty(fake: FakeNvml) -> Iterator[Looks]:
    """The same, for what does not answer."""
    looks = Looks(Gpus(node=4, env=fake.environment, config=QUICK))
    yield looks
    looks.gpus.close()


def is_looked(index: int) -> Callable[[Signal], bool]:
    return lambda signal: isinstance(signal, GpuLooked) and signal.index == index


def sees(signal: Signal) -> bool:
    return isinstance(signal, GpuLooked)


def started(looks: Looks, fake: FakeNvml) -> Looks:
    """Both processes at work: the listener is when it hears a first event."""
    looks.until(sees)
    end = time.monotonic() + WITHIN_S
    while not looks.of(GpuEvent):
        assert time.monotonic() < end
        fake.event(0, "ecc_corrected")
        time.sleep(0.05)
        looks.seen += looks.gpus.look(time.time())
    return looks


def test_all_gpus_are_seen_again_and_again_and_nothing_is_wrong(looks: Looks, fake: FakeNvml) -> None:
    for _ in range(2):
        for index in range(3):
            looks.until(is_looked(index))
    assert {(one.node, one.device) for one in looks.of(GpuLooked)} == {(4, fake.uuid(index)) for index in range(3)}
    assert len(looks.seen) == len(looks.of(GpuLooked))


class Run:
    """Sense and detector, as in production: the default config."""

    def __init__(self, fake: FakeNvml) -> None:
        self.looks = Looks(Gpus(node=0, env=fake.environment))
        self.detector = detect.Gpus()
        self.detector.world_began(1)
        self.incidents: list[Incident] = []
        started(self.looks, fake)

    def incident(self) -> Incident:
        """The next one."""

        def concludes(signal: Signal) -> bool:
            self.incidents += self.detector.see(signal)
            return bool(self.incidents)

        self.looks.until(concludes)
        return self.incidents.pop(0)


@pytest.fixture
def run(fake: FakeNvml) -> Iterator[Run]:
    run = Run(fake)
    yield run
    run.looks.gpus.close()


def test_a_xid_is_an_incident_within_two_seconds(run: Run, fake: FakeNvml) -> None:
    began = time.time()
    fake.xid(2, 79)
    incident = run.incident()
    assert time.time() - began < 2.0
    assert (incident.kind, incident.subject.device) == (Kind.GPU_LOST, fake.uuid(2))
    assert "Xid 79" in incident.evidence[0]
    assert began <= incident.onset <= time.time()


def test_a_site_says_what_a_xid_means_and_a_slip_in_its_file_hides_none(fake: FakeNvml, tmp_path: Path) -> None:
    """The file lies on the node: what the driver tells is judged there, like the lines of the kernel."""
    site = tmp_path / "overrides.json"
    site.write_text('{"xids": {"79": {"action": "none"}')
    looks = Looks(Gpus(node=0, env=fake.environment, overrides=site, config=PATIENT))
    try:
        started(looks, fake)
        fake.xid(2, 79)
        heard = looks.until(lambda signal: isinstance(signal, GpuEvent) and signal.event == "xid")
        assert [incident.kind for incident in detect.Gpus().see(heard)] == [Kind.GPU_LOST]
        assert [one.sense for one in looks.of(Blind) if str(site) in one.why] == [OVERRIDES]
        site.write_text('{"xids": {"79": {"action": "none"}, "13": {"fault": "gpu_stopped", "action": "reset_gpu"}}}')
        for number, meant in ((79, ("gpu_lost", "none")), (13, ("gpu_stopped", "reset_gpu"))):
            fake.xid(2, number)
            heard = looks.until(lambda signal, n=number: isinstance(signal, GpuEvent) and signal.data == n)
            assert (heard.fault, heard.action) == meant
        assert detect.Gpus().see(replace(heard, data=79, action="none")) == []
        assert looks.of(Blind)[-1].why == ""
    finally:
        looks.gpus.close()


def test_a_lost_gpu_is_an_incident_within_two_seconds(run: Run, fake: FakeNvml) -> None:
    began = time.time()
    fake.lose(1)
    incident = run.incident()
    assert time.time() - began < 2.0
    assert (incident.kind, incident.subject.device) == (Kind.GPU_LOST, fake.uuid(1))


def test_a_verdict_of_the_driver_is_an_incident_within_two_seconds(run: Run, fake: FakeNvml) -> None:
    began = time.time()
    fake.set(0, "recovery_action", 1)
    incident = run.incident()
    assert time.time() - began < 2.0
    assert (incident.kind, incident.subject.device) == (Kind.GPU_FAULT, fake.uuid(0))


def test_a_call_that_does_not_return_is_that_gpus_fault_and_costs_the_others_nothing(
    hasty: Looks, fake: FakeNvml
) -> None:
    started(hasty, fake)
    hasty.longest_s = 0.0
    fake.hang(1)
    failed = hasty.until(lambda signal: isinstance(signal, GpuFailed))
    assert (failed.device, failed.error) == (fake.uuid(1), "no_answer")
    hasty.until(is_looked(0))
    hasty.until(is_looked(2))
    fake.xid(1, 119)
    heard = hasty.until(lambda signal: isinstance(signal, GpuEvent) and signal.event == "xid")
    assert (heard.device, heard.data) == (fake.uuid(1), 119)
    hasty.until(lambda signal: isinstance(signal, GpuFailed))
    # It was asked again, and nobody waited for it.
    assert hasty.longest_s < 0.5
    fake.heal(1)
    hasty.until(is_looked(1))
    assert not hasty.of(Blind)
    assert {one.index for one in hasty.of(GpuFailed)} == {1}


def test_a_call_that_spins_for_ever_does_not_return_either(hasty: Looks, fake: FakeNvml) -> None:
    started(hasty, fake)
    fake.hang(1, spinning=True)
    failed = hasty.until(lambda signal: isinstance(signal, GpuFailed))
    fake.heal(1)
    assert (failed.device, failed.error) == (fake.uuid(1), "no_answer")


def test_a_gpu_that_hangs_the_listener_is_left_out_and_heard_again_when_it_is_back(
    hasty: Looks, fake: FakeNvml
) -> None:
    fake.hang(1)
    hasty.until(lambda signal: isinstance(signal, GpuFailed) and signal.error == "no_answer")
    started(hasty, fake)
    fake.heal(1)
    hasty.until(is_looked(1))
    end = time.monotonic() + WITHIN_S
    while not [one for one in hasty.of(GpuEvent) if one.event == "xid"]:
        assert time.monotonic() < end
        fake.xid(1, 13)
        hasty.until(lambda _: True)


def test_a_crash_of_the_drivers_library_blinds_for_a_moment(hasty: Looks, fake: FakeNvml) -> None:
    started(hasty, fake)
    fake.crash(2, "nvmlDeviceGetClockInfo")
    blind = hasty.until(lambda signal: isinstance(signal, Blind))
    assert blind.why == "the process that asks NVML was ended by SIGSEGV at GPU 2"
    failed = hasty.until(lambda signal: isinstance(signal, GpuFailed))
    assert (failed.device, failed.error) == (fake.uuid(2), "no_answer")
    hasty.until(is_looked(0))
    fake.heal(2)
    hasty.until(is_looked(2))
    whys = [one.why for one in hasty.of(Blind) if one.sense == "nvml"]
    assert whys[-1] == ""
    assert all(why == "" or "SIGSEGV" in why for why in whys)


def test_a_host_without_the_library_is_blind_once_until_it_is_installed(tmp_path: Path, library: Path) -> None:
    fake = FakeNvml(tmp_path, gpus=1, library=library)
    fake.vanish()
    looks = Looks(Gpus(node=0, env=fake.environment, config=QUICK))
    looks.until(lambda signal: isinstance(signal, Blind) and "install the NVIDIA driver" in signal.why)
    shutil.copy2(library, tmp_path / LIBRARY)
    looks.until(lambda signal: isinstance(signal, Blind) and signal.why == "")
    looks.until(sees)
    looks.gpus.close()
    assert len([one for one in looks.of(Blind) if one.sense == "nvml"]) == 2


def test_a_driver_that_never_starts_is_told_and_tried_again_once_it_can_be(fake: FakeNvml, hasty: Looks) -> None:
    fake.system("init_hang", 1)
    blind = hasty.until(lambda signal: isinstance(signal, Blind))
    assert "nvmlInit does not return" in blind.why
    fake.system("init_hang", None)
    hasty.until(sees)


def test_a_child_that_somebody_stopped_is_no_gpus_fault(hasty: Looks, fake: FakeNvml) -> None:
    started(hasty, fake)
    fake.delay(ALL, 0.05)  # so that it stands in the middle of its calls
    os.kill(hasty.gpus.pids[0], signal.SIGSTOP)
    blind = hasty.until(lambda signal: isinstance(signal, Blind))
    assert "stands still" in blind.why
    hasty.until(lambda signal: isinstance(signal, Blind) and signal.why == "")
    assert not hasty.of(GpuFailed)


def test_an_event_queue_that_does_not_answer_is_blind_and_the_values_are_seen(hasty: Looks, fake: FakeNvml) -> None:
    started(hasty, fake)
    fake.system("wait_hang", 1)
    blind = hasty.until(lambda signal: isinstance(signal, Blind))
    assert blind.sense == EVENTS
    hasty.until(sees)
    fake.system("wait_hang", None)
    hasty.until(lambda signal: isinstance(signal, Blind) and signal.why == "")


def test_a_gpu_that_is_not_counted_any_more_is_lost(looks: Looks, fake: FakeNvml) -> None:
    started(looks, fake)
    fake.count(2)
    os.kill(looks.gpus.pids[0], signal.SIGKILL)  # as when the driver was loaded anew
    failed = looks.until(lambda signal: isinstance(signal, GpuFailed))
    assert (failed.device, failed.error) == (fake.uuid(2), "lost")


def test_a_slow_driver_is_waited_for(looks: Looks, fake: FakeNvml) -> None:
    fake.delay(ALL, 0.02)
    for _ in range(2):
        for index in range(3):
            looks.until(is_looked(index))
    assert not looks.of(GpuFailed)
    assert not looks.of(Blind)


def test_nothing_is_left_behind(fake: FakeNvml) -> None:
    before = set(os.listdir("/proc/self/fd"))
    looks = Looks(Gpus(node=0, env=fake.environment, config=QUICK))
    started(looks, fake)
    fake.hang(0)
    looks.until(lambda signal: isinstance(signal, GpuFailed))
    looks.until(lambda signal: isinstance(signal, GpuFailed))
    pids = looks.gpus.pids
    looks.gpus.close()
    assert set(os.listdir("/proc/self/fd")) == before
    assert not any(is_there(pid) for pid in pids)
    assert looks.gpus.look(time.time() + 1000) == [], "closed is closed"
    assert looks.gpus.pids == ()


@pytest.mark.soak
def test_eight_gpus_cost_less_than_half_a_percent_of_a_core(tmp_path: Path, library: Path) -> None:
    fake = FakeNvml(tmp_path, gpus=8, library=library)
    gpus = Gpus(node=0, env=fake.environment)
    looks = Looks(gpus)
    started(looks, fake)

    def used_s() -> float:
        children = [seen.cpu_s for pid in gpus.pids if (seen := processes.stat(pid)) is not None]
        return sum(children) + time.process_time()

    before, began = used_s(), time.monotonic()
    while time.monotonic() - began < 60.0:
        gpus.look(time.time())
        time.sleep(gpus.every_s)
    share = (used_s() - before) / (time.monotonic() - began)
    gpus.close()
    print(f"{100 * share:.2f} % of a core")
    assert share < 0.005, "0.28 % on a quiet machine; cold caches of a busy one cost as much again"
