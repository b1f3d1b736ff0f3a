"""How does a process of ours that needs torch come to be beside the ranks? As a rank does: forked from the zygote where
that can be had, or else a new one. Its standard output is its channel to the agent."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from jobs.agent.child import Child, Exit
from jobs.agent.nursery import Cold, Nursery

log = logging.getLogger(__name__)


def start(
    module: str,
    on_end: Callable[[Exit], None],
    *,
    nursery: Nursery | None,
    channel: socket.socket,
    log_file: Path,
    env: Mapping[str, str],
    cwd: Path,
) -> Child:
    """Run a module of `lastgood` at its end of the channel; what it prints goes to the log. Raises OSError."""
    with log_file.open("ab") as errors, os.fdopen(os.dup(channel.fileno()), "r+b", buffering=0) as output:
        if nursery is not None:
            try:
                return nursery.fork(("--", "-m", module), on_end, env=env, stdout=output, stderr=errors)
            except Cold as why:
                log.info("%s starts cold: %s", module, why)
        return Child((sys.executable, "-P", "-m", module), on_end, env=env, cwd=cwd, stdout=output, stderr=errors)
