"""Why did this rank fail, in words that the supervisor can compare? An exception, as it goes into `error.json`.

The fields are those of `monitors.signals.Failure`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import site
import sysconfig
import time
import traceback
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import TracebackType

_OWN = os.path.dirname(os.path.abspath(__file__))
_VARIABLE = re.compile(r"0x[0-9a-fA-F]+|\d+(\.\d+)?([eE][-+]?\d+)?")
"""What differs between two occurrences of one failure: addresses, ranks, ports, sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One uncaught exception."""

    kind: str
    message: str
    traceback: str
    raised_at: float
    fingerprint: str


def of(error: BaseException) -> Failure:
    """The failure that `error` is, with the traceback as plain `python` would print it."""
    return Failure(
        kind=_kind(error),
        message=_message(error),
        traceback="".join(traceback.format_exception(error)),
        raised_at=time.time(),
        fingerprint=fingerprint(error),
    )


def write(failure: Failure, folder: str) -> None:
    """Write `error.json` in one step: a reader finds it whole or not at all."""
    path = Path(folder) / "error.json"
    draft = path.with_suffix(".writing")
    draft.write_text(json.dumps(asdict(failure)))
    draft.replace(path)


def fingerprint(error: BaseException) -> str:
    """Equal for the same exception raised at the same place of the user's code: 16 hex digits.

    Counted are the class, the frames in files that are neither Python's nor installed (file name, function, line; all
    frames when there is no such), and the message without its numbers: a rank, an address or a port differs each time.
    """
    frames = traceback.extract_tb(error.__traceback__)
    places = [frame for frame in frames if _is_users(frame.filename)] or list(frames)
    lines = [_kind(error), _VARIABLE.sub("#", _message(error))]
    lines += [f"{os.path.basename(frame.filename)}:{frame.name}:{frame.lineno}" for frame in places]
    return hashlib.blake2b("\n".join(lines).encode(errors="replace"), digest_size=8).hexdigest()


def users_part(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is not ours: what plain `python` would have shown."""
    first = trace
    while first is not None and first.tb_frame.f_code.co_filename.startswith((_OWN, "<frozen")):
        first = first.tb_next
    return first or trace


def _kind(error: BaseException) -> str:
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # a __str__ of the user's: the failure must still be told
        return f"<str() of it raised {type(broken).__name__}>"


def _is_users(filename: str) -> bool:
    return not filename.startswith(("<", *_installed()))


@cache
def _installed() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = [paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], _OWN]
    return tuple(folder + os.sep for folder in {*folders, *site.getsitepackages(), site.getusersitepackages()})
