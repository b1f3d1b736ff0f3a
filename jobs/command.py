"""Can this command be started? What can be seen without running any of it; what cannot be seen may pass."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from jobs.spec import Spec

LAUNCHERS = ("torchrun", "deepspeed", "mpirun", "mpiexec", "srun")
MODULES = ("torch.distributed.run", "torch.distributed.launch", "accelerate.commands.launch")
PER_NODE = re.compile(
    r"--(?:nproc[-_]per[-_]node|num[-_]processes|num[-_]gpus|ntasks[-_]per[-_]node|npernode)(?:=|\s)(\d+)(?=\s|$)"
)


def problem(spec: Spec, workdir: Path, *, chosen: bool = False, environ: Mapping[str, str] | None = None) -> str | None:
    """Why the command cannot be started, beginning with the key.

    `chosen`: a person wrote `python: false` himself. `environ`: what ranks will inherit; None: that is not known.
    """
    if not workdir.is_dir():
        return f"workdir: {workdir} is not a folder"
    wrong = [name for name in spec.env if not name or "=" in name]
    if wrong:
        return f"env: {wrong[0]!r} cannot be the name of an environment variable"
    try:
        words = list(spec.argv)
    except ValueError as error:
        return f"command: cannot be split into words: {error}"
    if not words or not words[0]:
        return "command: is empty; for example `train.py --lr 3e-4` or `-m my.module`"
    if not chosen and (instead := _instead(words, workdir, python=spec.python)):
        return f"command: {instead}"
    env = None if environ is None else {**environ, **spec.env}
    return _python(words, workdir, env) if spec.python else _program(words[0], workdir, env)


def _python(words: Sequence[str], workdir: Path, env: Mapping[str, str] | None) -> str | None:
    first = words[0]
    if first == "-m" and len(words) > 1 and env is not None:
        top = words[1].partition(".")[0]
        return None if _may_import(top, workdir, env) else f"command: no module {top!r} is installed, or in {workdir}"
    if first.startswith("-") or (workdir / first).is_file():
        return None
    if Path(first).name.startswith("python"):
        return "command: begins with the interpreter, which is added for you: write `train.py ...` or `-m my.module`"
    return f"command: {workdir / first} is not a file (for a program that is not Python: `python: false`)"


def _may_import(top: str, workdir: Path, env: Mapping[str, str]) -> bool:
    """Whether a package of this name can be found; nothing of it is run."""
    folders = [str(workdir), *(str(workdir / part) for part in env.get("PYTHONPATH", "").split(os.pathsep) if part)]
    try:
        return bool(importlib.machinery.PathFinder.find_spec(top, folders) or importlib.util.find_spec(top))
    # A finder of somebody's, or a name that is none: who cannot say no says nothing.
    except (ImportError, ValueError, AttributeError, TypeError, LookupError, OSError):
        return True


def _program(first: str, workdir: Path, env: Mapping[str, str] | None) -> str | None:
    if os.path.dirname(first):
        path = workdir / first
        if not path.exists():
            return f"command: {path} is not there"
        return None if os.access(path, os.X_OK) else f"command: {path} may not be executed: chmod +x {path}"
    if env is None or "PATH" not in env:
        return None
    folders = os.pathsep.join(str(workdir / part) for part in env["PATH"].split(os.pathsep))
    return None if shutil.which(first, path=folders) else f"command: no program {first!r} in the folders of PATH"


def _instead(words: Sequence[str], workdir: Path, *, python: bool) -> str | None:
    """What to write in the place of another launcher: its ranks would be one to us, and nobody would watch them."""
    found = _launched(words, workdir, python=python)
    if found is None:
        return None
    name, rest = found
    stated = PER_NODE.search(" ".join(rest))
    ranks = stated[1] if stated else "N"
    script = next((at for at, word in enumerate(rest) if word.endswith(".py")), None)
    said = f"`{shlex.join(rest[script:])}`" if script is not None else "the script itself"
    return (
        f"{name} would start ranks that nobody watches: write {said} and `ranks_per_node: {ranks}` "
        f"(--set ranks_per_node={ranks}); it is started all the same where `python: false` is written out "
        "(--set python=false)"
    )


def _launched(words: Sequence[str], workdir: Path, *, python: bool) -> tuple[str, list[str]] | None:
    """Name of the launcher that the command is, and its words; None: it is none."""
    first, rest = words[0], list(words[1:])
    own = not os.path.isabs(first) and (bool(os.path.dirname(first)) or (python and (workdir / first).is_file()))
    name = Path(first).name
    if own:
        return None
    if name in LAUNCHERS:
        return name, rest
    if name == "accelerate" and rest[:1] == ["launch"]:
        return "accelerate launch", rest[1:]
    if name.startswith("python"):
        while rest and rest[0].startswith("-") and rest[0] != "-m":
            del rest[0]
    elif name == "-m":
        rest = list(words)
    module = rest[1] if rest[:1] == ["-m"] and len(rest) > 1 else ""
    return (module, rest[2:]) if module in MODULES else None
