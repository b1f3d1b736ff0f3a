"""How are agents and people answered, and runs woken at their deadlines?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jobs import registry
from jobs.agent import orders as o
from jobs.spec import Spec
from orchestrator import answers, requests
from orchestrator.core import events
from orchestrator.core.state import ENDED
from orchestrator.house import House
from orchestrator.liverun import LiveRun

AGENT_CHECK_S = 0.1
"""between two searches for the processes of an agent that is not connected"""


class Daemon(House):
    """All runs of one home, and whom they hear."""

    _search_at = float("-inf")

    # Agents

    def hello(self, hello: o.Hello, send: Callable[[bytes], None]) -> o.Refused | None:
        """An agent dials; returns why it is not wanted, if it is not."""
        if hello.run in self.unsupervised:
            send(o.encode(o.Welcome()))  # it trains on: nobody can say that it should not
            return None
        live = self.runs.get(hello.run)
        if live is None or live.loop.state is None:
            return self._stray(hello.run)
        if (attempt := live.loop.state.attempt) != hello.attempt:
            cause = o.Refusal.OVER if hello.attempt < attempt else o.Refusal.UNKNOWN
            return o.Refused(why=f"attempt {attempt} of {hello.run} is the present one", cause=cause)
        now = self.clock.now()
        offset_s = live.agents.connect(hello, send, now)
        live.unseen_since.pop(hello.node, None)
        send(o.encode(o.Welcome()))
        live.agents.pair()
        joined = events.AgentJoined(
            at=now,
            attempt=hello.attempt,
            node=hello.node,
            host=hello.host,
            world=hello.world,
            alive=hello.alive,
            clock_offset_s=offset_s,
        )
        with self.bulkhead(hello.run):
            live.loop.take(joined)
            for started in hello.ranks:
                live.loop.see(started)
            live.loop.repeat_orders()
        self.changed.set()
        return None

    def _stray(self, run: str) -> o.Refused:
        """The refusal of an agent whose run does not go on here: only what is known to be over ends workers at once."""
        phase = self.journal.phase(run)
        if phase is None:
            return o.Refused(why=f"run {run} is not known here", cause=o.Refusal.UNKNOWN)
        return o.Refused(
            why=f"run {run} is over: {phase}", cause=o.Refusal.OVER if phase in ENDED else o.Refusal.UNKNOWN
        )

    def message(self, run: str, node: int, message: o.FromAgent) -> bool:
        """A connected agent says something; False when nobody took it in, and it should be said again."""
        if (live := self.runs.get(run)) is not None:
            with self.bulkhead(run):
                self._take(live, node, message)
        self.changed.set()
        return run not in self.unsupervised

    def _take(self, live: LiveRun, node: int, message: o.FromAgent) -> None:
        match message:
            case o.Report():
                live.loop.see(live.agents.ours(node, message.signal, self.clock.now()))
            case o.StoreOffered():
                live.agents.offered(message.store)
                live.loop.repeat_orders()

    def goodbye(self, run: str, node: int, send: Callable[[bytes], None]) -> None:
        """A connection ended: the node is unseen, which proves nothing."""
        live = self.runs.get(run)
        if live is not None and live.agents.disconnect(node, send):
            live.unseen_since[node] = self.clock.now()
            self.changed.set()

    def save_rows(self) -> None:
        """Give the steps heard to the journal; what was reported until now may be acknowledged then.

        But for what a run reported that is left alone for it.
        """
        for run, live in list(self.runs.items()):
            with self.bulkhead(run):
                live.loop.save_rows()

    def keeps(self, run: str, listener: LiveRun | None) -> bool:
        """Whether all that `listener` heard of a run is kept: it is neither left alone nor in other hands since."""
        return run not in self.unsupervised and self.runs.get(run, listener) is listener

    # Time

    def wake(self) -> None:
        """Wake the runs whose deadline has come, let go of those that are over."""
        now = self.clock.now()
        if now >= self._search_at:
            self._search_at = now + AGENT_CHECK_S
            self._find_dead_agents()
        for run, live in list(self.runs.items()):
            deadline = live.loop.deadline
            if deadline is not None and deadline <= now:
                with self.bulkhead(run):
                    live.loop.wake()
        for run in [run for run, live in self.runs.items() if live.loop.ended]:
            with self.bulkhead(run):
                self.runs[run].loop.save_rows()
                self._past[run] = self.runs.pop(run).loop

    def specs(self) -> list[Spec]:
        """Of the runs that go on."""
        return [live.spec for live in self.runs.values()]

    def wait_s(self, most_s: float) -> float:
        """Until the next deadline, at most `most_s`."""
        deadlines = [live.loop.deadline for live in self.runs.values() if live.loop.deadline is not None]
        if any(live.missing() for live in self.runs.values()):
            deadlines.append(self._search_at)
        return max(0.0, min([most_s, *(d - self.clock.now() for d in deadlines)]))

    def _find_dead_agents(self) -> None:
        """Of the agents that are not connected: which are dead on a second witness?"""
        for run, live in list(self.runs.items()):
            with self.bulkhead(run):
                for node, since in live.missing().items():
                    self._find_dead_agent(run, live, node, since)

    def _find_dead_agent(self, run: str, live: LiveRun, node: int, since: float) -> None:
        state = live.loop.state
        if state is None or node not in state.joined:  # what was found of another node has changed it
            return
        if gone := registry.witnesses(self.home.root, run, state.attempt, node):
            now = self.clock.now()
            words = (f"its connection has been closed for {now - since:.1f} s", *gone)
            live.loop.take(events.AgentGone(at=now, attempt=state.attempt, node=node, witnesses=words))

    # People

    def ask(self, request: requests.Request) -> dict[str, Any]:
        """Do what a person asks. Raises AskError."""
        return answers.answer(self, request)
