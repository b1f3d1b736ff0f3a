"""How does an attempt get to the scheduler? One short-lived process per submission: `python -P -m jobs.launch REQUEST`.

TorchX runs local apps inside the process that submits them: it replaces that process's signal handlers, kills every app
when it is collected, and forgets them when it ends. So the submission has a process of its own, which ends in
`os._exit` before TorchX can clean up, and what was started is written down by us.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import select
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs import registry
from monitors.clock import Clock, SystemClock

if TYPE_CHECKING:
    from jobs.spec import Spec

SESSION = "lastgood"
"""TorchX's name for who submitted: a folder of its logs and a part of the handle."""
SWEEP_S = 5.0
SETTLE_S = 3.0
"""for an agent to import what it needs and write agent.json; after that it is the supervisor's to miss it"""
LOOK_EVERY_S = 0.02
CHECK = "--check"
"""`python -P -m jobs.launch --check SCHEDULER HOME`: see `check`"""
_UNCOLLECTED: list[Any] = []


class Refused(Exception):
    """The attempt must not be submitted."""


def main(argv: list[str]) -> None:
    """Submit the attempt of a request file, print one line of JSON, and end without TorchX's clean-up."""
    if argv[0] == CHECK:
        return check(argv[1], Path(argv[2]))
    request = json.loads(Path(argv[0]).read_text())
    home, run, attempt = Path(request["home"]), str(request["run"]), int(request["attempt"])
    _wear_the_mark(registry.mark(run, attempt), argv)
    status = 1
    try:
        answer = _answer(home, run, attempt, tuple(request.get("exclude", ())))
        status = 0 if answer["ok"] else 1
        print(json.dumps(answer), flush=True)
    finally:
        # Also when nobody reads the answer any more: TorchX's clean-up would end what was started.
        os._exit(status)


def _answer(home: Path, run: str, attempt: int, exclude: tuple[str, ...]) -> dict[str, Any]:
    try:
        return {"ok": True, **registry.as_json(submit(home, run, attempt, SystemClock(), exclude))}
    except Exception as error:
        # The boundary of the port: whatever TorchX or the file system raised is a reason why the launch failed.
        return {"ok": False, "why": f"{type(error).__name__}: {error}"}


def _wear_the_mark(mark: str, argv: list[str]) -> None:
    """Begin anew with the mark in the environment, so that ending the attempt also ends a launcher at work."""
    if os.environ.get(registry.MARK) != mark:
        words = [sys.executable, "-P", "-m", registry.LAUNCHER, *argv]
        os.execve(sys.executable, words, {**os.environ, registry.MARK: mark})


def submit(home: Path, run: str, attempt: int, clock: Clock, exclude: tuple[str, ...] = ()) -> registry.Record:
    """Submit an attempt unless it was submitted before. Raises Refused, or whatever TorchX raises."""
    folder = registry.attempt_folder(home, run, attempt)
    folder.mkdir(parents=True, exist_ok=True)
    with _claim(folder):
        known = registry.read(home, run, attempt)
        if known is not None:
            return known
        if registry.ended(home, run, attempt):
            raise Refused(f"attempt {attempt} of {run} was ended: it is not started again")
        from jobs.spec import EXCLUDING, Spec

        spec = Spec.model_validate_json((home / "runs" / run / "spec.json").read_text())
        if exclude and spec.scheduler not in EXCLUDING:
            raise Refused(f"{spec.scheduler} cannot leave out {', '.join(exclude)}")
        record = _adopt(spec, run, attempt, clock) or _launch(spec, home, run, attempt, clock)
        registry.write(home, record)
        return record


@contextmanager
def _claim(folder: Path) -> Iterator[None]:
    """One submission of an attempt at a time; the kernel gives the claim back whatever happens to its holder."""
    with (folder / "claim").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _adopt(spec: Spec, run: str, attempt: int, clock: Clock) -> registry.Record | None:
    """The record of agents that a launcher started and could not write down; half a set of them is ended."""
    found = registry.agents(run, attempt)
    if [agent.node for agent in found] == list(range(spec.nodes)):
        return _record(spec, run, attempt, clock, handle="", agents=found, adopted=True)
    # A child that a dead launcher forked would hold the claim with it: there is none. Who waits for it is spared.
    left = registry.sweep(run, attempt, within_s=SWEEP_S, clock=clock, launchers=False)
    if left:
        raise Refused(f"processes {left} of an earlier submission of this attempt do not end")
    return None


def _launch(spec: Spec, home: Path, run: str, attempt: int, clock: Clock) -> registry.Record:
    from torchx.runner import Runner

    from jobs.app import app

    # It advises about GPUs and logs what we log; what is wrong it raises.
    logging.getLogger("torchx").setLevel(logging.ERROR)
    folder = registry.attempt_folder(home, run, attempt)
    # TorchX's local scheduler starts agents in its own working directory and reads .torchxconfig there.
    os.chdir(folder)
    runner = Runner(SESSION, {spec.scheduler: _local_scheduler()})
    # When the runner is collected it kills what it started: it must live until `os._exit`.
    _UNCOLLECTED.append(runner)
    try:
        handle = runner.run(app(spec, run=run, attempt=attempt, home=home), spec.scheduler, cfg=_config(spec, folder))
        agents = _started(spec, run, attempt, folder, clock)
    except BaseException:
        registry.sweep(run, attempt, within_s=SWEEP_S, clock=clock, launchers=False)
        raise
    return _record(spec, run, attempt, clock, handle=str(handle), agents=agents)


def _config(spec: Spec, folder: Path) -> dict[str, Any]:
    return {
        # Without it TorchX logs to a temporary folder, and may delete a folder of ours instead of it when it closes.
        "log_dir": str(folder / "torchx"),
        # One agent sees every GPU of its host; several on one host must share them out.
        "auto_set_cuda_visible_devices": spec.nodes > 1 and shutil.which("nvidia-smi") is not None,
    }


def asked(spec: Spec, *, run: str, attempt: int, home: Path) -> dict[str, Any]:
    """What TorchX would be asked for this attempt, as plain values; nothing is started."""
    from jobs.app import app

    wanted = asdict(app(spec, run=run, attempt=attempt, home=home))
    config = _config(spec, registry.attempt_folder(home, run, attempt))
    return {"scheduler": spec.scheduler, "app": json.loads(json.dumps(wanted, default=str)), "config": config}


def check(scheduler: str, home: Path) -> None:
    """Let TorchX prepare an attempt for this scheduler, and submit nothing. Raises whatever it raises."""
    from torchx.runner import Runner

    from jobs.app import app
    from jobs.spec import Spec

    logging.getLogger("torchx").setLevel(logging.ERROR)
    spec = Spec.model_validate({"name": "doctor", "command": "true", "python": False, "scheduler": scheduler})
    config = _config(spec, registry.attempt_folder(home, spec.name, 1))
    Runner(SESSION, {scheduler: _local_scheduler()}).dryrun(
        app(spec, run=spec.name, attempt=1, home=home), scheduler, cfg=config
    )


def _local_scheduler() -> Any:
    from torchx.schedulers.local_scheduler import create_scheduler

    return create_scheduler


def _started(spec: Spec, run: str, attempt: int, folder: Path, clock: Clock) -> tuple[registry.Process, ...]:
    """The agents that run now, by the process table: TorchX has no public way to tell their numbers.

    Raises RuntimeError with the last words of one that ended before it was an agent: a broken installation, most often.
    """
    known: dict[int, registry.Process] = {}
    deadline = clock.now() + SETTLE_S
    while True:
        # Read anew each time: a process in the middle of its exec shows no environment yet.
        known |= {agent.node: agent for agent in registry.agents(run, attempt)}
        ended = {node for node, agent in known.items() if not registry.alive(agent.pid, agent.started_at)}
        settled = all((folder / f"node{node}" / "agent.json").exists() for node in range(spec.nodes))
        if ended or settled or clock.now() >= deadline:
            break
        select.select([], [], [], LOOK_EVERY_S)
    missing = ended | (set(range(spec.nodes)) - known.keys())
    if missing:
        node = min(missing)
        raise RuntimeError(f"the agent of node {node} ended at once: {_last_words(folder, node)}")
    return tuple(known[node] for node in sorted(known))


def _last_words(folder: Path, node: int) -> str:
    """The last line an agent wrote before it ended."""
    for path in (folder / "torchx").glob(f"*/*/agent/{node}/stderr.log"):
        lines = path.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")
    return "it has no log"


def _record(
    spec: Spec,
    run: str,
    attempt: int,
    clock: Clock,
    *,
    handle: str,
    agents: tuple[registry.Process, ...],
    adopted: bool = False,
) -> registry.Record:
    return registry.Record(
        run=run,
        attempt=attempt,
        handle=handle,
        scheduler=spec.scheduler,
        host=os.uname().nodename,
        at=clock.now(),
        agents=agents,
        adopted=adopted,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
