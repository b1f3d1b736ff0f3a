"""A desk that is fed with a journal and looked at every second, and the channels that it tells: fakes with a memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator.alerts import guides
from orchestrator.alerts.companion import heard
from orchestrator.alerts.desk import decide
from orchestrator.alerts.message import Act, Message
from orchestrator.alerts.rules import Route, Rules
from orchestrator.alerts.surroundings import Looked
from orchestrator.alerts.threads import State
from orchestrator.core.policy import Severity
from orchestrator.journal import Entry

GUIDES = guides.built_in()
PAGER, TEAM, ALL = "pager", "team", "all"
ROUTES = (
    Route(to=PAGER, severity=Severity.CRITICAL),
    Route(to=TEAM, severity=Severity.ERROR),
    Route(to=ALL, severity=Severity.INFO),
)


def rules(**changes: Any) -> Rules:
    """With a pager, a team, and one who wants to know everything."""
    return Rules(**{"home": "host", "routes": ROUTES, "digest_to": (TEAM,), "guides": GUIDES, **changes})


class Watched:
    """A desk, and all that it told."""

    def __init__(self, of: Rules | None = None, *, every_s: float = 1.0) -> None:
        self.rules = of or rules()
        self.state = State()
        self.now = 0.0
        self.told: list[Message] = []
        self.joined: dict[tuple[str, str], str] = {}
        """(run, trouble): the thread that it is in"""
        self.seen: dict[str, Any] = {}
        """what every look sees besides"""
        self._every_s = every_s

    def hear(self, run: str, entries: Iterable[Entry], *, at_once: bool = False) -> Watched:
        """Entries, with looks in between; `at_once`: none, as for somebody who was away."""
        for entry in entries:
            if self.now and not at_once:
                self.wait(entry.event.at - self.now)
            self.now = max(self.now, entry.event.at)
            said = {o.incident.kind.value: GUIDES[o.incident.kind.value] for o in entry.opened}
            self.state, messages = decide(self.state, heard(run, entry, said), self.rules)
            assert not messages, "an entry tells nobody by itself"
        return self.look()

    def wait(self, seconds: float) -> Watched:
        """Time goes by."""
        end = self.now + seconds
        while self.now + self._every_s < end:
            self.now += self._every_s
            self.look()
        self.now = max(self.now, end)
        return self.look()

    def look(self, **seen: Any) -> Watched:
        """Once."""
        before = self.state
        looked = Looked(at=self.now, **{**self.seen, **seen})
        self.state, messages = decide(before, looked, self.rules)
        assert (self.state, messages) == decide(before, looked, self.rules), "not pure"
        self.told += messages
        for key, thread in {**before.threads, **self.state.threads}.items():
            assert all(self.joined.setdefault(member, key) == key for member in thread.members), "in two threads"
        again, more = decide(self.state, looked, self.rules)
        assert (again, more) == (self.state, ()), "told twice, or nothing changed and yet it did"
        return self

    def to(self, channel: str) -> list[Message]:
        """What a channel was told."""
        return [message for message in self.told if message.channel == channel]

    def acts(self, channel: str) -> list[tuple[str, str]]:
        """(act, kind) of what a channel was told."""
        return [(message.act.value, message.kind) for message in self.to(channel)]

    def threads(self, channel: str) -> dict[str, list[Message]]:
        """Messages by thread."""
        found: dict[str, list[Message]] = {}
        for message in self.to(channel):
            found.setdefault(message.thread, []).append(message)
        return found


def check(told: Sequence[Message], *, ended: bool = False) -> None:
    """What must be true of everything that was ever told."""
    threads: dict[tuple[str, str], list[Message]] = {}
    for message in told:
        threads.setdefault((message.channel, message.thread), []).append(message)
    assert len({(message.channel, message.key) for message in told}) == len(told), "one key for two messages"
    for (channel, thread), messages in threads.items():
        acts = [message.act for message in messages]
        assert [message.number for message in messages] == list(range(1, len(messages) + 1)), thread
        assert all(math.isfinite(message.at) for message in messages)
        assert acts[0] in (Act.OPENED, Act.NOTE), f"{channel} {thread}: {acts}"
        assert acts == [Act.NOTE] or Act.NOTE not in acts, f"{channel} {thread}: {acts}"
        assert Act.RESOLVED not in acts[:-1], f"{channel} {thread}: {acts}"
        assert acts.count(Act.OPENED) <= 1
        assert not ended or acts[-1] in (Act.RESOLVED, Act.NOTE), f"{channel} {thread} is never resolved"
        assert len(thread) <= 255
