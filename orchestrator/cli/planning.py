"""What would a submission do? Where it runs, saves and restarts, who is told, and what TorchX is asked."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from jobs import launch
from jobs.spec import Spec
from monitors.clock import SystemClock
from orchestrator import runbooks
from orchestrator.alerts.shown import shown
from orchestrator.core.policy import Response, Rung
from orchestrator.home import Home, default

UNNAMED = "?????"
"""what a submission makes up, to tell runs of one name apart"""
WIDTH = 11


def plan(spec: Spec) -> dict[str, Any]:
    """The plan: `Plan` of docs/contract.md. Nothing is started or written."""
    home = default()
    run = f"{spec.name}-{UNNAMED}"
    return {
        "resources": {
            "scheduler": spec.scheduler,
            "nodes": spec.nodes,
            "ranks_per_node": spec.ranks_per_node,
            "ranks": spec.nodes * spec.ranks_per_node,
        },
        "saves": _saves(spec, home, run),
        "restarts": _restarts(spec),
        "alerts": _alerts(home),
        "torchx": launch.asked(spec, run=run, attempt=1, home=home.root),
    }


def _saves(spec: Spec, home: Home, run: str) -> dict[str, Any]:
    wanted = spec.checkpoint
    return {
        "folder": wanted.folder or str(home.run(run) / "checkpoints"),
        "every_steps": wanted.every_steps,
        "memory_every_steps": wanted.memory_every_steps,
        "keep": wanted.keep,
        "resume_from": wanted.resume_from,
    }


def _restarts(spec: Spec) -> list[dict[str, Any]]:
    own = spec.recovery.runbooks
    policy = runbooks.load(Path(own) if own is not None else None)
    return [_answer(kind.value, response) for kind, response in policy.responses.items()]


def _answer(kind: str, response: Response) -> dict[str, Any]:
    return {
        "kind": kind,
        "ladder": [rung.value for rung in response.ladder],
        "strikes_max": response.strikes_max,
        "window_s": response.window_s,
    }


def _alerts(home: Home) -> dict[str, Any]:
    found = shown(home, SystemClock().now())
    channels = [{name: one[name] for name in ("name", "kind", "minimum")} for one in found["channels"]]
    return {"channels": channels, "why": None if channels else found["why"] or "alerts.yaml names no channel"}


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The plan on a terminal."""
    parts = {
        "resources": [_resources(found["resources"])],
        "saves": _saving(found["saves"]),
        "restarts": _budgets(found["restarts"]),
        "alerts": _told(found["alerts"]),
        "torchx": [
            f"{found['torchx']['scheduler']} is asked, for each attempt:",
            *_plain({name: found["torchx"][name] for name in ("app", "config")}),
        ],
    }
    for name, said in parts.items():
        for number, line in enumerate(said):
            yield f"{name if number == 0 else '':{WIDTH}}{line}"


def _resources(wanted: dict[str, Any]) -> str:
    per_node = f"{wanted['nodes']} x {wanted['ranks_per_node']} (nodes x ranks of each)"
    return f"{per_node}: {wanted['ranks']} in all, through TorchX's {wanted['scheduler']}"


def _saving(wanted: dict[str, Any]) -> Iterable[str]:
    every, memory = wanted["every_steps"], wanted["memory_every_steps"]
    chosen = "chosen while it runs, from what a save costs and how often something fails"
    yield f"into {wanted['folder']}, by the SDK; a script without it saves by means of its own"
    yield f"interval: {chosen}" if every is None else f"every {every} steps; {wanted['keep']} good ones are kept"
    if memory == 0:
        yield "no copies in memory"
    else:
        yield f"copies in memory: {'as often as is cheap' if memory is None else f'every {memory} steps'}"
    if wanted["resume_from"] is not None:
        yield f"begins from {wanted['resume_from']}"


def _budgets(answers: list[dict[str, Any]]) -> Iterable[str]:
    """A line for all causes that have the same answer; the full pages are the runbooks."""
    answered = sorted((_budget(one), one["kind"]) for one in answers if one["ladder"] != [Rung.OBSERVE])
    for budget, group in groupby(answered, key=lambda pair: pair[0]):
        yield f"{', '.join(kind for _, kind in group)}: {budget}"
    yield f"{len(answers) - len(answered)} other kinds are only noted"


def _budget(one: dict[str, Any]) -> str:
    runs = [(rung, len(list(again))) for rung, again in groupby(one["ladder"])]
    steps = ", ".join(f"{rung} x{many}" if many > 1 else rung for rung, many in runs)
    if one["strikes_max"] == 0 or one["ladder"] == [Rung.HOLD]:
        return steps
    return f"{steps}; at most {one['strikes_max']} in {one['window_s'] / 3600:g} h"


def _told(alerts: dict[str, Any]) -> Iterable[str]:
    for one in alerts["channels"]:
        what = "nothing: no route leads to it" if one["minimum"] is None else f"from {one['minimum']} on"
        yield f"{one['name']} ({one['kind']}): {what}"
    if alerts["why"]:
        yield f"nobody: {alerts['why']}"


def _plain(value: Any, indent: str = "  ") -> Iterable[str]:
    """All that is set, a line each."""
    if isinstance(value, list):
        for one in value:
            yield from _plain(one, indent)
        return
    for name, inner in value.items():
        if inner in (None, {}, []):
            continue
        nested = isinstance(inner, dict) or (isinstance(inner, list) and isinstance(inner[0], dict))
        words = shlex.join(inner) if isinstance(inner, list) and not nested else inner
        yield f"{indent}{name}:" if nested else f"{indent}{name}: {words}"
        yield from _plain(inner, indent + "  ") if nested else ()
