"""Who keeps the trackers of every run up to date? The companion: from the journal to lines, from lines to each tracker.

It writes lines and TensorBoard's files itself, which wait for nobody. Whatever talks to a network is a process of its
own for each run, which is started, and started anew, here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

from jobs import load
from jobs.errors import SpecError
from jobs.spec import Spec
from jobs.spec_tracker import Tracker
from monitors.clock import Clock, SystemClock
from orchestrator import ledger, tracker_key, tracker_lines
from orchestrator.core.events import RunSubmitted
from orchestrator.core.state import ENDED
from orchestrator.home import Home
from orchestrator.journal import Entry, Journal, JournalUnavailable
from orchestrator.tail import Tail
from orchestrator.tracker_board import Board
from orchestrator.tracker_branch import Course
from orchestrator.tracker_lines import Line, Scribe
from orchestrator.tracker_outbox import Outbox, Reader

log = logging.getLogger(__name__)

AGAIN = 75
"""exit status of a sender that has more to do, as EX_TEMPFAIL of sysexits.h"""
PACE_S = 0.5
QUIET_S = 1.0
"""after its last entry: the rows of a run's last steps follow within half a second"""
BOOKS_EVERY_S = 60.0
AT_ONCE = 5000
"""lines in memory at most"""
AGAIN_S, AGAIN_MOST_S = 1.0, 60.0
PENDING = "tracker.pending"
"""while this file is there, a tracker is owed something"""
DONE = "done"


def folder_of(home: Home, run: str) -> Path:
    """Everything that trackers keep of a run."""
    return home.run(run) / "tracker"


def course_of(folder: Path, run: str) -> Course:
    """How the run was told to W&B so far."""
    try:
        body = json.loads((folder / "wandb.json").read_text())
    except (OSError, ValueError):
        return Course(id=run)
    known = {field.name: body[field.name] for field in fields(Course) if field.name in body}
    for name in ("shifts", "refused"):
        known[name] = tuple(tuple(pair) for pair in known.get(name, getattr(Course(id=run), name)))
    return Course(**known)


def keep_course(folder: Path, course: Course) -> None:
    """Write it down, whole or not at all."""
    draft = folder / "wandb.json.writing"
    draft.write_text(json.dumps(asdict(course)) + "\n")
    draft.replace(folder / "wandb.json")


def pause(seconds: float) -> None:
    """Wait."""
    select.select([], [], [], seconds)


def wanted(home: Home, specs: Sequence[Spec]) -> bool:
    """A run that goes on has a tracker, or one that is over is not delivered yet."""
    return any(spec.tracker.is_on for spec in specs) or (home.root / PENDING).exists()


async def companion(home: Home) -> None:
    """Until cancelled. What is not delivered by then is next time."""
    desk = Desk(home, SystemClock())
    tail: Tail | None = None
    try:
        while True:
            try:
                tail = tail or desk.open()
                desk.take(tail)
            except JournalUnavailable as error:
                log.warning("%s", error)
                tail = None
            await asyncio.sleep(PACE_S)
    finally:
        desk.close()


class Desk:
    """All runs of one state folder that have a tracker."""

    def __init__(self, home: Home, clock: Clock) -> None:
        self._home = home
        self._clock = clock
        self._trackers: dict[str, Tracker | None] = {}
        self._open: dict[str, Told] = {}

    def open(self) -> Tail:
        """Find what is still to be told; the tail begins at the first entry of it. Raises JournalUnavailable."""
        tail = Tail(self._home.journal)
        journal, starts = tail.journal, [tail.journal.newest_id()]
        for submission in journal.runs():
            run = submission.run
            done = (folder_of(self._home, run) / DONE).exists() and journal.phase(run) in ENDED
            if done or self._tracker(run) is None:
                continue
            first = next((number - 1 for number, _ in journal.events(run, kind=RunSubmitted)), 0)
            starts.append(max(first, self._told(run).place_entry))
        tail.since = min(starts)
        return tail

    def take(self, tail: Tail) -> None:
        """Tell everything that is new. Raises JournalUnavailable."""
        while batch := tail.batch():
            for number, run, entry in batch:
                if run in self._open or self._tracker(run) is not None:
                    self._told(run).take(tail.journal, number, entry)
        for run, told in list(self._open.items()):
            if told.go_on(tail.journal):
                told.close(done=True)
                del self._open[run]
        pending = self._home.root / PENDING
        if self._open and not pending.exists():
            pending.touch()
        elif not self._open:
            pending.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of everything, and end the processes."""
        for told in self._open.values():
            told.close(done=False)

    def _tracker(self, run: str) -> Tracker | None:
        if run not in self._trackers:
            try:
                tracker = load.from_json((self._home.run(run) / "spec.json").read_text()).tracker
            except (OSError, SpecError) as error:
                log.warning("%s: %s", run, error)
                tracker = Tracker()
            self._trackers[run] = tracker if tracker.is_on else None
        return self._trackers[run]

    def _told(self, run: str) -> Told:
        if run not in self._open:
            tracker = self._tracker(run)
            assert tracker is not None
            self._open[run] = Told(self._home, run, tracker, self._clock)
        return self._open[run]


class Told:
    """One run, and what its trackers were told."""

    def __init__(self, home: Home, run: str, tracker: Tracker, clock: Clock) -> None:
        self._home, self._run, self._tracker, self._clock = home, run, tracker, clock
        self._folder = folder_of(home, run)
        self._outbox = Outbox(self._folder)
        (self._folder / DONE).unlink(missing_ok=True)
        self._scribe = Scribe(run, self._outbox.place)
        self._lines: list[Line] = []
        self._heard_at = clock.now()
        self._books_at = 0.0
        self._account, self._booked = ledger.Account(), 0
        self._board: _Boarded | None = _Boarded(self._folder, run, tracker) if tracker.tensorboard else None
        self._sender = _Sender(home, run, clock) if tracker.wandb else None

    @property
    def place_entry(self) -> int:
        """Id of the last entry that was told."""
        return self._outbox.place.entry

    def take(self, journal: Journal, number: int, entry: Entry | None) -> None:
        """An entry of this run."""
        if number <= self._scribe.place.entry:
            return
        if entry is not None and (entry.actions or entry.opened):
            self._read_rows(journal)  # what came before it
        self._lines += self._scribe.entry(number, entry)
        self._heard_at = self._clock.now()
        if len(self._lines) >= AT_ONCE:  # it reads up on a long run
            self._flush()

    def go_on(self, journal: Journal) -> bool:
        """Write down what is new and see to the trackers; True when everybody has everything."""
        self._read_rows(journal)
        ended = self._scribe.place.phase in ENDED
        now = self._clock.now()
        if self._lines and now >= self._books_at:
            self._make_up_books(journal, now)
        if ended and not self._scribe.place.ended and not self._lines and now - self._heard_at > QUIET_S:
            self._make_up_books(journal, now)
            self._lines.append(self._scribe.end(now))
        self._flush()
        has_all = self._scribe.place.ended
        if self._board is not None:
            has_all = self._board.catch_up(self._outbox.count) and has_all
        if self._sender is not None:
            has_all = self._sender.tend() and has_all
        return has_all

    def close(self, *, done: bool) -> None:
        """Let go of files and processes."""
        self._outbox.close()
        if self._board is not None:
            self._board.close()
        if self._sender is not None:
            self._sender.close()
        if done:
            (self._folder / DONE).touch()

    def _flush(self) -> None:
        self._outbox.append(self._lines, self._scribe.place)
        self._lines = []

    def _read_rows(self, journal: Journal) -> None:
        for world in self._scribe.place.worlds:
            while rows := journal.rows_after(self._run, world.number, self._step_of(world.number)):
                for row in rows:
                    self._lines += self._with_copies(self._scribe.rows([row]))
                if len(self._lines) >= AT_ONCE:
                    self._flush()

    def _step_of(self, world: int) -> int:
        return next((known.step for known in self._scribe.place.worlds if known.number == world), 0)

    def _with_copies(self, lines: list[Line]) -> list[Line]:
        """A rewind that may take rows away says which ones, and the marks among them are told again."""
        if not lines or lines[0].kind != "rewind" or self._tracker.wandb is None or self._is_append:
            return lines
        told = [line for _, line in _all(self._folder)] + self._lines
        keep, copies = tracker_lines.rewound(told, lines[0].values["lastgood/rolled_back_to"])
        return [replace(lines[0], keep=keep), *copies, *lines[1:]]

    @property
    def _is_append(self) -> bool:
        return self._tracker.wandb is None or self._tracker.wandb.after_rewind == "append"

    def _make_up_books(self, journal: Journal, now: float) -> None:
        for entry in journal.entries(self._run, self._booked, thin=True):
            self._account.see(entry)
            self._booked = entry.id
        self._lines.append(self._scribe.books(self._account.ledger(now), now))
        self._books_at = now + BOOKS_EVERY_S


def _all(folder: Path) -> list[tuple[int, Line]]:
    reader, lines = Reader(folder), []
    while more := reader.more():
        lines += more
    return lines


class _Boarded:
    """TensorBoard's part of one run."""

    def __init__(self, folder: Path, run: str, tracker: Tracker) -> None:
        assert tracker.tensorboard is not None
        self._into = Path(tracker.tensorboard.folder or folder / "tensorboard")
        self._folder, self._run = folder, run
        self._board: Board | None = None
        self._reader: Reader | None = None
        self._failed = False

    def catch_up(self, count: int) -> bool:
        """Write every line that is new; a folder that cannot be written is given up until the next start."""
        try:
            while not self._failed and (self._board is None or self._board.count < count):
                if not self._more():
                    break
        except OSError as error:
            log.error("%s: TensorBoard's files in %s: %s", self._run, self._into, error.strerror)
            self._failed = True
        return True

    def close(self) -> None:
        if self._board is not None:
            self._board.close()

    def _more(self) -> bool:
        if self._board is None:
            first = next((line.at for _, line in Reader(self._folder).more()), 0.0)
            self._board = Board(self._into, self._run, first)
            self._reader = Reader(self._folder, self._board.count)
        assert self._reader is not None
        lines = [line for _, line in self._reader.more()]
        self._board.write(lines)
        return bool(lines)


class _Sender:
    """The process that delivers one run to W&B."""

    def __init__(self, home: Home, run: str, clock: Clock) -> None:
        self._home, self._run, self._clock = home, run, clock
        self._folder = folder_of(home, run)
        self._process: subprocess.Popen[bytes] | None = None
        self._again_at, self._again_s = 0.0, AGAIN_S
        self._delivered = -1
        self._done = False

    def tend(self) -> bool:
        """Keep it alive; True when it has delivered everything."""
        if self._process is not None and (status := self._process.poll()) is not None:
            self._process = None
            self._over(status)
        if not self._done and self._process is None and self._clock.now() >= self._again_at:
            self._start()
        return self._done

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _over(self, status: int) -> None:
        delivered = course_of(self._folder, self._run).delivered
        self._done = status == 0
        self._again_s = AGAIN_S if delivered > self._delivered else min(AGAIN_MOST_S, 2 * self._again_s)
        self._again_at = self._clock.now() + (PACE_S if delivered > self._delivered else self._again_s)
        self._delivered = delivered

    def _start(self) -> None:
        what = ["orchestrator.tracker", "--home", str(self._home.root), "--run", self._run]
        with (self._folder / "wandb.log").open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", *what],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self._folder,
                env=tracker_key.cleaned(os.environ),
                start_new_session=True,
            )
