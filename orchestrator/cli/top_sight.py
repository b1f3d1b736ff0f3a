"""What does `lastgood top` know of a run? What the journal says, and of its ranks what the supervisor does, if any."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import client, contract
from orchestrator.home import Home, HomeError
from orchestrator.journal import Journal
from orchestrator.ledger import Account, Ledger
from orchestrator.phases import Phases, of
from orchestrator.spans import Span
from orchestrator.timeline import Attempt, Case

LOSSES = 400
"""newest steps for the curve: more than any terminal is wide, twice"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One run, as it is shown."""

    at: float
    status: dict[str, Any]
    """as in docs/contract.md"""
    next: str | None
    """what a person should do"""
    ledger: Ledger
    spans: Sequence[Span]
    attempts: tuple[Attempt, ...]
    cases: tuple[tuple[Case, Phases], ...]
    """incidents, oldest first"""
    losses: tuple[float | None, ...]
    """of the newest steps, oldest first, those that were rolled back left out"""
    good_at: float | None
    """when the newest good checkpoint was copied"""
    ranks: dict[str, list[Any]] | None
    """columns of `orchestrator.roster.COLUMNS`; None: nobody knows"""


class Reader:
    """Reads one run along. One thread uses it. Raises JournalUnavailable."""

    def __init__(self, root: Path, run: str) -> None:
        self.run = run
        self._root = root
        self._journal = Journal(Home(root).journal, read_only=True)
        self._account = Account()
        self._read_to = 0

    def close(self) -> None:
        """Let go of the file."""
        self._journal.close()

    def look(self, now: float) -> Sight:
        """The run as it is now."""
        for entry in self._journal.entries(self.run, self._read_to, thin=True):
            self._account.see(entry)
            self._read_to = entry.id
        status = contract.status(self._root, self.run, now=now)
        course = self._account.timeline()
        saves = contract.checkpoints(self._root, self.run)["checkpoints"]
        return Sight(
            at=now,
            status=status,
            next=_next(status),
            ledger=self._account.ledger(now),
            spans=self._account.spans(now),
            attempts=course.attempts,
            cases=tuple((case, of(case, course)) for case in course.cases),
            losses=self._losses(),
            good_at=max((save["saved_at"] for save in saves if save["state"] == "good"), default=None),
            ranks=ranks(self._root, status),
        )

    def _losses(self) -> tuple[float | None, ...]:
        """A world that began at an older step took the place of what came after that step."""
        found: dict[int, float | None] = {}
        for row in self._journal.rows(self.run, limit=LOSSES):
            if found and row.step <= next(reversed(found)):
                found = {step: loss for step, loss in found.items() if step < row.step}
            found[row.step] = row.loss
        return tuple(found.values())


def ranks(root: Path, status: dict[str, Any]) -> dict[str, list[Any]] | None:
    """What the supervisor says of the ranks of a run; None where there are none, or nobody says it."""
    if not status["supervisor"]["alive"] or status["exit_code"] != contract.NOT_FINISHED:
        return None
    with suppress(client.NoSupervisor, HomeError):
        answer = client.ask(root, {"ask": "ranks", "run": status["run"]}, start=False)
        return answer["ranks"] if answer["ok"] else None
    return None


def _next(status: dict[str, Any]) -> str | None:
    if status["unsupervised"]:
        return f"nothing is decided about it: {status['unsupervised']}; lastgood resume {status['run']} tries again"
    if status["state"] == "HELD":
        return f"lastgood story {status['run']}; then lastgood resume {status['run']}"
    if not status["supervisor"]["alive"] and status["exit_code"] == contract.NOT_FINISHED:
        return "no supervisor: ranks train on without one, and cannot be asked: lastgood serve -d"
    return None
