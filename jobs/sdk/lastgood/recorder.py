"""What has this rank called, and where does it stand? Its flight recorder and its stacks, written when somebody asks.

The agent writes a line into the pipe `look` in the rank's folder; a thread that sleeps in the read of that pipe answers
in `collectives.json`. It costs nothing before, lives in the rank's own process only (threads do not survive a fork),
and cannot answer while the process is stopped or C code holds the interpreter: that silence says something too. A rank
that fails of a collective's time-out leaves the same in `last.json`: it waited for somebody, and nobody can ask it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

PIPE, ANSWER, LAST = "look", "collectives.json", "last.json"
QUESTION_BYTES = 4096
"""more than all questions that can pile up while the process is stopped and somebody still asks"""
FRAMES = 64
_JSON_DUMPS = ("_dump_fr_trace_json", "_dump_nccl_trace_json")
_PICKLE_DUMPS = ("_dump_fr_trace", "_dump_nccl_trace")
"""of the two recorders: one for gloo and others, one for NCCL; torch before 2.5 had NCCL's alone, as a pickle"""
_STRANGE = (AttributeError, KeyError, LookupError, RuntimeError, TypeError, ValueError)
"""what torch's private parts raise when they are not what they were"""

END = "end"
"""the question that ends the answers"""
_TIMED_OUT = re.compile(r"time(d?[ -])?out", re.IGNORECASE)
_watched: set[tuple[int, str]] = set()


def answer_in(folder: str | Path) -> None:
    """Answer questions in this rank's folder from now on; a second call does nothing. Raises OSError."""
    me = os.getpid(), str(folder)
    if me in _watched:
        return
    _watched.add(me)
    pipe = Path(folder) / PIPE
    draft = pipe.with_suffix(f".{os.getpid()}")
    os.mkfifo(draft, 0o600)
    # For writing too: with a writer of its own a pipe never ends, and the read below waits for ever.
    fd = os.open(draft, os.O_RDWR | os.O_CLOEXEC)
    draft.replace(pipe)
    threading.Thread(target=_answer, args=(fd, Path(folder)), name="lastgood-recorder", daemon=True).start()


def stop_answering_in(folder: str | Path) -> None:
    """Nobody asks there any more: the thread ends. Nothing happens when there is none."""
    _watched.discard((os.getpid(), str(folder)))
    with suppress(OSError):
        fd = os.open(Path(folder) / PIPE, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "wb") as pipe:
            pipe.write(f"{END}\n".encode())


def _answer(fd: int, folder: Path) -> None:
    # A signal for the process must interrupt the main thread, or Python would act on it only when that wakes up.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    with suppress(OSError):  # a user's code has closed all descriptors
        while asked := os.read(fd, QUESTION_BYTES):
            newest = asked.decode(errors="replace").split()[-1:]
            if newest == [END]:
                os.close(fd)
                return
            with suppress(OSError):  # a full disk
                write(folder, asked="".join(newest))


def write(folder: Path, *, asked: str, name: str = ANSWER) -> None:
    """Write `collectives.json` in one step: what the recorders hold, what the groups are, and where each thread is."""
    draft = folder / f"{name}.writing"
    draft.write_bytes(answer(asked))
    draft.replace(folder / name)


def leave(folder: Path, error: BaseException) -> None:
    """Write `last.json` when this rank fails because a collective timed out; any other failure is told without.

    Raises OSError.
    """
    if isinstance(error, RuntimeError) and _c10d() is not None and _TIMED_OUT.search(f"{type(error).__name__} {error}"):
        write(folder, asked="", name=LAST)


def answer(asked: str) -> bytes:
    """JSON: `{asked, at, pid, groups, waits, threads, recorders}`; a recorder's dump is torch's JSON, or base64 of its
    pickle."""
    frames = sys._current_frames()
    head = {
        "asked": asked,
        "at": time.time(),
        "pid": os.getpid(),
        "groups": _groups(),
        "waits": [wait for frame in frames.values() for wait in _waits(frame)],
        "threads": [_thread(ident, frame) for ident, frame in frames.items()],
    }
    recorders = b",".join(_recorders())
    return json.dumps(head).encode()[:-1] + b', "recorders": [' + recorders + b"]}"


def _recorders() -> Iterator[bytes]:
    """Nothing is imported for this: a script that never loaded torch has no collectives."""
    module = sys.modules.get("torch._C._distributed_c10d")
    for json_dump, pickle_dump in zip(_JSON_DUMPS, _PICKLE_DUMPS, strict=True):
        with suppress(*_STRANGE):
            if hasattr(module, json_dump):
                dumped = getattr(module, json_dump)(True, False)
                yield dumped if isinstance(dumped, bytes) else str(dumped).encode()
            elif hasattr(module, pickle_dump):
                # Without stacks: to name their frames for the first time takes 1.4 s of a free CPU.
                yield json.dumps(base64.b64encode(_pickled(getattr(module, pickle_dump))).decode()).encode()


def _pickled(dump: Any) -> bytes:
    try:
        return bytes(dump(True, False, False))
    except TypeError:  # torch before 2.5
        return bytes(dump())


def _c10d() -> ModuleType | None:
    return sys.modules.get("torch.distributed.distributed_c10d")


def _groups() -> dict[str, Any]:
    """Description and members of each group that this rank is in: gloo's recorder does not know them."""
    world = getattr(_c10d(), "_world", None)
    groups = {}
    with suppress(*_STRANGE):
        names = dict(world.pg_names)  # type: ignore[union-attr]
        for group, ranks in dict(world.pg_group_ranks).items():  # type: ignore[union-attr]
            if group in names:
                groups[str(names[group])] = {"desc": str(getattr(group, "group_desc", "")), "ranks": sorted(ranks)}
    return groups


def _waits(frame: FrameType | None) -> Iterator[dict[str, Any]]:
    """The send or receive that a thread stands in: gloo's recorder does not write them down."""
    while frame is not None:
        if frame.f_code.co_name in ("send", "recv") and frame.f_globals.get("__name__", "").endswith(
            "distributed_c10d"
        ):
            with suppress(*_STRANGE):
                yield _wait(frame.f_code.co_name, frame.f_locals)
            return
        frame = frame.f_back


def _wait(op: str, given: dict[str, Any]) -> dict[str, Any]:
    end = "dst" if op == "send" else "src"
    peer = given.get(end)
    if peer is None and given.get(f"group_{end}") is not None:
        distributed: Any = _c10d()
        group = given.get("group") or distributed._get_default_group()
        peer = distributed.get_global_rank(group, given[f"group_{end}"])
    return {"op": op, "peers": [] if peer is None else [int(peer)]}


def _thread(ident: int, frame: FrameType | None) -> dict[str, Any]:
    """Innermost frame last, each as `faulthandler` writes it; no source is read: its disk may be what hangs."""
    lines: list[str] = []
    while frame is not None and len(lines) < FRAMES:
        lines.append(f'File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}')
        frame = frame.f_back
    return {"main": ident == threading.main_thread().ident, "frames": lines[::-1]}
