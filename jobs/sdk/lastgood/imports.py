"""What can be imported before anybody knows which rank it is for? The modules that a program names, and torch's own.

A module that asks at import which rank it is (`RANK = int(os.environ["RANK"])`) would give every rank the same answer,
and one that starts a thread or a CUDA context makes a fork unsound. Each is noticed, and then nothing is prepared.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

OURS = (
    "lastgood.run",
    "lastgood.saver",
    "lastgood.memory",
    "lastgood.durable",
    "lastgood.restoring",
    "torch",
    "torch.distributed",
)
DRIVER = "/dev/nvidia"
PER_RANK = frozenset(
    "RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK ROLE_RANK MASTER_ADDR MASTER_PORT "  # noqa: SIM905
    "LASTGOOD_WORLD LASTGOOD_RANK_DIR LASTGOOD_PROGRESS LASTGOOD_RESUME CUDA_VISIBLE_DEVICES".split()
)
"""variables whose value in this process is not the one that a rank will have"""


def prepare(argv: Sequence[str]) -> str:
    """Import what the command will need; why it cannot be used, empty when it can."""
    sys.path.insert(0, _first_on_path(argv))
    with _Asked() as asked:
        for name in _named(argv):
            _import(name)
            if asked.names:
                return f"{name} asks for {', '.join(sorted(asked.names))} when it is imported"
    del sys.path[0]
    for name in OURS:
        importlib.import_module(name)
    _warm()
    return _unsound()


def _first_on_path(argv: Sequence[str]) -> str:
    """As Python has it for this command."""
    return os.getcwd() if argv[:1] == ["-m"] else os.path.dirname(os.path.realpath(argv[0]))


def _import(name: str) -> None:
    with suppress(Exception):  # whatever it is, the rank that imports it will say so itself
        importlib.import_module(name)


def _named(argv: Sequence[str]) -> Iterator[str]:
    """Modules that the main file imports at its top level, in their order."""
    source = _source(argv)
    if source is None:
        return
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # the rank will say so
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (
                f"{node.module}.{alias.name}" for alias in node.names if _is_module(f"{node.module}.{alias.name}")
            )


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _source(argv: Sequence[str]) -> bytes | None:
    path: str | None = argv[0]
    if argv[0] == "-m":
        try:
            spec = importlib.util.find_spec(argv[1])
        except (ImportError, ValueError):
            return None
        path = spec.origin if spec is not None else None
    try:
        return Path(path).read_bytes() if path else None
    except OSError:
        return None


class _Asked:
    """Which of the variables of a rank were read inside the block."""

    def __enter__(self) -> Self:
        self.names: set[str] = set()
        self._kept = type(os.environ)
        names = self.names

        class Listening(self._kept):  # type: ignore[name-defined,misc]
            def __getitem__(self, key: str) -> str:
                if key in PER_RANK:
                    names.add(key)
                return str(super().__getitem__(key))

        os.environ.__class__ = Listening
        return self

    def __exit__(self, *_: object) -> None:
        os.environ.__class__ = self._kept


def _warm() -> None:
    """Take the ways that are slow the first time: torch imports a second's worth of modules on its first steps."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a pool of threads would not come along into the ranks
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    if "torch.distributed.fsdp" in sys.modules:
        from lastgood import warmth

        warmth.shard()
    torch.set_num_threads(threads)


def _unsound() -> str:
    """Why a fork of this process would not be as good as a new one."""
    # A library that is made for it (OpenBLAS, which numpy loads) ends its threads when the process forks, and starts
    # them again when they are needed: what is left after a fork is a thread that knows nothing of it.
    trial = os.fork()
    if trial == 0:
        os._exit(0)
    os.waitpid(trial, 0)
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"{threads - 1} threads were started while importing"
    torch = sys.modules["torch"]
    if torch.cuda.is_initialized():
        return "a CUDA context was made while importing"
    if opened := _opened(DRIVER):
        # Even to count GPUs starts the driver's library, which no fork may use then.
        return f"{opened} was opened while importing"
    return ""


def _opened(beginning: str) -> str:
    """A file that this process holds open and whose path begins so; empty when there is none."""
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if (path := os.readlink(f"/proc/self/fd/{number}")).startswith(beginning):
                return path
    return ""


class Loaded:
    """The files of the user's that were imported, and when each was last changed."""

    def __init__(self) -> None:
        libraries = tuple({sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")})
        files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
        self._seen = {file: _changed_at(file) for file in files if file and not file.startswith(libraries)}

    def changed(self) -> str:
        """One that is not what it was; empty when none is."""
        return next((file for file, at in self._seen.items() if _changed_at(file) != at), "")


def _changed_at(file: str) -> int:
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return -1
