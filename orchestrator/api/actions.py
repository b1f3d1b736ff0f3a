"""What may a person do, and what is that as a request and as a command? Buttons and commands ask for the same.

Pure: who asks, of what, becomes the request of `orchestrator/requests.py`; sending it is somebody else's.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.api.tokens import Role

LIVE = frozenset({"PENDING", "STARTING", "RUNNING", "RECOVERING"})
ENDED = frozenset({"SUCCEEDED", "STOPPED"})
TEXT_MOST = 2000
OF_INCIDENTS = ("acknowledge", "note", "judge", "resolve")
ELSEWHERE = ("pin", "cordon")
"""offered beside a checkpoint and a node"""


class BadRequest(ValueError):
    """A body or a parameter says nothing sensible; the text names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing a person may do."""

    done: str
    """sentence, once it is journalled"""
    fields: Mapping[str, Callable[[str, Any], Any]]
    """name of each field of the body to what reads it"""
    command: Callable[[str, Mapping[str, Any]], list[str]]
    """run and fields as words of the command line"""


def _flag(name: str, value: Any) -> bool:
    if value is None:
        return False
    if not isinstance(value, bool):
        raise BadRequest(f"{name}: must be true or false")
    return value


def _sure(name: str, value: Any) -> bool:
    if value is None:
        raise BadRequest(f"{name}: must be true or false")
    return _flag(name, value)


def _count(name: str, value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53):
        raise BadRequest(f"{name}: must be a whole number, or null")
    return value


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > TEXT_MOST:
        raise BadRequest(f"{name}: must be text of at most {TEXT_MOST} characters")
    return value.encode(errors="replace").decode()


def _word(name: str, value: Any) -> str:
    word = _text(name, value)
    if not word or len(word) > 200:
        raise BadRequest(f"{name}: must be given")
    return word


def _said(name: str, value: Any) -> str:
    text = _text(name, value).strip()
    if not text:
        raise BadRequest(f"{name}: must be given")
    return text


ACTIONS = {
    "stop": Action(
        done="the run ends",
        fields={"now": _flag},
        command=lambda run, f: ["stop", run, *(["--now"] if f["now"] else [])],
    ),
    "pause": Action(
        done="the run saves and leaves its devices",
        fields={"why": _text},
        command=lambda run, f: ["pause", run, *([f["why"]] if f["why"] else [])],
    ),
    "resume": Action(
        done="the run goes on",
        fields={"from_step": _count},
        command=lambda run, f: [
            "resume",
            run,
            *([] if f["from_step"] is None else ["--from-step", str(f["from_step"])]),
        ],
    ),
    "restart": Action(
        done="the run begins anew from its newest save",
        fields={"without": _count},
        command=lambda run, f: [
            "restart",
            run,
            *([] if f["without"] is None else ["--exclude", str(f["without"])]),
        ],
    ),
    "acknowledge": Action(
        done="it is noted that you see to it",
        fields={"incident": _word},
        command=lambda run, f: ["incident", "ack", run, f["incident"]],
    ),
    "note": Action(
        done="it is written down",
        fields={"incident": _word, "text": _said},
        command=lambda run, f: ["incident", "note", run, f["incident"], f["text"]],
    ),
    "judge": Action(
        done="it is noted",
        fields={"incident": _word, "right": _sure, "text": _text},
        command=lambda run, f: [
            *("incident", "judge", run, f["incident"], "right" if f["right"] else "wrong"),
            *([f["text"]] if f["text"] else []),
        ],
    ),
    "resolve": Action(
        done="it is noted that this is over",
        fields={"incident": _word, "text": _text},
        command=lambda run, f: ["incident", "resolve", run, f["incident"], *([f["text"]] if f["text"] else [])],
    ),
    "cordon": Action(
        done="it is noted",
        fields={"host": _word, "cordoned": _sure, "why": _text},
        command=lambda run, f: [
            *("nodes", "cordon" if f["cordoned"] else "uncordon", "--run", run, f["host"]),
            *([f["why"]] if f["why"] and f["cordoned"] else []),
        ],
    ),
    "pin": Action(
        done="it is noted",
        fields={"checkpoint": _word, "pinned": _sure},
        command=lambda run, f: ["ckpt", "pin" if f["pinned"] else "unpin", run, f["checkpoint"]],
    ),
}


def read(action: str, body: Any) -> dict[str, Any]:
    """The fields of a body. Raises BadRequest, also for a field that the action does not have."""
    fields = ACTIONS[action].fields
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    if unknown := [str(name)[:40] for name in body if name not in fields]:
        raise BadRequest(f"{action} has no field {unknown[0]!r}; it has {', '.join(fields)}")
    return {name: parse(name, body.get(name)) for name, parse in fields.items()}


def request(action: str, run: str, fields: Mapping[str, Any], by: str) -> dict[str, Any]:
    """What the supervisor is asked."""
    return {"ask": action, "run": run, **fields, "by": by}


def cli(action: str, run: str, fields: Mapping[str, Any]) -> str:
    """The same as a command, to copy into a shell."""
    return shlex.join(["lastgood", *ACTIONS[action].command(run, fields)])


def offered(run: str, status: Mapping[str, Any], role: Role, incident: str | None = None) -> Iterator[dict[str, Any]]:
    """Each action with whether it may be done now, and how a shell does it."""
    for name, action in ACTIONS.items():
        if name in ELSEWHERE or (incident is None and name in OF_INCIDENTS):
            continue
        example = {field: _EXAMPLES.get(field) for field in action.fields} | {"incident": incident}
        example |= {"text": "TEXT"} if name == "note" else {}
        why = "a viewer cannot act" if role is Role.VIEWER else _not_now(name, str(status["state"]))
        yield {"action": name, "allowed": not why, "why": why, "cli": cli(name, run, example)}


_EXAMPLES: dict[str, Any] = {"now": False, "why": "", "text": "", "right": True, "without": None}


def _not_now(action: str, state: str) -> str:
    if action in OF_INCIDENTS:
        return ""
    if action == "resume":
        return "" if state in ("HELD", "STOPPED", "PAUSED") else f"the run is {state}: there is nothing to resume"
    if action == "stop":
        return f"the run is {state} already" if state in ENDED else ""
    return "" if state in LIVE else f"the run is {state}"
