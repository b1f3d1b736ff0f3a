"""Which processes work beside the supervisor, and are they alive? Alerts, the dashboard, the tracker, the metrics.

A companion reads the journal and acts through the door, as the command line does, so that no viewer, no network that is
away and no fault of its own can hold up a decision. It is started when it is wanted, and started anew, later and later,
when it ends. It outlives a supervisor that dies (a page must go out then, too): the next one's child waits for the lock
that the first still holds (`orchestrator/companion.py`).
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from jobs import registry
from jobs.spec import Spec
from orchestrator import metrics_settings, tracker_desk
from orchestrator.home import Home

log = logging.getLogger(__name__)

AGAIN_S = 1.0
AGAIN_MOST_S = 60.0
WELL_S = 60.0
"""a companion that lived for so long was well: the next end of it is a new one"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """One kind of process beside the supervisor."""

    name: str
    """its log is HOME/NAME.log, its lock HOME/NAME.lock"""
    module: str
    """has `async def companion(home: Home) -> None`, which works until it is cancelled"""
    wanted: Callable[[Home, Sequence[Spec]], bool]
    """by the state folder and the specs of the runs that go on"""


def _wants_alerts(home: Home, _specs: Sequence[Spec]) -> bool:
    return (home.root / "alerts.yaml").exists()


def _wants_dashboard(home: Home, _specs: Sequence[Spec]) -> bool:
    return (home.root / "dashboard.json").exists()


COMPANIONS: tuple[Companion, ...] = (
    Companion(name="alerts", module="orchestrator.alerts.companion", wanted=_wants_alerts),
    Companion(name="tracker", module="orchestrator.tracker", wanted=tracker_desk.wanted),
    Companion(name="metrics", module="orchestrator.metrics", wanted=metrics_settings.wanted),
    Companion(name="dashboard", module="orchestrator.api.companion", wanted=_wants_dashboard),
)


@dataclass(slots=True)
class _Place:
    process: subprocess.Popen[bytes] | None = None
    began_at: float = 0.0
    again_at: float = 0.0
    again_s: float = AGAIN_S


class Companions:
    """Those of one state folder."""

    def __init__(self, home: Home, kinds: Sequence[Companion] = COMPANIONS) -> None:
        self._home = home
        self._places = {kind: _Place() for kind in kinds}

    def tend(self, specs: Sequence[Spec], now: float) -> None:
        """Start who is wanted and not there, end who is not wanted any more; about once a second."""
        for kind, place in self._places.items():
            self._reap(kind, place, now)
            wanted = kind.wanted(self._home, specs)
            if wanted and place.process is None and now >= place.again_at:
                self._start(kind, place, now)
            elif not wanted and place.process is not None:
                place.process.send_signal(signal.SIGTERM)

    def _reap(self, kind: Companion, place: _Place, now: float) -> None:
        if place.process is None or (status := place.process.poll()) is None:
            return
        place.process = None
        place.again_s = AGAIN_S if now - place.began_at > WELL_S else min(AGAIN_MOST_S, 2 * place.again_s)
        place.again_at = now + place.again_s
        log.log(logging.WARNING if status else logging.INFO, "%s ended with status %d", kind.name, status)

    def _start(self, kind: Companion, place: _Place, now: float) -> None:
        # As the supervisor's own: what is started from inside a worker must not look like a part of that attempt.
        clean = {name: value for name, value in os.environ.items() if name != registry.MARK}
        what = ["orchestrator.companion", kind.name, kind.module, "--home", str(self._home.root)]
        place.began_at, place.again_at = now, now + place.again_s
        with suppress(OSError), (self._home.root / f"{kind.name}.log").open("ab") as out:
            place.process = subprocess.Popen(
                [sys.executable, "-P", "-m", *what],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=clean,
                start_new_session=True,
            )
