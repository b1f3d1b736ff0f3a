"""What does a probe tell of a device that works, one that is not there, and one that never answers?"""

from __future__ import annotations

import asyncio

import pytest

from jobs.agent import probe
from jobs.agent.child import Exit
from monitors.clock import SystemClock
from monitors.detect.straggler_probe import Word, confirmed
from monitors.hardware import ProbeDone


def test_a_core_of_this_machine_is_measured() -> None:
    done = asyncio.run(probe.probe(SystemClock(), node=3, device=None))
    assert done.why == ""
    assert (done.node, done.device) == (3, None)
    assert done.tflops > 0.001
    assert done.bandwidth_bytes_s > 1e8


def test_a_gpu_that_is_not_there_is_a_failure_with_its_reason() -> None:
    done = asyncio.run(probe.probe(SystemClock(), node=0, device="GPU-00000000-0000-0000-0000-000000000000"))
    assert done.why
    assert (done.tflops, done.bandwidth_bytes_s) == (0.0, 0.0)
    assert confirmed(done, []).word is Word.FAILED


def test_a_device_that_never_answers_is_not_waited_for() -> None:
    clock = SystemClock()
    began = clock.now()
    done = asyncio.run(probe.probe(clock, node=0, device=None, deadline_s=0.05))
    assert done.why == "no answer in 0 s"
    assert clock.now() - began < 5


@pytest.mark.parametrize("said", [b"", b"{}", b"[]", b"nonsense", b'{"tflops": null, "bandwidth_bytes_s": 1}'])
def test_no_result_is_a_failure(said: bytes) -> None:
    how = Exit(code=1, signal=None)
    assert probe._read(said, b"", how) == (0.0, 0.0, "it said nothing, and ended as Exit(code=1, signal=None)")


@pytest.mark.parametrize("tflops", ["0.0", "-1", "NaN", "Infinity"])
def test_a_result_of_nothing_is_a_failure(tflops: str) -> None:
    said = f'{{"tflops": {tflops}, "bandwidth_bytes_s": 1e9}}'.encode()
    assert "which no device does" in probe._read(said, b"", None)[2]


def done(tflops: float, bandwidth: float = 2e12, *, why: str = "", device: str | None = "GPU-1") -> ProbeDone:
    return ProbeDone(at=0.0, node=0, device=device, tflops=tflops, bandwidth_bytes_s=bandwidth, why=why)


@pytest.mark.parametrize(
    ("suspect", "word"),
    [
        (done(600), Word.SOUND),
        (done(560), Word.SOUND),
        (done(400), Word.SLOW),
        (done(600, 1e12), Word.SLOW),
        (done(0, 0, why="no answer in 30 s"), Word.FAILED),
    ],
)
def test_a_suspect_is_held_against_its_peers(suspect: ProbeDone, word: Word) -> None:
    peers = [done(tflops) for tflops in (590, 600, 610)]
    assert confirmed(suspect, [*peers, done(0, 0, why="busy")]).word is word


def test_a_suspect_is_held_against_itself_before() -> None:
    assert confirmed(done(400), [], done(600)).word is Word.SLOW
    assert "67 % of what it did before" in confirmed(done(400), [], done(600)).sentence
    assert confirmed(done(600), [], done(600)).word is Word.SOUND


def test_without_anything_to_compare_nothing_is_confirmed() -> None:
    assert confirmed(done(400), []).word is Word.UNKNOWN
    assert confirmed(done(400), [done(0.1, device=None)]).word is Word.UNKNOWN, "a core is no peer of a GPU"
