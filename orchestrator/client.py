"""How is the supervisor asked? One connection, one line of JSON each way; it is started when it has to be."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from jobs import registry
from monitors.clock import Clock, SystemClock
from orchestrator.home import Address, Home

CONNECT_S = 5.0
ANSWER_S = 60.0
"""A submission writes a journal entry to disk; a dying disk takes its time, and an answer is worth waiting for."""
START_S = 10.0
LOOK_EVERY_S = 0.02
COMPLAINT = "Error: "
"""what a sentence begins with that needs no traceback beside it"""


class NoSupervisor(Exception):
    """Nobody answers. The text says why and what to do."""


def ask(root: Path, request: dict[str, Any], *, start: bool) -> dict[str, Any]:
    """The supervisor's answer: `{"ok": true, ...}` or `{"ok": false, "error": sentence, "code": word}`.

    `root` is the state folder. `start`: start a supervisor when none runs. Raises NoSupervisor, and HomeError when the
    folder cannot be used.
    """
    home = Home(root)
    if start:
        home.create()
    else:
        home.check()
    connection = _connect(home)
    if connection is None and start:
        connection = _start(home, SystemClock())
    if connection is None:
        raise NoSupervisor(f"no supervisor runs for {home.root}: start it with `lastgood serve --detach`")
    spoken = {**request, "token": home.token()}
    with connection:
        try:
            return _talk(connection, spoken, home)
        except NoSupervisor:
            # It died with the question in its hands. Asked twice, a submission would be two runs.
            if not start or request.get("ask") == "submit" or running(home) is not None:
                raise
    with _start(home, SystemClock()) as again:
        return _talk(again, spoken, home)


def running(home: Home) -> Address | None:
    """Where the supervisor of this home listens, None when none runs.

    A port in a file says nothing by itself: another user's program may have it by now, and would be told the token.
    """
    address = home.address()
    if address is None or not _is_supervisor(address.pid):
        return None
    return address


def _is_supervisor(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b"orchestrator.serve" in words and os.stat(f"/proc/{pid}").st_uid == os.geteuid()
    except OSError:
        return False


def _connect(home: Home) -> socket.socket | None:
    address = running(home)
    if address is None:
        return None
    try:
        return socket.create_connection((address.host, address.port), timeout=CONNECT_S)
    except OSError:
        return None


def _talk(connection: socket.socket, request: dict[str, Any], home: Home) -> dict[str, Any]:
    try:
        connection.settimeout(ANSWER_S)
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as lines:
            answer = json.loads(lines.readline())
    except (OSError, ValueError) as error:
        raise NoSupervisor(f"the supervisor gave no answer ({error}); {_words(home)}") from None
    if not isinstance(answer, dict) or "ok" not in answer:
        raise NoSupervisor(
            f"port {connection.getpeername()[1]} is not the supervisor of {home.root}: run `lastgood serve`"
        )
    return answer


def _start(home: Home, clock: Clock) -> socket.socket:
    """Start a supervisor that outlives us, and connect to it, or to one that somebody else started meanwhile."""
    home.off.unlink(missing_ok=True)
    child = _spawn(home)
    deadline = clock.now() + START_S
    while clock.now() < deadline:
        connection = _connect(home)
        if connection is not None:
            child.returncode = 0  # it outlives us: there is nothing to wait for
            return connection
        gone = child.poll()
        if gone not in (None, 0):
            raise NoSupervisor(_last_sentence(home) or f"the supervisor ended with status {gone}; {_words(home)}")
        select.select([], [], [], LOOK_EVERY_S)
    raise NoSupervisor(f"the supervisor does not listen after {START_S:.0f} s; {_words(home)}")


def _spawn(home: Home) -> subprocess.Popen[bytes]:
    # Who is asked for from inside a worker must not look like a part of that attempt: it would be ended with it.
    clean = {name: value for name, value in os.environ.items() if name != registry.MARK}
    with home.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "orchestrator.serve", "--home", str(home.root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home.root,
            env=clean,
            start_new_session=True,
        )


def _words(home: Home) -> str:
    return f"its last words:\n{last_words(home)}"


def _last_sentence(home: Home) -> str:
    """Why it does not start, when it says so to a person; empty when it failed otherwise."""
    sentence = last_words(home, 1).strip()
    return sentence.removeprefix(COMPLAINT) if sentence.startswith(COMPLAINT) else ""


def last_words(home: Home, lines: int = 12) -> str:
    """The end of the supervisor's log."""
    try:
        with home.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 8192))
            tail = log.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        tail = []
    return "\n".join(f"  {line}" for line in tail) or "  (its log is empty)"
