"""How does a rank's process begin and end? `python -P -m lastgood.worker [--program] -- ARGV...`, started by the agent.

It ties its life to the agent's, then becomes what the user would have started: `SCRIPT ARGS...` or
`-m MODULE ARGS...` under Python, or, with --program, any program. An uncaught exception goes to `error.json` and ends
the process at once: with torch loaded, Python needs 0.75 to 2.2 s to take itself apart (measured), during which the
other ranks would wait for a dead one.
"""

from __future__ import annotations

import atexit
import builtins
import ctypes
import importlib.util
import io
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import CodeType, FrameType, ModuleType
from typing import NoReturn

from lastgood import last_words, recorder, stacks, tether

PR_SET_PDEATHSIG = 1  # linux/prctl.h
TERMINATED = 128 + signal.SIGTERM


def main(words: Sequence[str], env: Mapping[str, str]) -> None:
    """Become the command in `words`. Returns when a Python command has ended well."""
    die_with_agent(env)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # an agent may block signals, and a child inherits that
    # A program that does not know this signal must survive it; for Python `stacks.show_on_order` takes it.
    signal.signal(stacks.SIGNAL, signal.SIG_IGN)
    program = words[:1] == ["--program"]
    argv = list(words[1:] if program else words)
    if argv[:1] == ["--"]:
        argv = argv[1:]
    if not argv:
        sys.exit("lastgood.worker: no command was given")
    if program:
        _become(argv)
    tether.hold(os.environ)
    ending = _Ending()
    stacks.show_on_order(env.get("LASTGOOD_RANK_DIR"))
    _answer_questions(env.get("LASTGOOD_RANK_DIR"))
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # they are files, which Python would fill block by block
    ending.of(argv)


def die_with_agent(env: Mapping[str, str]) -> None:
    """An orphan would go on training unseen, beside the world that replaces it."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    agent = env.get("LASTGOOD_AGENT_PID")
    if agent is not None and os.getppid() != int(agent):
        sys.exit("lastgood.worker: the agent died before this rank started")


def taken_channel() -> socket.socket:
    """The socket that standard output is, for a process of ours; what a library prints is no message."""
    channel = socket.socket(fileno=os.dup(sys.stdout.fileno()))
    channel.setblocking(True)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return channel


def _become(argv: list[str]) -> NoReturn:
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        print(f"lastgood.worker: cannot start {argv[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)  # as a shell says it


def _answer_questions(folder: str | None) -> None:
    if folder is not None:
        with suppress(OSError):  # a file system without pipes: this sense is blind, the rank trains
            recorder.answer_in(folder)


def _terminate(_signum: int, _frame: FrameType | None) -> None:
    sys.exit(TERMINATED)


class _Ending:
    """Runs the command and makes its end quick, whichever way it comes."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._status = 0
        # Registered first, so called last: after the threads are joined and the user's own exit functions have run,
        # and before the interpreter takes all modules apart.
        atexit.register(self._leave)

    def of(self, argv: list[str]) -> None:
        """Run the command as `__main__`."""
        try:
            code = _as_main(argv)
            exec(code, sys.modules["__main__"].__dict__)
        except SystemExit as request:
            self._status = _status(request)
        except BaseException as error:  # nothing of ours is above this frame
            self._fail(error)

    def _fail(self, error: BaseException) -> NoReturn:
        try:
            folder = os.environ.get("LASTGOOD_RANK_DIR")  # of now: a process may be a rank of one world after the other
            last_words.leave(error, folder if os.getpid() == self._pid else None)  # a forked child is not the rank
        finally:
            _flush()
            os._exit(1)

    def _leave(self) -> None:
        _flush()
        os._exit(self._status)


def _as_main(argv: list[str]) -> CodeType:
    """Make `__main__`, `sys.argv` and `sys.path` what `python ARGV...` makes of them; the code to run."""
    main_module = ModuleType("__main__")
    main_module.__dict__["__builtins__"] = builtins
    if argv[0] == "-m":
        if len(argv) < 2:
            sys.exit("lastgood.worker: -m needs the name of a module")
        sys.path.insert(0, os.getcwd())
        code = _module(argv[1], main_module)
        sys.argv = [main_module.__file__ or argv[1], *argv[2:]]
    else:
        sys.path.insert(0, os.path.dirname(os.path.realpath(argv[0])))
        code = _script(argv[0], main_module)
        sys.argv = argv
    sys.modules["__main__"] = main_module
    return code


def _script(path: str, main_module: ModuleType) -> CodeType:
    main_module.__file__ = os.path.abspath(path)
    try:
        with io.open_code(main_module.__file__) as file:
            source = file.read()
    except OSError as error:
        print(f"lastgood.worker: cannot open {path}: {error.strerror}", file=sys.stderr)
        sys.exit(2)  # as Python says it
    return compile(source, main_module.__file__, "exec", dont_inherit=True)


def _module(name: str, main_module: ModuleType) -> CodeType:
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{name}.__main__")
    get_code = getattr(spec and spec.loader, "get_code", None)
    code: CodeType | None = get_code(spec.name) if spec and get_code else None
    if spec is None or code is None:
        sys.exit(f"lastgood.worker: there is no module {name} to run")
    main_module.__file__ = spec.origin
    main_module.__spec__ = spec
    main_module.__package__ = spec.parent
    return code


def _status(request: SystemExit) -> int:
    if request.code is None:
        return 0
    if isinstance(request.code, int):
        return request.code & 0xFF
    print(request.code, file=sys.stderr)
    return 1


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a full disk, a closed stream: the status must still be told
            stream.flush()


if __name__ == "__main__":
    main(sys.argv[1:], os.environ)
