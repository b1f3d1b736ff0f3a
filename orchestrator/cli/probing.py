"""Will it recover? A trial of a spec in the foreground: trained, hurt, watched coming back, and stopped."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.spec import Checkpoints, Spec
from jobs.spec_tracker import Tracker
from monitors.clock import SystemClock
from orchestrator import comeback, contract
from orchestrator.cli.following import LOOK_EVERY_S, Telling, shown
from orchestrator.cli.outcome import Exit
from orchestrator.cli.runs import print_answer
from orchestrator.cli.steering import me, ordered
from orchestrator.cli.text import size
from orchestrator.comeback import Seen, Stage, Standing
from orchestrator.home import default
from orchestrator.story import seconds

if TYPE_CHECKING:
    from collections.abc import Callable

SUFFIX = "-probe"
NAME_MOST = 40 - len(SUFFIX)
END_S = 60.0
"""for the processes of the probe's run to end; the supervisor goes on ending them after that"""
OVER = ("SUCCEEDED", "STOPPED")
"""HELD is not: a person would be asked for it"""
PHASES = ("detect", "decide", "stop", "wait", "start", "restore", "first_step")
SHORT_S = 0.01
"""a decision or a wait below it is not worth a word on a terminal"""


def trial(spec: Spec) -> Spec:
    """The spec of a probe: the same program, saving soon and into its own run's folder, and told to no tracker."""
    first = spec.checkpoint.resume_from
    own = {"folder": None, "every_steps": comeback.SAVE_EVERY_STEPS, "keep": 1, "resume_from": first}
    changes = {
        "name": spec.name[:NAME_MOST].rstrip("-") + SUFFIX,
        "checkpoint": Checkpoints.model_validate(spec.checkpoint.model_dump() | own),
        "tracker": Tracker(),
    }
    return spec.model_copy(update=changes)


def probe(spec: Spec, submit: Callable[[Spec], str], timeout_s: float, *, as_json: bool) -> int:
    """Play it and say how it ended; the run ends with it, also on Ctrl-C."""
    root = default().root
    with _ended_by_hand():
        run = submit(trial(spec))
        try:
            click.echo(f"probing {spec.name} as {run}; Ctrl-C stops it", err=True)
            _unheard(root, run, timeout_s + END_S)
            with shown() as view:
                standing, seen = _until_judged(root, spec, run, timeout_s, Telling(root, run, view))
        finally:
            _end(root, run)
    if as_json:
        print_answer(**answer(run, standing, seen))
    else:
        _tell(run, standing, seen)
        _tell_saves(seen)
    return Exit.SUCCEEDED if standing.stage is Stage.PASSED else Exit.FAILED


@contextmanager
def _ended_by_hand() -> Iterator[None]:
    """What else ends a command in the foreground counts as Ctrl-C: nobody else would stop the run."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _unheard(root: Path, run: str, for_s: float) -> None:
    """Whoever probes sits before it: a run that is given up on purpose wakes nobody."""
    from orchestrator.alerts import config, outbox
    from orchestrator.alerts.rules import Silence

    if not (root / config.FILE_NAME).exists():
        return
    now = SystemClock().now()
    with outbox.Outbox(root / outbox.FILE_NAME) as kept:
        kept.silence(Silence(id=0, until=now + for_s, run=run, by=me(), why="a probe", created_at=now))


def _until_judged(root: Path, spec: Spec, run: str, timeout_s: float, telling: Telling) -> tuple[Standing, Seen]:
    clock, quiet_s = SystemClock(), _quiet_s(spec)
    deadline, kills, refused = clock.now() + timeout_s, 0, ""
    while True:
        status = contract.status(root, run)
        telling.go_on(status)
        seen = _seen(root, run, status, kills=kills, quiet_s=quiet_s, at=clock.now())
        standing = comeback.judged(seen)
        if standing.stage in (Stage.PASSED, Stage.FAILED):
            return standing, seen
        if standing.stage is Stage.KILL:
            refused = _kill(root, run, status["ranks"] - 1)
            kills += not refused
        if clock.now() > deadline:
            what = standing.why if standing.stage is Stage.WAITS else refused or "the fault to be noticed"
            why = f"not within {seconds(timeout_s)} (--probe-timeout): it waited for {what}"
            return Standing(stage=Stage.FAILED, why=why), seen
        select.select([], [], [], LOOK_EVERY_S)


def _seen(root: Path, run: str, status: dict[str, Any], *, kills: int, quiet_s: float | None, at: float) -> Seen:
    story = contract.story(root, run)
    newest = story["worlds"][-1]["number"] if story["worlds"] else 0
    logs = (root / "runs" / run).glob(f"attempts/*/node*/w{newest}/rank*/std*.log")
    return Seen(
        at=at,
        status=status,
        incidents=story["incidents"],
        worlds=story["worlds"],
        checkpoints=contract.checkpoints(root, run)["checkpoints"],
        kills=kills,
        spoke=any(path.stat().st_size for path in logs),
        quiet_s=quiet_s,
    )


def _quiet_s(spec: Spec) -> float | None:
    """How long ranks must live that no step is heard of; None: their steps are read from the log."""
    if spec.progress.pattern is not None:
        return None
    script = Path(spec.workdir, spec.argv[0])
    if not spec.python or (script.is_file() and b"lastgood" not in script.read_bytes()):
        return comeback.STEADY_S
    return comeback.UNTOLD_S


def _kill(root: Path, run: str, rank: int) -> str:
    """Why it was refused; empty when it was not."""
    from orchestrator.injection import inject

    try:
        inject(root, run, comeback.DRILL, rank, by=me())
    except LookupError as error:  # it may be possible at the next look
        return str(error.args[0])
    return ""


def _end(root: Path, run: str) -> None:
    """Stop the run, whatever state it is in: one that is held would ask for a person."""
    if contract.status(root, run)["state"] in OVER:
        return None
    ordered(root, {"ask": "stop", "run": run, "now": True})
    clock = SystemClock()
    deadline = clock.now() + END_S
    while contract.status(root, run)["state"] not in OVER:
        if clock.now() > deadline:
            return click.echo(f"{run} still ends: see `lastgood status {run}`", err=True)
        select.select([], [], [], LOOK_EVERY_S)
    return None


def answer(run: str, standing: Standing, seen: Seen) -> dict[str, Any]:
    """The JSON: `Probed` of docs/contract.md."""
    fault = seen.fault
    told = fault is not None and comeback.tells_steps(seen, fault)
    return {
        "run": run,
        "passed": standing.stage is Stage.PASSED,
        "why": standing.why,
        "uses_sdk": seen.uses_sdk,
        "incident": None if fault is None else fault["id"],
        "phases_s": None if fault is None else fault["phases_s"],
        "steps_lost": fault["steps_lost"] if fault is not None and told and seen.uses_sdk else None,
        "restored": None if fault is None else comeback.restored(seen, fault),
        "restarts": seen.status["restarts"],
        "unjudged": comeback.unjudged(seen),
    }


def _tell(run: str, standing: Standing, seen: Seen) -> None:
    found = answer(run, standing, seen)
    word = click.style("PASS", fg="green") if found["passed"] else click.style("FAIL", fg="red")
    click.echo(f"{word}  {run}: {standing.why}")
    if found["passed"]:
        click.echo(f"      {_lengths(found['phases_s'])}")
        if found["restored"] is not None:
            click.echo(f"      went on from {found['restored']}; steps lost: {found['steps_lost']}")
        for what in found["unjudged"]:
            click.echo(f"      not judged: {what}")
        return click.echo(f"      see: lastgood story {run}")
    named = any(one["subject"]["rank"] is not None for one in seen.incidents)
    return click.echo(f"      see: lastgood story {run}; lastgood logs {run} --rank {'culprit' if named else 'all'}")


def _lengths(spent: dict[str, float | None]) -> str:
    known = {name: value for name in PHASES if (value := spent[name]) is not None}
    told = {name: value for name, value in known.items() if value >= SHORT_S or name not in ("decide", "wait")}
    total = spent["total"]
    parts = ", ".join(f"{name.replace('_', ' ')} {seconds(value)}" for name, value in told.items())
    return parts if total is None else f"{parts}; {seconds(total)} in all"


def _tell_saves(seen: Seen) -> None:
    """A probe leaves its saves for whoever wants to look, and says what they take."""
    if taken := sum(one["bytes"] for one in seen.checkpoints if one["world"] > 0):
        folder = os.path.dirname(seen.checkpoints[-1]["path"])
        click.echo(f"its saves take {size(taken)}: rm -r {folder}", err=True)
