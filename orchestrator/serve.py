"""What runs behind `lastgood serve`? One supervisor per home: lock, adopt, listen, wake, until told to end."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import fcntl
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from monitors import logbook
from monitors.clock import SystemClock, until_shared
from orchestrator import metrics_settings
from orchestrator.alerts.hook import HookNotifier
from orchestrator.companions import Companions
from orchestrator.core.actions import Alert
from orchestrator.core.policy import Severity
from orchestrator.daemon import Daemon
from orchestrator.door import Door
from orchestrator.home import Home
from orchestrator.journal import Journal, JournalUnavailable

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
HEARTBEAT_S = 2.0
COMPANIONS_S = 1.0
FAILED = 70
"""exit status, as EX_SOFTWARE of sysexits.h"""
NO_JOURNAL = 1
"""exit status, as of every command that cannot do its work: there is nothing wrong with us"""
TOLD_EVERY_S = 3600.0
IDLE_S = 900.0
"""a supervisor without a run goes away by itself; the next submission starts one"""


def lock(home: Home) -> int | None:
    """Hold the home for the life of this process; None when another supervisor does."""
    fd = os.open(home.root / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _publish(home: Home, port: int, started_at: float) -> None:
    from importlib.metadata import version

    body = {"host": HOST, "port": port, "pid": os.getpid(), "started_at": started_at, "version": version("lastgood")}
    draft = home.root / f".supervisor.{os.getpid()}"
    draft.write_text(json.dumps(body))
    os.replace(draft, home.root / "supervisor.json")


async def _every(seconds: float, work: object) -> None:
    assert callable(work)
    while True:
        await asyncio.sleep(until_shared(seconds))
        work()


def _beat(journal: Journal, now: float) -> None:
    """A decision of this moment has said it already."""
    if journal.beat_at < now - HEARTBEAT_S / 2:
        journal.heartbeat(now)


async def serve(home: Home) -> None:
    """Supervise until told to end; training goes on without us."""
    clock = SystemClock()
    journal = Journal(home.journal)
    last_alive, left = journal.last_heartbeat(), journal.has_left()
    daemon = Daemon(home, journal, clock)
    door = Door(daemon, home.token())
    companions = Companions(home)
    end = daemon.leaving
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    journal.heartbeat(clock.now())
    daemon.adopt(last_alive, left=left)
    port = await door.open(HOST, 0)
    _publish(home, port, clock.now())
    log.info("supervising on port %d: %s", port, ", ".join(daemon.runs) or "no run")
    tasks: list[asyncio.Future[Any]] = [
        asyncio.create_task(door.answer()),
        asyncio.create_task(_every(HEARTBEAT_S, lambda: _beat(journal, clock.now()))),
        asyncio.create_task(_every(COMPANIONS_S, lambda: companions.tend(daemon.specs(), clock.now()))),
        asyncio.create_task(_wake(daemon)),
        asyncio.create_task(_idle(daemon, end, home)),
        asyncio.create_task(end.wait()),
        door.failed,
    ]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()  # a loop that failed is our bug: raise it
    door.close()
    door.acknowledge()
    journal.leave(clock.now())


async def _wake(daemon: Daemon) -> None:
    while True:
        daemon.changed.clear()
        daemon.wake()
        try:
            await asyncio.wait_for(daemon.changed.wait(), daemon.wait_s(1.0))
        except TimeoutError:
            continue


async def _idle(daemon: Daemon, end: asyncio.Event, home: Home) -> None:
    quiet_s = 0.0
    while quiet_s < IDLE_S:
        await asyncio.sleep(5.0)
        # A dashboard and metrics are wanted until somebody says otherwise, and live beside a supervisor.
        shown = (home.root / "dashboard.json").exists() or metrics_settings.wanted(home, ())
        busy = daemon.runs or daemon.unsupervised or shown
        quiet_s = 0.0 if busy else quiet_s + 5.0
    log.info("no run for %.0f s: leaving", IDLE_S)
    end.set()


def main(argv: list[str] | None = None) -> int:
    """`python -P -m orchestrator.serve --home HOME`; returns only when there was nothing to do."""
    parser = argparse.ArgumentParser(prog="lastgood serve")
    parser.add_argument("--home", type=Path, required=True)
    home = Home(parser.parse_args(argv).home)
    home.create()
    held = lock(home)
    if held is None:
        print(f"another supervisor holds {home.root}: nothing to do", file=sys.stderr)
        return 0
    logbook.begin("lastgood-supervisor")
    faulthandler.enable()  # an agent that ends us because we hang sends SIGABRT first: the log then says where
    if home.off.exists():  # whoever asks for one takes this away first; an agent may have begun to start us before
        print(f"a person ended the supervisor of {home.root}: `lastgood serve` starts it", file=sys.stderr)
        return 0
    try:
        asyncio.run(_serve_and_leave(home))
    except JournalUnavailable as error:
        print(f"Error: {error}", file=sys.stderr, flush=True)
        _tell(home, error)
        os._exit(NO_JOURNAL)
    except BaseException as error:
        log.critical("the supervisor failed", exc_info=True)
        _tell(home, error)
    # No teardown: nothing here may be in a state worth tearing down, and replay starts from the journal.
    logging.shutdown()
    os._exit(FAILED)


async def _serve_and_leave(home: Home) -> None:
    await serve(home)
    log.info("leaving: training goes on")
    logging.shutdown()
    os._exit(0)  # a verifier that hangs on a dead mount must not hold us


def _tell(home: Home, error: BaseException) -> None:
    """A supervisor that cannot supervise is started anew for ever; a person must know, but not every half minute."""
    told = home.root / "failure-told"
    now = SystemClock().now()
    if told.exists() and now - told.stat().st_mtime < TOLD_EVERY_S:
        return
    text = f"{type(error).__name__}: {error}; the agents start it anew, training goes on unwatched: see supervisor.log"
    told.write_text(text)  # alerts read it there
    page = Alert(severity=Severity.CRITICAL, title="the supervisor failed", text=text, page=True)
    Companions(home).tend((), now)  # one that tells it, where none lives
    HookNotifier(home).alert_now(page)


if __name__ == "__main__":
    sys.exit(main())
