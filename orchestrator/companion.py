"""What does a process beside the supervisor do first, and when does it end?

`python -P -m orchestrator.companion NAME MODULE`. It waits for the lock of its name, then does its work. It ends when
it is told to, when a supervisor of another version has come (whose own child waits for the lock), and some time after
the last supervisor has gone.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import importlib
import logging
import os
import signal
import sys
from pathlib import Path

from monitors import logbook
from monitors.clock import SystemClock
from orchestrator import client
from orchestrator.home import Home
from orchestrator.journal import Journal, JournalUnavailable
from orchestrator.journal.file import code_version

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
LEFT_S = 60.0
"""after a supervisor that ended in good order: what it said last is still delivered"""
LOST_S = 900.0
"""after one that did not: the agents start it anew within seconds, if anybody does"""


async def live(module: str, home: Home) -> None:
    """Work until there is a reason to end."""
    work = asyncio.create_task(importlib.import_module(module).companion(home))
    ends = asyncio.create_task(_superseded(home))
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    done, others = await asyncio.wait(
        (work, ends, asyncio.create_task(told.wait())), return_when=asyncio.FIRST_COMPLETED
    )
    for task in others:
        task.cancel()
    await asyncio.wait(others, timeout=5.0)
    for task in done:
        task.result()


async def _superseded(home: Home) -> None:
    clock = SystemClock()
    seen_at = clock.now()
    while True:
        address = client.running(home)
        if address is None:
            if clock.now() - seen_at > (LEFT_S if _left(home) else LOST_S):
                log.info("no supervisor any more: leaving")
                return
        else:
            seen_at = clock.now()
            if address.version != code_version():
                log.info("the supervisor is of version %s: leaving", address.version)
                return
        await asyncio.sleep(LOOK_EVERY_S)


def _left(home: Home) -> bool:
    try:
        with Journal(home.journal, read_only=True) as journal:
            return journal.has_left()
    except JournalUnavailable:
        return False


def main(argv: list[str] | None = None) -> int:
    """Be a companion of the supervisor of a state folder."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.companion")
    parser.add_argument("name", help="of its lock in the state folder")
    parser.add_argument("module", help="has `async def companion(home: Home) -> None`")
    parser.add_argument("--home", type=Path, required=True)
    asked = parser.parse_args(argv)
    home = Home(asked.home)
    logbook.begin(f"lastgood-{asked.name}")
    fd = os.open(home.root / f"{asked.name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)  # until another one of this name has ended
    asyncio.run(live(asked.module, home))
    return 0


if __name__ == "__main__":
    sys.exit(main())
