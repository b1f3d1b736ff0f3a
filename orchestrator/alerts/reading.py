"""What stands in `HOME/alerts.yaml`? Checked as a spec is: file, key, what is allowed, what was probably meant.

A secret stands in it as `${NAME}` (an environment variable), as `file:/path`, or as it is; the file must then be closed
to others. Nothing here shows a secret in an error.
"""

from __future__ import annotations

import difflib
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, SecretStr

from jobs.checked import checked
from jobs.document import Document, Key, dotted, read
from jobs.errors import SpecError
from orchestrator.alerts.config import Config, Quiet, seconds
from orchestrator.alerts.rules import Guide, Route, Rules
from orchestrator.core.policy import Severity

_VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The file, read."""

    config: Config
    """with its secrets in the place of what named them"""
    secrets: tuple[str, ...]
    """what must never be shown"""


def load(path: Path, environ: Mapping[str, str]) -> Loaded:
    """The file, with its secrets looked up. Raises SpecError."""
    document, config = _read(path)
    return Loaded(secrets=_put_in(document, config, environ), config=checked(Config, document))


def named(path: Path) -> Config:
    """The file as it was written: in the place of a secret stands what names it. Raises SpecError."""
    return _read(path)[1]


def _read(path: Path) -> tuple[Document, Config]:
    try:
        body, mode = path.read_bytes(), path.stat().st_mode
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file; `lastgood alerts init` writes one") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    document = read(str(path), body, kind="file of alerts", begin="lastgood alerts init")
    config = checked(Config, document)
    _check_names(config, document)
    if stat.S_IMODE(mode) & 0o077 and not all(_is_named(secret) for _, secret in _secrets(config, ())):
        raise SpecError(f"{path}: holds secrets, and others may read it: chmod 600 {path}")
    return document, config


def _put_in(document: Document, config: Config, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The secrets, and each in the document in the place of what named it. Raises SpecError."""
    found: list[str] = []
    problems: list[str] = []
    for key, secret in _secrets(config, ()):
        try:
            value = _looked_up(secret, environ)
            if key[-1] in ("url", "webhook") and not re.match(r"https?://[^/\s]+", value):
                raise ValueError("must begin with https:// or http://")
        except ValueError as error:
            problems.append(f"{document.place(key).where}: {dotted(key)}: {error}")
            continue
        found.append(value)
        document.value(key[:-1])[key[-1]] = value
    if problems:
        raise SpecError(*problems)
    return tuple(found)


def _secrets(part: BaseModel, key: Key) -> Iterator[tuple[Key, str]]:
    """Key and text of every secret that was written."""
    for name in type(part).model_fields:
        value = getattr(part, name)
        below = value.items() if isinstance(value, dict) else ((None, value),)
        for item, one in below:
            at: Key = (*key, name) if item is None else (*key, name, item)
            if isinstance(one, SecretStr):
                yield at, one.get_secret_value()
            elif isinstance(one, BaseModel):
                yield from _secrets(one, at)


def _is_named(text: str) -> bool:
    """It says where the secret is, not what it is."""
    return text.startswith("file:/") or _VARIABLE.search(text) is not None


def _looked_up(text: str, environ: Mapping[str, str]) -> str:
    """The secret. Raises ValueError."""
    if text.startswith("file:/"):
        return _of_file(Path(text.removeprefix("file:")))
    missing = [name for name in _VARIABLE.findall(text) if name not in environ]
    if missing:
        raise ValueError(
            f"the environment has no {', '.join(missing)}; set it where the supervisor is started "
            "(`lastgood serve -d`), or write file:/path"
        )
    found = _VARIABLE.sub(lambda match: environ[match[1]], text)
    if not found:
        raise ValueError("is empty")
    return found


def _of_file(path: Path) -> str:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ValueError(f"{path}: others may read it: chmod 600 {path}")
        found = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None
    if not found:
        raise ValueError(f"{path}: is empty")
    return found


def _check_names(config: Config, document: Document) -> None:
    """Every channel that is told of something is there. Raises SpecError."""
    named: list[tuple[Key, str]] = [(("routes", at, "to"), route.to) for at, route in enumerate(config.routes)]
    named += [(("digest", "to", at), name) for at, name in enumerate(config.digest.to)]
    problems = []
    for key, name in named:
        if name not in config.channels:
            near = difflib.get_close_matches(name, config.channels, n=1)
            meant = f'did you mean "{near[0]}"? ' if near else ""
            known = ", ".join(sorted(config.channels))
            problems.append(f"{document.place(key).where}: {dotted(key)}: no channel '{name}'; {meant}there is {known}")
    for name in config.channels:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}", name):
            where = document.place(("channels", name)).where
            problems.append(f"{where}: channels.{name[:40]}: a name has 1 to 40 letters, digits and _.-")
    if problems:
        raise SpecError(*problems)


def rules(config: Config, home: str, guides: Mapping[str, Guide]) -> Rules:
    """What the desk decides by."""
    return Rules(
        home=home,
        routes=tuple(_routes(config)),
        digest_to=config.digest.to or _talkative(config),
        by_run=config.group.by == "run and cause",
        wait_s=seconds(config.group.wait),
        interval_s=seconds(config.group.interval),
        repeat_s=seconds(config.repeat),
        error_s=seconds(config.late.error),
        page_s=seconds(config.late.page),
        lost_s=seconds(config.late.supervisor),
        channel_s=seconds(config.late.channel),
        dashboard=config.dashboard or "",
        guides=dict(guides),
    )


def _routes(config: Config) -> Iterator[Route]:
    for route in config.routes:
        yield Route(
            to=route.to,
            severity=Severity(route.severity),
            runs=route.runs,
            kinds=route.kinds,
            after_s=seconds(route.after),
        )
    for name, channel in config.channels.items() if not config.routes else ():
        pages = channel.service == "pagerduty"
        yield Route(to=name, severity=Severity.CRITICAL if pages else Severity.ERROR)


def _talkative(config: Config) -> tuple[str, ...]:
    """Who is sent a digest unless the file says it: channels that people read in daylight."""
    return tuple(n for n, channel in config.channels.items() if channel.service not in ("pagerduty", "alertmanager"))


def minute(text: str) -> int:
    """Of the day, of a time such as 07:30."""
    hours, minutes = text.split(":")
    return 60 * int(hours) + int(minutes)


def is_quiet(quiet: Quiet | None, minute_of_day: int) -> bool:
    """Whether only pages are told; hours that begin in the evening go on past midnight."""
    if quiet is None:
        return False
    begin, end = minute(quiet.begin), minute(quiet.end)
    return begin <= minute_of_day < end if begin <= end else minute_of_day >= begin or minute_of_day < end
