"""What keeps the rows that a rank logged to W&B by itself, when the rank is killed? A service of wandb, outside of it.

Where the spec asks for it there is one for each world of the node: what a client has sent to it outlives the client,
and is uploaded. A service keeps the ids of its runs for itself, so the next world gets another one, and waits, for as
long as the spec allows, until the one before has uploaded all that it has. That goes on uploading by itself after that.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from jobs.agent import environment
from jobs.agent.place import Place
from jobs.spec import Spec

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-P", "-m", "wandb", "beta", "core")
VARIABLE = "WANDB_SERVICE"
MARK = "LASTGOOD_WANDB"
"""in a service's environment: how its process is found, which the command that starts it does not name"""
IDLE = "2m"
"""a service without clients ends by itself so long after an agent that could not end it"""
START_WITHIN_S = 60.0
LOOK_EVERY_S = 0.05


class Services:
    """The services of one node, one after the other."""

    def __init__(self, spec: Spec, place: Place, base: Mapping[str, str], changed: Callable[[], None]) -> None:
        """`changed` hears that a world may begin."""
        script = spec.tracker.script
        # It belongs to no attempt: what sweeps that must not end an upload.
        self._env = {**environment.of_no_attempt(base), **spec.env}
        self._wanted = script.service and VARIABLE not in self._env
        self._wait_s, self._log_file, self._changed = script.service_wait_s, place.folder / "wandb.log", changed
        self._number = 0
        self._current = ""
        """the address of the present world's; empty: it has none"""
        self._spare = ""
        self._task: asyncio.Task[None] | None = None
        """starts one, and waits for the end of one"""

    def ready(self) -> bool:
        """A world may begin: its service is there, or there will be none."""
        if self._task is None and self._wanted and not self._spare:
            self._task = asyncio.create_task(self._prepare(""))
        return self._task is None

    def take(self) -> str:
        """The address of the service of a world that begins; empty when it has none."""
        self._current, self._spare = self._spare, ""
        return self._current

    def over(self) -> None:
        """The world is over: let its service upload what it has, and end; and have the next one in hand."""
        if self._wanted and self._task is None:
            ended, self._current = self._current, ""
            self._task = asyncio.create_task(self._prepare(ended))

    def close(self) -> None:
        """No world follows: what there is uploads what it has, and ends, without us."""
        if self._task is not None:
            self._task.cancel()
        for address in filter(None, (self._current, self._spare)):
            env = {**self._env, VARIABLE: address}
            with suppress(OSError), self._log_file.open("ab") as log_file:
                stop = subprocess.Popen(
                    (*COMMAND, "stop"),
                    stdin=subprocess.DEVNULL,
                    stdout=log_file,
                    stderr=log_file,
                    env=env,
                    start_new_session=True,
                )
                stop.returncode = 0  # it outlives us: there is nothing to wait for

    async def _prepare(self, ended: str) -> None:
        last = self._number
        self._number += 1
        mark = {MARK: f"{os.getpid()}.{self._number}"}
        started, _ = await asyncio.gather(
            self._command("start", mark, "--idle-timeout", IDLE), self._end(ended, f"{os.getpid()}.{last}")
        )
        self._spare = started.strip()
        if not self._spare:
            log.warning("wandb's service was not started: see %s; ranks start their own", self._log_file)
            self._wanted = False
        self._task = None
        self._changed()

    async def _end(self, address: str, mark: str) -> None:
        if not address:
            return
        pid = _found(mark)
        await self._command("stop", {VARIABLE: address})
        deadline = asyncio.get_running_loop().time() + self._wait_s
        while pid is not None and asyncio.get_running_loop().time() < deadline:
            if not Path(f"/proc/{pid}").exists():
                return
            await asyncio.sleep(LOOK_EVERY_S)
        if pid is not None:
            log.warning("wandb's service of the last world still uploads after %.0f s: not waited for", self._wait_s)

    async def _command(self, verb: str, env: Mapping[str, str], *options: str) -> str:
        """What `wandb beta core` says; empty when it failed."""
        try:
            with self._log_file.open("ab") as errors:
                process = await asyncio.create_subprocess_exec(
                    *COMMAND,
                    verb,
                    *options,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=errors,
                    env={**self._env, **env},
                    start_new_session=True,
                )
                said, _ = await asyncio.wait_for(process.communicate(), START_WITHIN_S)
        except (OSError, TimeoutError) as error:
            log.warning("wandb beta core %s: %s", verb, error)
            return ""
        return said.decode() if process.returncode == 0 else ""


def _found(mark: str) -> int | None:
    """The process of the service that was started with this mark."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                return int(entry.name)
    return None
