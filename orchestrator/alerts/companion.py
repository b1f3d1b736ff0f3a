"""What does the process do that alerts live in? It reads along, decides, and lets one courier for each channel deliver.

`python -P -m orchestrator.companion alerts orchestrator.alerts.companion --home HOME`, while HOME/alerts.yaml is there.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

from jobs.errors import SpecError
from monitors.clock import Clock, SystemClock
from monitors.incidents import Kind
from orchestrator import bulkhead, story
from orchestrator.alerts import guides, reading
from orchestrator.alerts.config import FILE_NAME, seconds
from orchestrator.alerts.course import Heard
from orchestrator.alerts.delivery import USUAL, Courier, Waits
from orchestrator.alerts.desk import Adopted, decide
from orchestrator.alerts.outbox import FILE_NAME as OUTBOX
from orchestrator.alerts.outbox import Outbox
from orchestrator.alerts.rules import Guide, Rules
from orchestrator.alerts.sinks import sink_of
from orchestrator.alerts.surroundings import Looked
from orchestrator.alerts.switch import ping
from orchestrator.alerts.threads import State, standing
from orchestrator.core.actions import Alert, StartWorld
from orchestrator.core.events import AgentJoined
from orchestrator.core.state import Phase
from orchestrator.home import Home
from orchestrator.journal import Entry, JournalUnavailable
from orchestrator.tail import AT_ONCE, Tail

log = logging.getLogger(__name__)

READ_EVERY_S = 0.25
LOOK_EVERY_S = 1.0
KEEP_EVERY_S = 10.0
"""what led to no message is read again after a crash: it need not be written each second"""
TIDY_EVERY_S = 86400.0
ALIVE_S = 60.0
"""a supervisor that was heard so lately lives, for the dead-man's switch"""
FAILURE = "failure-told"
"""what a supervisor wrote down as it failed"""


def heard(run: str, entry: Entry, said: Mapping[str, Guide]) -> Heard:
    """What the desk must know of an entry; `said`: by the runbooks of the kinds that it opened."""
    done = (story.describe(action) for action in entry.actions if not isinstance(action, Alert))
    return Heard(
        at=entry.event.at,
        run=run,
        event=entry.event,
        phase=entry.phase,
        reason=entry.reason,
        alerts=tuple(action for action in entry.actions if isinstance(action, Alert)),
        started=tuple(action for action in entry.actions if isinstance(action, StartWorld)),
        done=tuple(text for text in done if text is not None),
        opened=entry.opened,
        closed=entry.closed,
        guides=said,
    )


class Alerting:
    """Alerts of one state folder."""

    def __init__(
        self, home: Home, clock: Clock, *, environ: Mapping[str, str] = os.environ, waits: Waits = USUAL
    ) -> None:
        self._home = home
        self._clock = clock
        self._environ = environ
        self._waits = waits
        self._outbox = Outbox(home.root / OUTBOX)
        self._tail = Tail(home.journal)
        self._state = State()
        self._kept: tuple[State, int] = (State(), 0)
        self._kept_at = self._tidied_at = 0.0
        self._loaded: reading.Loaded | None = None
        self._rules = Rules()
        self._stamp: tuple[int, int] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._blind = ""

    async def work(self) -> None:
        """Until cancelled, or until the outbox cannot be written any more."""
        try:
            while not self._ready():
                await asyncio.sleep(LOOK_EVERY_S)
            looked_at = 0.0
            while True:
                news, more = self._read()
                now = self._clock.now()
                if not more and (news or now - looked_at >= LOOK_EVERY_S):
                    looked_at = now
                    self._look(now)
                self._check_tasks()
                await asyncio.sleep(0 if more else READ_EVERY_S)
        finally:
            for task in self._tasks:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*self._tasks, return_exceptions=True)
            self._tail.close()
            self._outbox.close()

    def _ready(self) -> bool:
        """The file of alerts is in order, and the place in the journal is known."""
        self._configure()
        return self._loaded is not None and self._begun()

    # Where to begin

    def _begun(self) -> bool:
        found = self._outbox.desk()
        if found is None:
            if not self._adopt():
                return False
        else:
            self._state, self._tail.since = found
        self._kept = (self._state, self._tail.since)
        return True

    def _adopt(self) -> bool:
        """Alerts begin now: what happened before is nobody's alert, what stands is. False: it cannot be read now."""
        if not self._home.journal.exists():
            self._outbox.keep(self._state, 0, ())
            return True
        try:
            journal = self._tail.journal
            self._tail.since = journal.newest_id()
            for submission in journal.runs():
                state = journal.state(submission.run)
                if state is None or state.phase in (Phase.SUCCEEDED, Phase.STOPPED):
                    continue
                joined = [event for _, event in journal.events(submission.run, kind=AgentJoined)]
                hosts = {event.node: event.host for event in joined if isinstance(event, AgentJoined)}
                adopted = Adopted(at=self._clock.now(), state=state, hosts=hosts)
                self._state, _ = decide(self._state, adopted, self._rules)
        except JournalUnavailable as error:
            log.warning("%s", error)
            self._tail.close()
            return False
        self._outbox.keep(self._state, self._tail.since, ())
        return True

    # What is new

    def _read(self) -> tuple[bool, bool]:
        """Take in what is new: (something was, more of it waits)."""
        try:
            news = self._tail.batch() if self._home.journal.exists() else []
            self._blind = ""
        except JournalUnavailable as error:
            self._blind = str(error)
            self._tail.close()
            return False, False
        for _, run, entry in news:
            if entry is not None:
                said = {o.incident.kind.value: self._guide(run, o.incident.kind) for o in entry.opened}
                self._state, _ = decide(self._state, heard(run, entry, said), self._rules)
        return bool(news), len(news) == AT_ONCE

    def _guide(self, run: str, kind: Kind) -> Guide:
        return guides.of_run(self._home, run, kind) or self._rules.guides[kind.value]

    # What is to be told

    def _look(self, now: float) -> None:
        self._configure()
        self._state, messages = decide(self._state, self._seen(now), self._rules)
        now_kept = (self._state, self._tail.since)
        if messages or (now - self._kept_at >= KEEP_EVERY_S and now_kept != self._kept):
            self._outbox.keep(self._state, self._tail.since, messages)
            self._kept, self._kept_at = now_kept, now
        if now - self._tidied_at >= TIDY_EVERY_S:
            self._tidied_at = now
            self._outbox.tidy(now)

    def _seen(self, now: float) -> Looked:
        assert self._loaded is not None
        config = self._loaded.config
        local = datetime.fromtimestamp(now, config.timezone)
        minute_of_day = 60 * local.hour + local.minute
        alive_at, left = self._supervisor()
        health = self._outbox.health()
        down = {
            name: (one.failing_since, one.error or "")
            for name, one in health.items()
            if name in config.channels
            and one.failing_since is not None
            and now - one.failing_since >= self._rules.channel_s
        }
        return Looked(
            at=now,
            quiet=reading.is_quiet(config.quiet, minute_of_day),
            digest=local.date().toordinal() - (minute_of_day < reading.minute(config.digest.at)),
            alive_at=alive_at,
            left=left,
            failure=self._failure(),
            unsupervised=self._unsupervised(),
            blind=self._blind,
            down=down,
            silences=self._outbox.silences(now),
        )

    def _supervisor(self) -> tuple[float | None, bool]:
        """When it was last known alive, and whether it left in good order."""
        if not self._home.journal.exists():
            return None, False
        try:
            journal = self._tail.journal
            return journal.last_heartbeat(), journal.has_left()
        except JournalUnavailable as error:
            self._blind = str(error)
            return None, False

    def _lives(self) -> bool | None:
        alive_at, left = self._supervisor()
        if left:
            return None
        return alive_at is not None and self._clock.now() - alive_at < ALIVE_S

    def _failure(self) -> tuple[float, str] | None:
        path = self._home.root / FAILURE
        try:
            return path.stat().st_mtime, path.read_text(errors="replace") or "see supervisor.log"
        except OSError:
            return None

    def _unsupervised(self) -> dict[str, str]:
        named = [run for run in self._state.courses if run]
        found = {run: bulkhead.unsupervised(self._home.root, run) for run in named}
        return {run: why for run, why in found.items() if why is not None}

    # The file of alerts

    def _configure(self) -> None:
        """Take the file of alerts in, when it changed; one that is wrong changes nothing but what is shown."""
        path = self._home.root / FILE_NAME
        try:
            found = path.stat()
            stamp = (found.st_mtime_ns, found.st_ctime_ns)
        except OSError:
            stamp = (0, 0)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            loaded = reading.load(path, self._environ)
        except SpecError as error:
            log.error("%s", error)
            self._outbox.note("config", str(error), self._clock.now())
            return
        self._outbox.note("config", "", self._clock.now())
        self._loaded = loaded
        self._rules = reading.rules(loaded.config, os.uname().nodename, self._rules.guides or guides.built_in())
        self._staff(loaded)

    def _staff(self, loaded: reading.Loaded) -> None:
        """One courier for each channel, and the dead-man's switch."""
        for task in self._tasks:
            task.cancel()  # what it is sending may arrive, and is sent again with the same key
        config = loaded.config
        couriers = [
            Courier(
                name,
                sink_of(channel, config.timezone),
                self._outbox,
                self._clock,
                standing=lambda: [thread.key for thread in standing(self._state)],
                secrets=loaded.secrets,
                waits=self._waits,
            )
            for name, channel in config.channels.items()
        ]
        self._tasks = [asyncio.create_task(courier.work()) for courier in couriers]
        if config.heartbeat is not None:
            url, every_s = config.heartbeat.url.get_secret_value(), seconds(config.heartbeat.every)
            self._tasks.append(asyncio.create_task(ping(url, every_s, self._lives)))

    def _check_tasks(self) -> None:
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()  # an outbox that cannot be written, or our bug: end, and be started anew


async def companion(home: Home) -> None:
    """Tell people, until cancelled."""
    await Alerting(home, SystemClock()).work()
