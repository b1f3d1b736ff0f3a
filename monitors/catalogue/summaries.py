"""What do a launcher's last words say: exit codes, signals, and torchelastic's summary?

The summary's "Root Cause (first observed failure)" is the rank whose process ended first. In a hang that is the rank
that gave up waiting, so the name is believed only with what that rank died of.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from monitors.catalogue.signature import Next, Role, Verdict

_EXIT = re.compile(r"exit(?:ed with)? ?(?:code|status)\s{0,4}[:=]?\s{0,4}(-?\d{1,4})", re.IGNORECASE)
_ROOT_CAUSE = "Root Cause (first observed failure)"
_ENABLE = "To enable traceback see"
_FIELD = re.compile(r"\s{0,12}(?:time|host|rank|exitcode|error_file|traceback)\s{1,8}:")
_TRACEBACK = re.compile(r"\s{0,12}traceback\s{1,8}:\s?")


def _verdict(fault: str, role: Role, then: Next) -> Verdict:
    return Verdict(fault=fault, role=role, next=then)


FAILED = _verdict("python_exception", Role.SYMPTOM, Next.READ)
VICTIM = _verdict("hang_victim_blamed", Role.SYMPTOM, Next.CULPRIT)
SIGNALS: dict[int, Verdict] = {
    2: _verdict("terminated_by_scheduler", Role.SYMPTOM, Next.REQUEUE),
    4: _verdict("segfault", Role.ROOT, Next.SAME),
    7: _verdict("shm_exhausted", Role.ROOT, Next.CONFIG),
    9: _verdict("killed_sigkill", Role.ROOT, Next.SAME),
    11: _verdict("segfault", Role.ROOT, Next.SAME),
    15: _verdict("terminated_by_scheduler", Role.SYMPTOM, Next.REQUEUE),
}
"""Linux' number; SIGABRT is not among them: NCCL's watchdog ends victims by it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """torchelastic's summary of a failed world."""

    first: int
    """index of its first line"""
    last: int
    """index of its last line"""
    verdict: Verdict
    says: tuple[str, ...]
    """the traceback of the rank that it names, when there is one"""


def of_exit(line: str) -> Verdict | None:
    """What the exit code in a line says; None when there is none, or it is 0."""
    match = _EXIT.search(line)
    if match is None:
        return None
    code = int(match[1])
    if code < 0:
        return SIGNALS.get(-code, FAILED)
    return (SIGNALS.get(code - 128, FAILED) if code > 128 else FAILED) if code else None


def find(lines: Sequence[str]) -> Summary | None:
    """The last summary among the lines."""
    at = next((n for n in range(len(lines) - 1, -1, -1) if _ROOT_CAUSE in lines[n]), None)
    if at is None:
        return None
    first = next((n for n in range(at, max(-1, at - 400), -1) if lines[n].strip() == "Failures:"), at)
    after = list(lines[at + 1 : at + 200])
    end = next((n for n, line in enumerate(after) if line.startswith("=====")), len(after))
    block = after[:end]
    says = _traceback(block)
    return Summary(first=first, last=at + end, verdict=_named(lines[first:at], block, says), says=says)


def _traceback(block: Sequence[str]) -> tuple[str, ...]:
    at = next((n for n, line in enumerate(block) if _TRACEBACK.match(line)), None)
    if at is None:
        return ()
    text = [_TRACEBACK.sub("", block[at]), *(line.removeprefix("  ") for line in block[at + 1 :])]
    if _ENABLE in text[0] or text[0].startswith("Signal "):
        return ()
    return tuple(text)


def _named(others: Sequence[str], block: Sequence[str], says: Sequence[str]) -> Verdict:
    verdict = next((found for line in block if (found := of_exit(line)) is not None), FAILED)
    if verdict is not FAILED or says:
        return verdict
    # Nothing of its own to tell, and everybody else was only ended: it gave up waiting, or it hides its reason.
    ended = any("SIGTERM" in line for line in others)
    has_reason = any(_ENABLE in line for line in block)
    return VICTIM if ended and not has_reason else FAILED
