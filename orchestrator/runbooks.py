"""What do the runbooks say? From `runbooks/KIND.md` to the policy the core decides with, and the page a person reads.

A runbook is YAML front matter between two lines of `---`, which is the policy, and Markdown below it, which is for
people. A user's own folder replaces built-in pages of the same file name, whole.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from jobs import document
from jobs.errors import SpecError
from monitors import wire
from monitors.incidents import Blame, Kind
from orchestrator.core.policy import Paging, Policy, Response, Rung, Severity

BUILT_IN = Path(__file__).parent.parent / "runbooks"
"""Beside this package, in a checkout and in an installed wheel alike."""
FENCE = "---\n"
SECTIONS = ("Meaning", "Impact", "What lastgood already did", "Diagnosis", "Mitigation", "Drill")
"""Headings of a page, in this order: what is it, how bad, what was done, why, what can I do, how do I rehearse it."""

Parse = Callable[[Any], Any]
Member = TypeVar("Member", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """How the incident is provoked on purpose."""

    name: str
    """its row in the table of drills that the tests run"""
    command: str
    """what a person types; RUN, PID and FILE stand for what they know"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The front matter of one page."""

    kind: Kind
    title: str
    response: Response
    drill: Drill


def load(folder: Path | None = None) -> Policy:
    """The policy of all runbooks, with those of `folder` in the place of built-in ones of the same name.

    Raises SpecError, naming file, line and key, for a page that does not say exactly what is to be done.
    """
    files = _files(folder)
    responses = {kind: _read_front(files[kind]).response for kind in Kind}
    # Over the values, not the text: a reworded comment is the same policy, and no event in anybody's journal.
    lines = (f"{kind} {wire.dumps(response)}" for kind, response in responses.items())
    return Policy(version=hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12], responses=responses)


def front(kind: Kind, folder: Path | None = None) -> Front:
    """The front matter of the page of `kind`. Raises SpecError."""
    return _read_front(_files(folder)[kind])


def page(kind: Kind, folder: Path | None = None) -> str:
    """The Markdown that a person reads about `kind`. Raises SpecError."""
    return _split(_files(folder)[kind])[1].strip() + "\n"


def _files(folder: Path | None) -> dict[Kind, Path]:
    files = {kind: BUILT_IN / f"{kind}.md" for kind in Kind}
    return files if folder is None else files | _overrides(folder)


def _overrides(folder: Path) -> dict[Kind, Path]:
    if not folder.is_dir():
        raise SpecError(f"recovery.runbooks: {folder} is not a folder")
    pages = [file for file in sorted(folder.glob("*.md")) if file.name != "README.md"]
    try:
        return {_member(Kind)(file.stem): file for file in pages}
    except ValueError as error:
        raise SpecError(f"{folder}: a runbook is named after the kind of incident it answers: {error}") from None


def _split(file: Path) -> tuple[str, str]:
    """Front matter and page."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{file}: cannot be read: {error}") from None
    head, end, body = text.removeprefix(FENCE).partition(f"\n{FENCE}")
    if not text.startswith(FENCE) or not end:
        raise SpecError(f"{file}:1: needs front matter: the first line is '---', and a line '---' ends it")
    return head, body


def _read_front(file: Path) -> Front:
    head = _split(file)[0]
    # The fence is the file's first line, so the front matter's line n is the file's line n + 1.
    data, places = document.value_of(head, lambda line: f"{file}:{line + 1}", str(file))
    where: dict[document.Key, str] = {(): f"{file}:1"} | {key: place.where for key, place in places.items()}
    values = _parsed(data, _FIELDS, where)
    kind, title, drill = values.pop("kind"), values.pop("title"), values.pop("drill")
    if kind != file.stem:
        raise SpecError(f"{where['kind',]}: kind: is {str(kind)!r}, but the file is {file.name}")
    response = Response(**{_ATTRIBUTES.get(name, name): value for name, value in values.items()})
    drill = Drill(**_parsed(drill, _DRILL_FIELDS, where, ("drill",)))
    return Front(kind=kind, title=title, response=response, drill=drill)


def _parsed(
    data: Any, fields: Mapping[str, Parse], where: Mapping[document.Key, str], key: document.Key = ()
) -> dict[str, Any]:
    """The values of one mapping, each parsed by its field; a problem is reported at the line of its key."""
    at = f"{where[key]}: " + (f"{document.dotted(key)}: " if key else "")
    if not isinstance(data, dict):
        raise SpecError(f"{at}must be a mapping of {', '.join(fields)}")
    values = {}
    for name, value in data.items():
        below = (*key, name)
        try:
            values[name] = fields[_spelt(name, fields, "key")](value)
        except ValueError as error:
            raise SpecError(f"{where[below]}: {document.dotted(below)}: {error}") from None
    # Last, because a key that is missing is most often there, misspelt.
    if missing := [name for name in fields if name not in data and name not in _OPTIONAL]:
        raise SpecError(f"{at}lacks {', '.join(missing)}")
    return values


def _spelt(word: Any, allowed: Iterable[str], what: str) -> str:
    """The word, when it is allowed. Raises ValueError with what is, and what was probably meant."""
    words = list(map(str, allowed))
    if word in words:
        return str(word)
    near = get_close_matches(str(word), words, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{word!r} is no {what}; allowed: {', '.join(words)}{hint}")


def _member(enum: type[Member]) -> Callable[[Any], Member]:
    return lambda value: enum(_spelt(value, enum, enum.__name__.lower()))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r} is no text")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def _count(least: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{value!r} is no whole number of at least {least}")
        return value

    return parse


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _seconds(value: Any) -> float:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise ValueError(f"{value!r} is no duration; write it with its unit, such as 90s, 5m, 1h or 1d")
    return float(match[1]) * _UNIT_S[match[2]]


def _window(value: Any) -> float:
    seconds = _seconds(value)
    if math.isclose(seconds, 0.0):
        raise ValueError("a window of no length would never count a strike")
    return seconds


def _some(parse: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def parse_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not value:
            raise ValueError(f"{value!r} is no list; write [first, second, ...]")
        return tuple(map(parse, value))

    return parse_all


def _ladder(value: Any) -> tuple[Rung, ...]:
    """The rungs. Some orders would be a policy on paper only, because the core never comes to the later rungs."""
    rungs: tuple[Rung, ...] = _some(_member(Rung))(value)
    if Rung.OBSERVE in rungs and len(rungs) > 1:
        raise ValueError("observe stands alone: what is only observed is not counted, so no rung could follow it")
    if Rung.HOLD in rungs[:-1]:
        raise ValueError("hold is the last rung: a held run waits for a person")
    return rungs


_FIELDS: dict[str, Parse] = {
    "kind": _member(Kind),
    "title": _text,
    "severity": _member(Severity),
    "blame": _member(Blame),
    "ladder": _ladder,
    "strikes_max": _count(0),
    "window": _window,
    "backoff": _some(_seconds),
    "taints": _flag,
    "witnesses": _count(1),
    "page": _member(Paging),
    "drill": lambda value: value,
}
_DRILL_FIELDS: dict[str, Parse] = {"name": _text, "command": _text}
_OPTIONAL = frozenset({"backoff", "taints", "witnesses", "page"})
"""Left out, these take the defaults of Response; a built-in page says them all."""
_ATTRIBUTES = {"window": "window_s", "backoff": "backoff_s"}
