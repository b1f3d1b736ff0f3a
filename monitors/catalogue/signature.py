"""What does a signature consist of? A text that a program is known to print, and what it means when a rank prints it.

A text is written as the program prints it; ` … ` stands for anything that differs, and case does not count. It is
searched part by part, each after the one before, so it can not be made to backtrack by any input.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from monitors.incidents import Blame

GAP = "…"


class Role(StrEnum):
    """What a text says about who began."""

    ROOT = "root"
    """the rank that prints it failed by itself"""
    SYMPTOM = "symptom"
    """something is wrong, and the rank that prints it need not be the one that is wrong"""
    CASCADE = "cascade"
    """another rank failed first; it never decides"""
    NONE = "none"
    """it looks like a fault and is none"""


class Next(StrEnum):
    """What helps."""

    NOTHING = "none"
    IGNORE = "ignore"
    """it follows from something else"""
    SAME = "restart_same"
    EXCLUDE = "restart_exclude_node"
    REQUEUE = "requeue"
    FALLBACK = "fallback_checkpoint"
    """an older checkpoint"""
    STORAGE = "wait_storage"
    CULPRIT = "check_hang_culprit"
    """the evidence of the other ranks names it"""
    READ = "read_rank_log"
    """the rank's own output says more"""
    CODE = "stop_fix_code"
    CONFIG = "stop_fix_config"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is known of a fault as soon as it is recognised."""

    fault: str
    """its class"""
    role: Role
    next: Next

    @property
    def retryable(self) -> bool | None:
        """Another attempt may get past it; None when there is nothing to get past."""
        if self.role is Role.NONE:
            return None
        return self.next not in (Next.CODE, Next.CONFIG, Next.READ)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One text and its verdict."""

    parts: tuple[str, ...]
    """in lower case"""
    verdict: Verdict
    wraps: bool = False
    """it only says that something failed; any other text of the same rank says it better"""

    def matches(self, lowered: str) -> bool:
        """Whether a line, in lower case, holds all parts in order."""
        at = 0
        for part in self.parts:
            found = lowered.find(part, at)
            if found < 0:
                return False
            at = found + len(part)
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What a class of faults means."""

    blame: Blame
    meaning: str


def root(fault: str, then: Next, *texts: str) -> tuple[Signature, ...]:
    """Texts of ranks that failed by themselves."""
    return _rows(Verdict(fault=fault, role=Role.ROOT, next=then), texts)


def symptom(fault: str, then: Next, *texts: str) -> tuple[Signature, ...]:
    """Texts of ranks that noticed something."""
    return _rows(Verdict(fault=fault, role=Role.SYMPTOM, next=then), texts)


def cascade(fault: str, then: Next, *texts: str) -> tuple[Signature, ...]:
    """Texts of ranks that another one pulled down."""
    return _rows(Verdict(fault=fault, role=Role.CASCADE, next=then), texts)


def wrapper(fault: str, role: Role, then: Next, *texts: str) -> tuple[Signature, ...]:
    """Texts that are printed around the real one."""
    return _rows(Verdict(fault=fault, role=role, next=then), texts, wraps=True)


def innocent(*texts: str) -> tuple[Signature, ...]:
    """Texts that look worse than they are."""
    return _rows(Verdict(fault="none", role=Role.NONE, next=Next.NOTHING), texts)


def _rows(verdict: Verdict, texts: tuple[str, ...], *, wraps: bool = False) -> tuple[Signature, ...]:
    return tuple(Signature(parts=_parts(text), verdict=verdict, wraps=wraps) for text in texts)


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part for part in (one.strip(" ") for one in text.lower().split(f" {GAP} ")) if part)
