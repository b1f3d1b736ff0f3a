"""What is there to look at while the demo plays? Its run, everybody who is told of it, and a thread for its scenes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobs.spec import Spec
from orchestrator import contract
from orchestrator.alerts.outbox import FILE_NAME, Outbox, OutboxUnavailable
from orchestrator.demo import SCENES, perform, submitted
from orchestrator.demo_stage import Show, stage
from orchestrator.home import Home
from tests.alerts import services as s
from tests.dashboard.played import WITHIN_S, serving, supervised
from tests.e2e.lab import Lab

ALERTS = """
channels:
  pager: {{pagerduty: {{routing_key: {pager.key}, url: '{pager.url}/v2/enqueue'}}}}
  hook: {{webhook: {{url: '{hook.url}'}}}}
  mail: {{smtp: {{host: 127.0.0.1, port: {post.port}, tls: none, sender: lastgood@example.org, to: [ops@example.org]}}}}
routes:
  - {{to: pager, severity: critical}}
  - {{to: hook, severity: info}}
  - {{to: mail, severity: warning}}
group: {{wait: 0s, interval: 1d}}
late: {{error: 1d, page: 2d, supervisor: 1d}}
"""
"""Told at once, and again only when something got worse: a slow machine must not make another message of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """The demo's run, where its dashboard is, and the services that are told."""

    lab: Lab
    spec: Spec
    run: str
    url: str
    pager: s.PagerDuty
    hook: s.Hook
    post: s.Post
    thread: ThreadPoolExecutor

    def begin(self) -> Future[None]:
        """The scenes begin; done once the last of them was played, with what went wrong."""
        return self.thread.submit(self._play)

    def _play(self) -> None:
        show = Show(self.lab.home, self.run)
        for scene in SCENES:
            perform(show, scene, self.lab.home, self.run)

    @property
    def is_over(self) -> bool:
        """The run has ended."""
        return bool(self.lab.status(self.run)["exit_code"] != contract.NOT_FINISHED)

    @property
    def waiting(self) -> int:
        """How many messages are under way."""
        with Outbox(self.lab.home / FILE_NAME, read_only=True) as outbox:
            return sum(outbox.waiting(channel) for channel in ("pager", "hook", "mail"))


@contextmanager
def told() -> Iterator[tuple[s.PagerDuty, s.Hook, s.Post]]:
    """A pager, somebody's program, and a mail server, on ports of their own."""
    with s.served(s.PagerDuty()) as pager, s.served(s.Hook()) as hook, s.post_office(s.Post()) as post:
        assert isinstance(pager, s.PagerDuty)
        assert isinstance(hook, s.Hook)
        yield pager, hook, post


@contextmanager
def staged(folder: Path) -> Iterator[Staged]:
    """The demo's run, submitted; whatever happens, nothing of it goes on."""
    folder.mkdir()
    lab = Lab(folder)
    home = Home(lab.home)
    home.create()
    with told() as (pager, hook, post):
        path = home.root / "alerts.yaml"
        path.write_text(ALERTS.format(pager=pager, hook=hook, post=post))
        path.chmod(0o600)
        try:
            # The thread is waited for last: its run has been ended by then.
            with ThreadPoolExecutor(1) as thread, stage(lab.home), serving(lab.home) as url:
                supervised(lab.home)
                _listened(home)
                spec, run = submitted(folder)
                yield Staged(lab=lab, spec=spec, run=run, url=url, pager=pager, hook=hook, post=post, thread=thread)
        finally:
            lab.close()


def _listened(home: Home) -> None:
    """Alerts have begun: what happens before is nobody's alert."""
    deadline = time.monotonic() + WITHIN_S
    while not _reads_along(home):
        assert time.monotonic() < deadline, "nobody reads along who tells"
        time.sleep(0.1)


def _reads_along(home: Home) -> bool:
    try:
        with Outbox(home.root / FILE_NAME, read_only=True) as outbox:
            return outbox.desk() is not None
    except OutboxUnavailable:
        return False
