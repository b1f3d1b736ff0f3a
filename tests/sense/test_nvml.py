"""What does the binding make of what the driver's library answers? The real binding, on a library of our own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from monitors.fakenvml.build import build, compiler
from monitors.fakenvml.control import ALL, LOST, MISMATCH, RESET_REQUIRED, UNKNOWN, FakeNvml
from tests.fakenvml.lab import WITHIN_S, child, first, is_there

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler")

OLD = (
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetGpuFabricInfoV",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetSupportedEventTypes",
)
"""functions that drivers of some years ago do not have"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("library"))


@pytest.fixture
def fake(tmp_path: Path, library: Path) -> FakeNvml:
    return FakeNvml(tmp_path / "nvml", gpus=2, library=library)


VALUES: tuple[tuple[str, float, str, Any], ...] = (
    ("recovery_action", 4, "recovery_action", 4),
    ("power_mw", 412_345, "power_w", 412.345),
    ("power_limit_mw", 500_000, "limit_w", 500.0),
    ("power_default_limit_mw", 650_000, "limit_default_w", 650.0),
    ("energy_mj", 12_000, "energy_j", 12.0),
    ("utilisation", 97, "utilisation", 0.97),
    ("clock_mhz", 1410, "sm_clock_mhz", 1410),
    ("clock_max_mhz", 1755, "sm_clock_max_mhz", 1755),
    ("temperature", 66, "temperature_c", 66),
    ("memory_temperature", 81, "memory_temperature_c", 81),
    ("memory_temperature", 0xFFFFFFFF, "memory_temperature_c", None),
    ("memory_mib", 1024, "memory_bytes", 1 << 30),
    ("memory_used_mib", 512, "memory_used_bytes", 1 << 29),
    ("reasons", 0x84, "throttles", 0x84),
    ("ecc_corrected", 7, "ecc_corrected", 7),
    ("ecc_uncorrected", 2, "ecc_uncorrected", 2),
    ("remap_pending", 1, "remap_pending", True),
    ("remap_failed", 1, "remap_failed", True),
    ("remap_uncorrected", 3, "rows_remapped_uncorrected", 3),
    ("pages_retired_dbe", 5, "pages_retired", 5),
    ("nvlink7", 0, "nvlinks_up", 17),
    ("nvlinks", 12, "nvlinks", 12),
    ("nvlink_crc", 2, "nvlink_errors", 36),
    ("pcie_width", 8, "pcie_width", 8),
    ("pcie_width_max", 32, "pcie_width_max", 32),
    ("pcie_generation", 1, "pcie_generation", 1),
    ("pcie_generation_max", 6, "pcie_generation_max", 6),
    ("pcie_replays", 19, "pcie_replays", 19),
    ("fabric_state", 2, "fabric", "in_progress"),
    ("fabric_summary", 2, "fabric", "completed:unhealthy"),
    ("fabric_mask", 0x51A9, "fabric", "completed:degraded_bandwidth"),
    ("fabric_status", 6, "fabric", "completed:error_6"),
)


@pytest.mark.parametrize(("key", "value", "name", "expected"), VALUES)
def test_each_value_arrives_under_its_name_in_its_unit(
    fake: FakeNvml, key: str, value: float, name: str, expected: Any
) -> None:
    fake.set(1, key, value)
    assert first(fake, 1)[name] == pytest.approx(expected)


def test_time_counters_of_throttling_are_seconds_by_reason(fake: FakeNvml) -> None:
    reasons = ("power_cap", "thermal", "sync_boost", "sw_thermal", "hw_thermal", "power_brake")
    for number, reason in enumerate(reasons, start=1):
        fake.set(0, f"throttle_{reason}_ns", number * 1e9)
    assert first(fake)["throttled_s"] == [[reason, number] for number, reason in enumerate(reasons, start=1)]


def test_a_gpu_is_known_by_uuid_and_serial_and_its_address_is_the_kernels(fake: FakeNvml) -> None:
    looked = first(fake, 1)
    assert (looked["is"], looked["device"], looked["pci"]) == ("GpuLooked", fake.uuid(1), fake.pci(1))
    assert looked["serial"] == "1650023000001"
    fake.set(1, "pci", "00010002:AB:00.0")
    assert first(fake, 1)["pci"] == "10002:ab:00.0", "some hosts have more domains than four digits hold"


def test_what_is_not_supported_is_none_and_no_fault(fake: FakeNvml) -> None:
    for key, _, _, _ in VALUES:
        fake.set(ALL, key, None)
    fake.set(ALL, "serial", None)
    looked = first(fake)
    assert looked["is"] == "GpuLooked"
    always = {"is", "at", "node", "device", "index", "name", "pci", "throttled_s", "power_mean_w", "nvlinks_up"}
    assert {name for name, value in looked.items() if value is not None} <= always
    assert looked["nvlinks_up"] is None


def test_an_old_driver_without_newer_functions_is_asked_the_old_way(tmp_path: Path) -> None:
    fake = FakeNvml(tmp_path, gpus=1, library=build(tmp_path / "old", without=OLD))
    fake.set(0, "temperature", 55)
    fake.set(0, "reasons", 8)
    looked = first(fake)
    assert (looked["power_w"], looked["limit_w"], looked["limit_default_w"]) == (75.0, 700.0, 700.0)
    assert (looked["temperature_c"], looked["throttles"], looked["ecc_uncorrected"]) == (55, 8, 0)
    assert looked["memory_used_bytes"] == 504 << 20, "the first version counts reserved memory as used"
    assert (looked["recovery_action"], looked["fabric"]) == (None, None)
    with child(fake, "events") as heard:
        heard.line(lambda line: "gpus" in line)
        fake.xid(0, 48)
        assert heard.signal()["data"] == 48


@pytest.mark.parametrize(
    ("keys", "errors"),
    [
        ({"nvlink_replays": None, "nvlink_recoveries": None, "nvlink_crc": None, "nvlink_replay_total": 5}, 5),
        ({"nvlink_replays": None, "nvlink_recoveries": None, "nvlink_crc": None, "nvlink_effective_errors": 1}, 18),
    ],
    ids=["Ampere", "Blackwell"],
)
def test_each_generation_counts_the_errors_of_its_links_elsewhere(
    fake: FakeNvml, keys: dict[str, float | None], errors: int
) -> None:
    for key, value in keys.items():
        fake.set(0, key, value)
    assert first(fake)["nvlink_errors"] == errors


def test_the_state_of_links_is_asked_link_by_link_where_the_field_is_not_known(fake: FakeNvml) -> None:
    fake.set(0, "field165", None)
    fake.set(0, "nvlinks", 4)
    fake.set(0, "nvlink2", 0)
    assert first(fake)["nvlinks_up"] == 3
    fake.fail(0, 13, "nvmlDeviceGetNvLinkState")
    assert first(fake)["nvlinks_up"] is None


def test_a_link_that_goes_down_is_seen(fake: FakeNvml) -> None:
    with child(fake, "polls", "--only", "0") as asked:
        assert asked.signal()["nvlinks_up"] == 18
        fake.set(0, "nvlink9", 0)
        assert asked.line(lambda line: line.get("nvlinks_up") == 17)["nvlinks"] == 18


@pytest.mark.parametrize(
    ("code", "call", "error"),
    [
        (LOST, "", "lost"),
        (RESET_REQUIRED, "", "reset_required"),
        (LOST, "power_mw", "lost"),
        (RESET_REQUIRED, "nvmlDeviceGetUtilizationRates", "reset_required"),
        (UNKNOWN, "", "unknown"),
        (UNKNOWN, "nvmlDeviceGetFieldValues", "unknown"),
        (10, "nvmlDeviceGetClockInfo", "timeout"),
        (12345, "", "error_12345"),
    ],
)
def test_what_was_fine_and_is_not_is_a_failure_with_a_name(fake: FakeNvml, code: int, call: str, error: str) -> None:
    with child(fake, "polls") as asked:
        asked.line(lambda line: line.get("index") == 1)
        fake.fail(1, code, call)
        failed = asked.line(lambda line: line.get("is") == "GpuFailed")
        assert (failed["device"], failed["pci"], failed["error"]) == (fake.uuid(1), fake.pci(1), error)
        asked.line(lambda line: line.get("is") == "GpuLooked" and line["index"] == 0)
        fake.heal(1)
        asked.line(lambda line: line.get("is") == "GpuLooked" and line["index"] == 1)


def test_what_never_worked_is_not_supported_whatever_it_says(fake: FakeNvml) -> None:
    fake.fail(0, UNKNOWN, "nvmlDeviceGetUtilizationRates")
    looked = first(fake)
    assert (looked["is"], looked["utilisation"]) == ("GpuLooked", None)


def test_a_gpu_that_is_lost_from_the_start_is_told_by_its_index_and_the_others_are_seen(fake: FakeNvml) -> None:
    fake.lose(0)
    with child(fake, "polls") as asked:
        failed = asked.signal()
        assert (failed["is"], failed["index"], failed["device"], failed["error"]) == ("GpuFailed", 0, None, "lost")
        assert asked.line(lambda line: line.get("is") == "GpuLooked")["index"] == 1


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (9, "modprobe nvidia"),
        (4, "/dev/nvidia"),
        (MISMATCH, "driver was updated"),
        (UNKNOWN, "NVML says unknown"),
    ],
)
def test_a_library_that_does_not_start_says_what_helps(fake: FakeNvml, code: int, words: str) -> None:
    fake.system("init_error", code)
    with child(fake, "polls") as asked:
        assert words in asked.blind()
        assert asked.process.wait(WITHIN_S) == 0


def test_no_library_and_no_gpus_are_told_apart(fake: FakeNvml) -> None:
    fake.count(0)
    with child(fake, "polls") as asked:
        assert "sees no GPU" in asked.blind()
    fake.vanish()
    with child(fake, "polls") as asked:
        assert "libnvidia-ml.so.1 is not found" in asked.blind()


def test_a_driver_that_was_updated_under_us_blinds_and_blames_no_gpu(fake: FakeNvml) -> None:
    with child(fake, "polls") as asked:
        asked.signal()
        fake.fail(ALL, MISMATCH)
        assert asked.line(lambda line: "blind" in line or line.get("is") == "GpuFailed").get("blind")


def test_mean_power_comes_from_the_difference_of_two_energies(fake: FakeNvml) -> None:
    fake.set(0, "energy_mj", 5_000_000)
    with child(fake, "polls", "--only", "0") as asked:
        before = asked.signal()
        fake.set(0, "energy_mj", 5_100_000)
        after = asked.line(lambda line: line.get("energy_j") == 5100.0)
        assert after["power_mean_w"] > 75.0
        fake.set(0, "energy_mj", 1000)
        assert asked.line(lambda line: line.get("energy_j") == 1.0)["power_mean_w"] == before["power_w"] == 75.0


EVENTS = ("ecc_corrected", "ecc_uncorrected", "page_retired", "page_retirement_failed", "poison", "unavailable")


def test_each_event_is_told_once_and_none_from_before(fake: FakeNvml) -> None:
    fake.xid(0, 13)
    with child(fake, "events") as heard:
        heard.line(lambda line: "gpus" in line)
        for name in EVENTS:
            fake.event(1, name)
        fake.xid(1, 79)
        fake.xid(1, 79)
        fake.recover_by(0, 2)
        told = [heard.signal() for _ in range(len(EVENTS) + 3)]
        assert [(line["event"], line["data"]) for line in told[:-3]] == [(name, 0) for name in EVENTS]
        assert [(line["event"], line["data"]) for line in told[-3:]] == [
            ("xid", 79),
            ("xid", 79),
            ("recovery_action", 2),
        ]
        assert {line["device"] for line in told[:-1]} == {fake.uuid(1)}
        assert told[-1]["pci"] == fake.pci(0)
        assert heard.line(lambda line: "alive" in line or "is" in line) == {"alive": True}


def test_a_gpu_that_fails_the_queue_does_not_silence_the_others(fake: FakeNvml) -> None:
    with child(fake, "events") as heard:
        heard.line(lambda line: "gpus" in line)
        fake.lose(0)
        fake.system("wait_error", LOST)
        heard.line(lambda line: "gpus" in line and [gpu[0] for gpu in line["gpus"]] == [1])
        fake.system("wait_error", None)
        heard.line(lambda line: "alive" in line)
        fake.xid(1, 74)
        assert heard.signal()["data"] == 74


def test_a_driver_without_events_says_so(fake: FakeNvml) -> None:
    fake.set(ALL, "event_types", 0)
    with child(fake, "events") as heard:
        assert "tells no events" in heard.blind()


def test_the_child_ends_with_its_parent_even_while_a_call_hangs(fake: FakeNvml) -> None:
    script = (
        "import subprocess, sys, os\n"
        "c = [sys.executable, '-P', '-m', 'monitors.sense.nvml_child', 'polls', '--node', '0', '--parent']\n"
        "p = subprocess.Popen([*c, str(os.getpid())], stdout=subprocess.PIPE, start_new_session=True)\n"
        "print(p.pid, flush=True)\n"
        "for line in p.stdout: print(line.decode(), end='', flush=True)\n"
    )
    fake.hang(1)
    environment = {**os.environ, **fake.environment}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        while parent.stdout.readline() != '{"ask":1}\n':
            pass
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + WITHIN_S
    while is_there(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_list_of_models_says_why_it_is_empty(fake: FakeNvml) -> None:
    script = "from monitors.sense.nvml import inventory; print(inventory())"

    def listed() -> str:
        environment = {**os.environ, **fake.environment}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert listed() == "(('NVIDIA H100 80GB HBM3', 'NVIDIA H100 80GB HBM3'), '')\n"
    fake.system("init_error", 9)
    assert "modprobe" in listed()
