"""What is there to show of alerts? Channels, threads, silences and what was told, for pages and commands; no secret.

Read from HOME/alerts.yaml and HOME/alerts.db alone, so it is there while nothing runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jobs.errors import SpecError
from orchestrator.alerts import guides, reading
from orchestrator.alerts.config import FILE_NAME, Config
from orchestrator.alerts.desk import view_of
from orchestrator.alerts.message import RANK, Act, Message
from orchestrator.alerts.outbox import FILE_NAME as OUTBOX
from orchestrator.alerts.outbox import Health, Kept, Outbox, OutboxUnavailable
from orchestrator.alerts.rules import Route, Rules, Silence, matches
from orchestrator.alerts.threads import State, standing
from orchestrator.alerts.wording import message as worded
from orchestrator.home import Home

HISTORY = 2000
"""messages that the history is made of"""
UNCONFIGURED = "no alerts are configured: `lastgood alerts init` writes a file to begin with"


def shown(home: Home, now: float) -> dict[str, Any]:
    """Everything, as docs/contract.md says under Alerts."""
    config, why = _config(home)
    rules = Rules() if config is None else reading.rules(config, "", {})
    state, health, waiting, silences, kept, problem = _outbox(home, now, config)
    return {
        "configured": config is not None,
        "why": why or problem,
        "rules": [_rule(route, kept) for route in rules.routes],
        "channels": [] if config is None else _channels(config, rules.routes, health, waiting),
        "threads": _threads(state, rules, silences, now),
        "silences": [_silence(silence) for silence in silences],
        "history": _history(kept),
    }


def _config(home: Home) -> tuple[Config | None, str]:
    path = home.root / FILE_NAME
    if not path.exists():
        return None, UNCONFIGURED
    try:
        return reading.named(path), ""
    except SpecError as error:
        return None, str(error)


_Found = tuple[State, dict[str, Health], dict[str, int], tuple[Silence, ...], list[Kept], str]


def _outbox(home: Home, now: float, config: Config | None) -> _Found:
    nothing: _Found = (State(), {}, {}, (), [], "")
    path = home.root / OUTBOX
    if not path.exists():
        return nothing
    try:
        with Outbox(path, read_only=True) as outbox:
            found = outbox.desk()
            waiting = {name: outbox.waiting(name) for name in (config.channels if config is not None else ())}
            state = State() if found is None else found[0]
            return (
                state,
                outbox.health(),
                waiting,
                outbox.silences(now),
                outbox.newest(HISTORY),
                outbox.noted("config"),
            )
    except OutboxUnavailable as error:
        return (*nothing[:5], str(error))


def _rule(route: Route, kept: Iterable[Kept]) -> dict[str, Any]:
    told = {
        k.message.thread
        for k in kept
        if k.message.channel == route.to and route.is_for(k.message.run, k.message.kind) and k.message.run
    }
    which = [f"runs {route.runs}"] if route.runs != "*" else []
    which += [f"kinds {route.kinds}"] if route.kinds != "*" else []
    which += [f"when nobody acknowledged it for {route.after_s / 60:.0f} min"] if route.after_s else []
    return {
        "name": route.to,
        "severity": route.severity.value,
        "text": ", ".join(which) or "every run, every kind",
        "fires": len(told),
    }


def _channels(
    config: Config, routes: Iterable[Route], health: dict[str, Health], waiting: dict[str, int]
) -> list[dict[str, Any]]:
    found = []
    for name, channel in config.channels.items():
        one = health.get(name, Health(channel=name))
        ranks = [route.severity for route in routes if route.to == name]
        found.append(
            {
                "name": name,
                "kind": channel.service,
                "minimum": min(ranks, key=RANK.__getitem__).value if ranks else None,
                "last_at": one.tried_at,
                "last_ok": one.delivered_at,
                "last_error": one.error,
                "failing_since": one.failing_since,
                "waiting": waiting.get(name, 0),
            }
        )
    return found


def _threads(state: State, rules: Rules, silences: Iterable[Silence], now: float) -> list[dict[str, Any]]:
    """Those that stand, the newest first; also what nobody had to be told of yet."""
    known = Rules(guides=guides.built_in(), dashboard=rules.dashboard)
    found = []
    for thread in standing(state):
        view = view_of(state, thread, now, known)
        said = worded(view, thread.key, "", 0, Act.UPDATED)
        found.append(
            {
                "key": thread.key,
                "run": said.run or None,
                "incident": said.incident or None,
                "kind": said.kind,
                "severity": view.severity.value,
                "title": said.title,
                "condition": view.condition,
                "since": said.since,
                "acknowledged_by": view.acknowledged_by or None,
                "silenced": any(matches(s.run, thread.run) and matches(s.kind, thread.kind) for s in silences),
                "channels": sorted(thread.told),
            }
        )
    return sorted(found, key=lambda one: -(one["since"] or 0.0))


def _silence(silence: Silence) -> dict[str, Any]:
    return {
        "id": silence.id,
        "until": silence.until,
        "by": silence.by,
        "run": silence.run,
        "kind": silence.kind,
        "matches": f"run {silence.run}, kind {silence.kind}",
        "why": silence.why,
        "created_at": silence.created_at,
    }


def _history(kept: Iterable[Kept]) -> list[dict[str, Any]]:
    """Each thread as it was told last, the newest first."""
    found: dict[str, tuple[Message, set[str]]] = {}
    for one in kept:
        message = one.message
        found.setdefault(message.thread, (message, set()))[1].add(message.channel)
    return [
        {
            "at": message.at,
            "run": message.run or None,
            "incident": message.incident or None,
            "kind": message.kind,
            "severity": message.severity.value,
            "title": message.title,
            "state": message.act.value,
            "channels": sorted(channels),
        }
        for message, channels in found.values()
    ]
