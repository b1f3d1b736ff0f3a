"""How does a process of ours that needs torch come to be beside the ranks? As a rank does: forked from the zygote where
that can be had, or else a new one. Its standard output is its channel to the agent."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from jobs.agent import environment
from jobs.agent.child import Child, Exit
from jobs.agent.nursery import Cold, Nursery
from jobs.agent.place import Place
from jobs.spec import Spec

log = logging.getLogger(__name__)


def start(
    name: str,
    on_end: Callable[[Exit], None],
    *,
    place: Place,
    spec: Spec,
    nursery: Nursery | None,
    channel: socket.socket,
) -> Child:
    """Run the module `lastgood.NAME` at its end of the channel; what it prints goes to `NAME.log`. Raises OSError."""
    module, log_file, cwd = f"lastgood.{name}", place.folder / f"{name}.log", Path(spec.workdir)
    env = environment.of_aide(os.environ, spec, place)
    with log_file.open("ab") as errors, os.fdopen(os.dup(channel.fileno()), "r+b", buffering=0) as output:
        if nursery is not None:
            try:
                return nursery.fork(("--", "-m", module), on_end, env=env, stdout=output, stderr=errors)
            except Cold as why:
                log.info("%s starts cold: %s", module, why)
        return Child((sys.executable, "-P", "-m", module), on_end, env=env, cwd=cwd, stdout=output, stderr=errors)
