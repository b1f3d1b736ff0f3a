"""What went wrong, going by the words of one rank: which class of fault, who began, and what helps?

A text is a traceback, some lines of stderr, or the summary of a launcher. Each line is held against the table of
signatures; then what began outranks what followed, what is known outranks what is only an exception, and what came
first outranks what came later. Time is linear in the text, of which only the beginning and the end are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from monitors.catalogue import summaries
from monitors.catalogue.faults import FAULTS
from monitors.catalogue.signature import Fault, Next, Role, Signature, Verdict
from monitors.catalogue.signatures_gpu import GPU, NUMBERS
from monitors.catalogue.signatures_host import CODE, HOST
from monitors.catalogue.signatures_network import INFO, NETWORK
from monitors.catalogue.signatures_services import SERVICES
from monitors.catalogue.signatures_storage import STORAGE
from monitors.catalogue.tracebacks import LINE_CHARS, Line, lines_of, unprefixed
from monitors.catalogue.wrapping import visible

HEAD_CHARS, TAIL_CHARS = 32 << 10, 224 << 10
"""read of a text: causes stand where it begins or where it ends"""
LINES_SEEN = 2000
"""from the beginning, and as many from the end; a text of lines with words in them has fewer"""
LINES_MAX = 200
"""different lines held against the table, half of them from the end: floods repeat themselves"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a text says."""

    verdict: Verdict
    text: str
    """the line that decided"""
    is_known: bool = True
    """a signature matched; False: it is an exception like any other"""

    @property
    def fault(self) -> str:
        """Its class."""
        return self.verdict.fault

    @property
    def role(self) -> Role:
        """Who began."""
        return self.verdict.role

    @property
    def retryable(self) -> bool | None:
        """Another attempt may get past it."""
        return self.verdict.retryable

    @property
    def next(self) -> Next:
        """What helps."""
        return self.verdict.next

    @property
    def about(self) -> Fault:
        """Whose fault it is and what it means."""
        return FAULTS[self.fault]


def _ordered(*tables: Sequence[Signature]) -> tuple[tuple[str, Signature], ...]:
    rows = [row for table in tables for row in table]
    rows.sort(key=lambda row: row.verdict.role is not Role.NONE)  # stable: the innocent first, then as written
    return tuple((row.parts[0], row) for row in rows)


TABLE = _ordered(NUMBERS, GPU, STORAGE, SERVICES, NETWORK, HOST, CODE)
"""First part and row; the first row that matches a line decides it, so a narrow text stands before a wide one."""

EXCEPTION = Verdict(fault="python_exception", role=Role.ROOT, next=Next.CODE)
DRILL = Verdict(fault="python_exception", role=Role.ROOT, next=Next.SAME)
"""an exception that was ordered does not come back by itself"""

_IB = re.compile(r"completion .{0,200}?with (?:error |status=)(?:\w{1,40}\()?(\d{1,3})")
_IB_VERDICTS: dict[int, Verdict] = {
    5: Verdict(fault="ib_flush", role=Role.CASCADE, next=Next.CULPRIT),
    12: Verdict(fault="ib_retry_exceeded", role=Role.ROOT, next=Next.EXCLUDE),
    13: Verdict(fault="ib_retry_exceeded", role=Role.ROOT, next=Next.EXCLUDE),
    11: Verdict(fault="nccl_remote_gone", role=Role.CASCADE, next=Next.CULPRIT),
}
_IB_OTHER = Verdict(fault="ib_local_protection", role=Role.ROOT, next=Next.EXCLUDE)
"""by the completion status of InfiniBand's verbs; the others are faults of the set-up or of the card at this end"""


@dataclass(frozen=True, slots=True)
class _Found:
    at: int
    verdict: Verdict
    text: str
    wraps: bool = False
    is_known: bool = True

    @property
    def key(self) -> tuple[int, bool, bool, int]:
        return _DEPTH[self.verdict.role], not self.is_known, self.wraps, self.at


_DEPTH = {Role.ROOT: 0, Role.SYMPTOM: 1, Role.CASCADE: 2, Role.NONE: 3}


def judge(text: str) -> Judgement | None:
    """What the text says; None when it says nothing that is known to mean anything."""
    lines = [said for line in _cut(text) for said in unprefixed(line)]
    summary = summaries.find(lines)
    found: list[_Found] = []
    if summary is not None:
        found += _summarised(summary)
        lines = [*lines[: summary.first], *lines[summary.last + 1 :]]
    found += _read(lines)
    if (divergence := _desync(lines)) is not None:
        found.append(divergence)
    if not found:
        return None
    best = min(found, key=lambda one: one.key)
    if best.wraps and best.verdict.next is Next.CULPRIT:  # "NCCL error": what NCCL says was the last error is better
        best = min((one for one in found if one.verdict.next is Next.CULPRIT), key=lambda one: (one.wraps, one.key))
    return Judgement(verdict=best.verdict, text=best.text, is_known=best.is_known)


def judge_line(text: str) -> Judgement | None:
    """What one line says by itself: no exception is known by its name alone, and no frames are seen."""
    text = visible(text[:LINE_CHARS])
    found = _known(text, text.lower())
    if found is None or found.verdict.role is Role.NONE:
        return None
    return Judgement(verdict=found.verdict, text=text)


def _cut(text: str) -> list[str]:
    if len(text) > HEAD_CHARS + TAIL_CHARS:
        text = f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"
    lines = visible(text).split("\n")
    return lines if len(lines) <= 2 * LINES_SEEN else [*lines[:LINES_SEEN], *lines[-LINES_SEEN:]]


def _read(lines: list[str]) -> Iterator[_Found]:
    """What each line says; an exception that is known by nothing but its name counts when its chain knows no more."""
    said = _distinct(lines_of(lines))
    known = [(at, line, _matched(at, line)) for at, line in said]
    explained = {line.chain for _, line, one in known if one is not None and one.verdict.role is not Role.NONE}
    for at, line, one in known:
        if one is not None:
            yield one
        elif line.exception and line.chain not in explained:
            yield _Found(at, DRILL if line.exception.endswith("Drill") else EXCEPTION, line.text, is_known=False)


def _distinct(lines: Iterable[Line]) -> list[tuple[int, Line]]:
    """Lines that differ by more than their numbers; of too many, the first and the last."""
    seen: dict[str, tuple[int, Line]] = {}
    for at, line in enumerate(lines):
        seen.setdefault(line.text.translate(_NO_DIGITS), (at, line))
    kept = list(seen.values())
    return kept if len(kept) <= LINES_MAX else [*kept[: LINES_MAX // 2], *kept[-LINES_MAX // 2 :]]


_NO_DIGITS = str.maketrans("", "", "0123456789")


def _matched(at: int, line: Line) -> _Found | None:
    found = _known(line.text, line.text.lower())
    if found is None and line.exception:
        found = _framed(line)
    return None if found is None else _Found(at, found.verdict, line.text, found.wraps)


def _known(text: str, lowered: str) -> Signature | None:
    if "nccl info" in lowered and not any(word in lowered for word in INFO):
        return _INNOCENT
    if "completion" in lowered and (match := _IB.search(lowered)) is not None:
        return Signature(parts=(), verdict=_IB_VERDICTS.get(int(match[1]), _IB_OTHER))
    for first, row in TABLE:
        if first in lowered and row.matches(lowered):
            return row
    verdict = summaries.of_exit(text)
    return None if verdict is None else Signature(parts=(), verdict=verdict)


_INNOCENT = Signature(parts=(), verdict=Verdict(fault="none", role=Role.NONE, next=Next.NOTHING))
_CORRUPT = Verdict(fault="checkpoint_corrupt", role=Role.ROOT, next=Next.FALLBACK)
_INCOMPLETE = Verdict(fault="checkpoint_incomplete", role=Role.ROOT, next=Next.FALLBACK)
_LOADER = Verdict(fault="dataloader_worker_killed", role=Role.SYMPTOM, next=Next.SAME)
_READERS = ("torch/serialization.py", "distributed/checkpoint/", "safetensors", "checkpoint", "pickle")
_NUMERIC = re.compile(r"\b(?:nan|nans|non-?finite)\b|\b(inf|infs|infinite|infinity)\b", re.IGNORECASE)
_NAN = Verdict(fault="numeric_nan", role=Role.ROOT, next=Next.FALLBACK)
_INF = Verdict(fault="numeric_inf", role=Role.ROOT, next=Next.FALLBACK)
_PIPES = ("multiprocessing/", "queue", "utils/data/dataloader.py")


def _framed(line: Line) -> Signature | None:
    """Exceptions that say too little by themselves, by the code that raised them.

    A file that was cut makes torch seek before its start, which the kernel refuses (EINVAL, without a path), or end
    before it began (EOFError). Both come from pipes too, whose frames tell.
    """
    name = line.exception.rpartition(".")[2]
    reads = not line.frames or any(part in line.frames for part in _READERS)
    verdict = None
    if name == "EOFError":
        verdict = _LOADER if any(part in line.frames for part in _PIPES) else _CORRUPT if reads else None
    elif name == "OSError" and line.text.endswith("[Errno 22] Invalid argument") and reads:
        verdict = _CORRUPT
    elif name == "AssertionError" and "distributed/checkpoint/" in line.frames:
        verdict = _INCOMPLETE
    elif (match := _NUMERIC.search(line.text)) is not None:
        verdict = _INF if match[1] else _NAN
    return None if verdict is None else Signature(parts=(), verdict=verdict)


def _summarised(summary: summaries.Summary) -> Iterator[_Found]:
    """The rank that a launcher names is the culprit only if it died of something that is a root."""
    inner = judge("\n".join(summary.says)) if summary.says else None
    if inner is None or inner.role is Role.NONE:
        yield _Found(summary.first, summary.verdict, "Root Cause (first observed failure)", wraps=True)
    elif inner.role is Role.ROOT:
        yield _Found(summary.first, inner.verdict, inner.text, is_known=inner.is_known)
    else:
        yield _Found(summary.first, summaries.VICTIM, inner.text)


_WORK = re.compile(r"(?:\[PG ([^\]]{1,120}?) Rank \d{1,7}\]|\[Rank (\d{1,7})\]).{0,120}SeqNum=(\d{1,12}), OpType=(\w+)")
_APART = 1000
"""sequence numbers: a process runs ahead of its collectives by a few hundred at the very most"""
_DESYNC = Verdict(fault="nccl_desync", role=Role.ROOT, next=Next.CODE)


def _desync(lines: Iterable[str]) -> _Found | None:
    """Ranks that wait in one group at numbers far from each other run different code."""
    numbers: dict[str, tuple[int, int]] = {}
    for line in lines:
        match = _WORK.search(line[:LINE_CHARS]) if "SeqNum=" in line[:LINE_CHARS] else None
        if match is not None:
            low, high = numbers.get(match[1] or "", (int(match[3]), int(match[3])))
            low, high = min(low, int(match[3])), max(high, int(match[3]))
            numbers[match[1] or ""] = low, high
            if high - low > _APART:
                return _Found(0, _DESYNC, line[:LINE_CHARS])
    return None
