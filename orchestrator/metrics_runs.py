"""What does the journal say of each run, for who asks every few seconds? Read once, and kept up as it grows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from monitors.signals import StepReported
from orchestrator import phases
from orchestrator.core import events as e
from orchestrator.core.policy import Rung
from orchestrator.core.state import Phase, State
from orchestrator.journal import Entry, Journal, Submission
from orchestrator.ledger import Account
from orchestrator.spans import OVER
from orchestrator.timeline import Case, Timeline

KEPT_S = 3600.0
"""a run that succeeded or was stopped is told of for so long: any scraper comes by in that time"""
ROWS = 20
"""newest steps over which speed is measured, as in `status`"""


@dataclass(slots=True, kw_only=True)
class Saves:
    """What durable saves took, all of them together."""

    count: int = 0
    stall_s: float = 0.0
    """that steps waited"""
    written: int = 0
    """of which it is known how long they took"""
    write_s: float = 0.0
    bytes: int = 0
    """of the newest"""

    def see(self, save: e.CheckpointCommitted) -> None:
        """One more."""
        self.count += 1
        self.stall_s += save.stall_s
        self.bytes = save.bytes
        if save.write_s is not None:
            self.written += 1
            self.write_s += save.write_s


@dataclass(slots=True, kw_only=True)
class Book:
    """What is known of one run."""

    submission: Submission
    phase: Phase = Phase.LAUNCHING
    account: Account = field(default_factory=Account)
    saves: Saves = field(default_factory=Saves)
    state: State | None = None
    rows: list[StepReported] = field(default_factory=list)
    """the newest steps of the newest world, oldest first"""
    progressed_at: float | None = None
    read_to: int = 0
    """id of the newest entry that is in it"""
    changed: bool = True
    """the state is to be read again"""

    def see(self, entry: Entry) -> None:
        """The next entry; one that is in it already adds nothing."""
        if entry.id <= self.read_to:
            return
        self.read_to, self.phase, self.changed = entry.id, entry.phase, True
        self.account.see(entry)
        match entry.event:
            case e.CheckpointCommitted():
                self.saves.see(entry.event)
            case e.Progressed():
                self.progressed_at = entry.event.at
            case _:
                pass

    def refresh(self, journal: Journal) -> None:
        """Read what is not in the entries, if it may have changed."""
        if not self.changed:
            return
        run = self.submission.run
        self.state, self.changed = journal.state(run), False
        self.rows = journal.rows(run, limit=ROWS, world=self.state.world if self.state else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recoveries:
    """Incidents of one run, added up."""

    by_kind: Counter[tuple[str, str, str]]
    """by kind, blame, and whether a drill provoked them: `true` or `false`"""
    spent_s: dict[str, tuple[int, float]]
    """of those that were answered: by phase of the recovery, how many have gone through it, and their seconds"""


def recoveries(course: Timeline, state: State | None) -> Recoveries:
    """What the incidents of a run come to."""
    spent: dict[str, tuple[int, float]] = {}
    for case in course.cases:
        found = phases.of(case, course) if case.rung is not Rung.OBSERVE else None
        for name in phases.Phases.__slots__ if found is not None else ():
            seconds = getattr(found, name)
            if seconds is not None:
                count, so_far = spent.get(name, (0, 0.0))
                spent[name] = (count + 1, so_far + seconds)
    named = Counter(
        (case.incident.kind.value, _blame(case, state), str(bool(case.drill)).lower()) for case in course.cases
    )
    return Recoveries(by_kind=named, spent_s=spent)


def _blame(case: Case, state: State | None) -> str:
    blame = case.incident.blame or (state.policy.responses[case.incident.kind].blame if state else None)
    return blame.value if blame else "unknown"


class Books:
    """Every run of a state folder that is worth telling of. One thread uses it. Raises JournalUnavailable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._journal: Journal | None = None
        self._since = 0
        self._books: dict[str, Book] = {}
        self._gone: dict[str, Phase] = {}
        """of the runs that ended long ago"""
        self.seen_at: float | None = None
        """when the supervisor was last known alive"""

    def close(self) -> None:
        """Let go of the file."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def catch_up(self, now: float) -> None:
        """Read what is new: of a run that is new here its thinned entries, so that months are read in seconds."""
        if self._journal is None:
            if not self._path.exists():
                return
            self._journal = Journal(self._path, read_only=True)
            self._since = self._since or self._journal.newest_id()
            self._open(self._journal, self._journal.runs(), now)
        journal = self._journal
        self.seen_at = journal.last_heartbeat()
        while found := journal.after(self._since):
            self._since = found[-1][0]
            unknown = {run for _, run, _ in found} - self._books.keys()
            if unknown:
                self._open(journal, [submission for submission in journal.runs() if submission.run in unknown], now)
            for _, run, entry in found:
                if entry is not None and run in self._books:
                    self._books[run].see(entry)
        for book in self._books.values():
            book.refresh(journal)
        self._let_go(now)

    def shown(self, most: int) -> list[Book]:
        """At most so many, oldest first: those that are held before all others, then the newest."""
        known = sorted(self._books.values(), key=lambda book: (book.phase is Phase.HELD, book.submission.submitted_at))
        return sorted(known[-most:] if most else [], key=lambda book: book.submission.submitted_at)

    def count(self) -> Counter[Phase]:
        """How many runs there are in each phase, of all that ever were."""
        return Counter(self._gone.values()) + Counter(book.phase for book in self._books.values())

    def _open(self, journal: Journal, submissions: Iterable[Submission], now: float) -> None:
        for submission in submissions:
            book = Book(submission=submission, state=journal.state(submission.run))
            if book.state is not None and _is_past(book.state, now):
                self._gone[submission.run] = book.state.phase  # its history need not be read
                continue
            for entry in journal.entries(submission.run, thin=True):
                book.see(entry)
            self._books[submission.run] = book
            self._gone.pop(submission.run, None)

    def _let_go(self, now: float) -> None:
        for run, book in list(self._books.items()):
            if _is_past(book.state, now):
                self._gone[run] = self._books.pop(run).phase


def _is_past(state: State | None, now: float) -> bool:
    return state is not None and state.phase in OVER and now - state.since > KEPT_S
