"""Does a short measurement confirm that a device is slow? Beside its peers, and beside itself before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from monitors.hardware import ProbeDone

SLOW = 0.85
"""of the usual: devices of one model differ by 5 %, a probe beside a training rank by 10 %"""


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


def confirmed(suspect: ProbeDone, peers: Sequence[ProbeDone], before: ProbeDone | None = None) -> Verdict:
    """Judge a suspect by peers of its kind that ran the same probe, and by its own result when it was well."""
    place = f"GPU {suspect.device}" if suspect.device is not None else f"the host of node {suspect.node}"
    if suspect.why:
        return Verdict(word=Word.FAILED, sentence=f"the probe of {place} failed: {suspect.why}")
    measured = [peer for peer in peers if not peer.why and (peer.device is None) == (suspect.device is None)]
    kept = [] if before is None or before.why else [before]
    if not measured and not kept:
        return Verdict(word=Word.UNKNOWN, sentence=f"{place} was probed, and nothing is there to compare it with")
    said = [*_below(suspect, measured, f"its {len(measured)} peers do"), *_below(suspect, kept, "it did before")]
    if said:
        return Verdict(word=Word.SLOW, sentence=f"the probe of {place}: {said[0]}")
    return Verdict(word=Word.SOUND, sentence=f"{place} multiplies and copies as fast as it should")


def _below(suspect: ProbeDone, others: Sequence[ProbeDone], whose: str) -> list[str]:
    if not others:
        return []
    said = []
    for what, own, usual in (
        ("multiplies", suspect.tflops, median(other.tflops for other in others)),
        ("copies", suspect.bandwidth_bytes_s, median(other.bandwidth_bytes_s for other in others)),
    ):
        if own < SLOW * usual:
            said.append(f"it {what} at {100 * own / usual:.0f} % of what {whose}")
    return said
