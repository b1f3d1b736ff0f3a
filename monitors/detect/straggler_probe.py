"""Does a short measurement confirm that a device is slow? Beside its peers, and beside itself before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from statistics import median

from monitors.hardware import ProbeDone

SLOW = 0.85
"""of the usual: devices of one model differ by 5 %, a probe beside a training rank by 10 %"""
SLOW_CORE = 0.45
"""a core whose twin is busy with a rank gives half of what an idle one does: what lies between says nothing"""


class Word(StrEnum):
    """What a probe says of a suspect."""

    SLOW = "slow"
    FAILED = "failed"
    """no result: that is worse than slow"""
    SOUND = "sound"
    """as fast as its peers: whatever makes the rank slow is not this device"""
    UNKNOWN = "unknown"
    """nothing to compare with"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A word, and the sentence for it."""

    word: Word
    sentence: str


def confirmed(
    suspect: ProbeDone, peers: Sequence[ProbeDone], before: ProbeDone | None = None, *, name: str = ""
) -> Verdict:
    """Judge a suspect by peers of its kind that ran the same probe, and by its own result when it was well.

    `name` is what the sentence calls it. A probe that could not be run says nothing of a device, and one that fails on
    the peers too is the probe's own fault.
    """
    place = name or (f"GPU {suspect.device}" if suspect.device is not None else f"the host of node {suspect.node}")
    alike = [peer for peer in peers if not peer.unable and (peer.device is None) == (suspect.device is None)]
    measured = [peer for peer in alike if not _failure(peer)]
    failure = _failure(suspect)
    if suspect.unable:
        return Verdict(word=Word.UNKNOWN, sentence=f"{place} could not be probed: {suspect.why}")
    if failure and alike and not measured:
        return Verdict(word=Word.UNKNOWN, sentence=f"the probe fails on {place} and on its peers alike: {failure}")
    if failure:
        return Verdict(word=Word.FAILED, sentence=f"the probe of {place} failed: {failure}")
    kept = [] if before is None or _failure(before) else [before]
    if not measured and not kept:
        return Verdict(
            word=Word.UNKNOWN,
            sentence=f"{place} was probed ({_figures(suspect)}), and nothing is there to compare it with",
        )
    whose = "its peer does" if len(measured) == 1 else f"its {len(measured)} peers do"
    below = [*_shares(suspect, measured, whose), *_shares(suspect, kept, "it did before")]
    share, sentence = min(below)
    if share >= SLOW:
        usual = whose if measured else "it did before"
        return Verdict(word=Word.SOUND, sentence=f"{place} multiplies and copies as fast as {usual}")
    said = f"the probe of {place}: {sentence}"
    if suspect.device is None and share >= SLOW_CORE:
        return Verdict(word=Word.UNKNOWN, sentence=f"{said}, and a busy neighbour may be why")
    return Verdict(word=Word.SLOW, sentence=said)


def _failure(done: ProbeDone) -> str:
    """Why it is no result: one of nothing is none either."""
    if done.why or (0.0 < done.tflops < inf and 0.0 < done.bandwidth_bytes_s < inf):
        return done.why
    return f"it measured {done.tflops} Tflop/s and {done.bandwidth_bytes_s} bytes/s"


def _shares(suspect: ProbeDone, others: Sequence[ProbeDone], whose: str) -> list[tuple[float, str]]:
    """Of the usual, each with its sentence."""
    if not others:
        return []
    measures = (
        ("multiplies", suspect.tflops, median(other.tflops for other in others)),
        ("copies", suspect.bandwidth_bytes_s, median(other.bandwidth_bytes_s for other in others)),
    )
    return [(own / usual, f"it {what} at {100 * own / usual:.0f} % of what {whose}") for what, own, usual in measures]


def _figures(done: ProbeDone) -> str:
    return f"{done.tflops:.2g} Tflop/s, {done.bandwidth_bytes_s / 1e9:.3g} GB/s"
