"""What does a measured device tell beside its peers: slow, failed, sound, or nothing?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitors.detect.straggler_probe import Word, confirmed
from monitors.hardware import ProbeDone


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


def test_a_probe_that_could_not_be_run_says_nothing() -> None:
    suspect = replace(done(0, 0, why="torch cannot be imported"), unable=True)
    assert confirmed(suspect, [done(600)]).word is Word.UNKNOWN
    assert confirmed(done(600), [suspect]).word is Word.UNKNOWN, "nor of a peer"


def test_a_probe_that_fails_on_all_of_them_is_its_own_fault() -> None:
    assert confirmed(done(0, 0, why="no kernel"), [done(0, 0, why="no kernel")]).word is Word.UNKNOWN
    assert confirmed(done(0, 0, why="no kernel"), [done(600), done(0, 0, why="no kernel")]).word is Word.FAILED


def test_nothing_is_not_a_healthy_result() -> None:
    assert confirmed(ProbeDone(at=0.0, node=0, device="GPU-1"), [done(600)]).word is Word.FAILED


@pytest.mark.parametrize(("tflops", "word"), [(0.1, Word.SOUND), (0.06, Word.UNKNOWN), (0.03, Word.SLOW)])
def test_half_of_a_core_may_be_a_busy_neighbour(tflops: float, word: Word) -> None:
    peers = [done(0.1, 1e10, device=None)] * 2
    assert confirmed(done(tflops, 1e10, device=None), peers).word is word
