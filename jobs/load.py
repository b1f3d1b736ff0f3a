"""What does the user want run? A YAML file, and what the command line changes in it, to a `Spec`.

Whatever is wrong is a `SpecError` that says where, what, what is allowed, and the nearest spelling.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs import command
from jobs.checked import checked
from jobs.document import Document, Place, read, value_of
from jobs.errors import SpecError
from jobs.spec import Spec

BARE = "command line"
"""the name of a spec that was no file"""
SCHEMA_ID = "https://json-schema.org/draft/2020-12/schema"


def load(path: str | Path, *, sets: Sequence[str] = (), env: Sequence[str] = ()) -> Spec:
    """The spec of a YAML file, with `a.b=c` of --set and `K=V` of --env put over it. Raises SpecError."""
    return parse(str(path), read_file(Path(path)), sets=sets, env=env)


def parse(
    name: str, body: bytes, *, called: str | None = None, sets: Sequence[str] = (), env: Sequence[str] = ()
) -> Spec:
    """The spec of the bytes of a file called `name`, of a run that -n calls `called`. Raises SpecError."""
    return checked(Spec, _written(name, body, called, sets, env))


def submitted(
    path: Path,
    body: bytes,
    *,
    called: str | None = None,
    sets: Sequence[str] = (),
    env: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Spec:
    """`parse`, then `resolve`, whose errors name the line too. `environ`: what ranks inherit, where it is known."""
    document = _written(str(path), body, called, sets, env)
    return resolve(checked(Spec, document), path, document, environ=environ)


def _written(name: str, body: bytes, called: str | None, sets: Sequence[str], env: Sequence[str]) -> Document:
    document = read(name, body)
    if called is not None:
        document.put(("name",), called, {(): Place(where=f"-n {shlex.quote(called)}", text=called)})
    for text in sets:
        _set(document, text)
    for text in env:
        _set_env(document, text)
    return document


def from_json(text: str) -> Spec:
    """The spec of `spec.json`. Raises SpecError."""
    return parse("spec.json", text.encode())


def resolve(
    spec: Spec, path: str | Path, document: Document | None = None, *, environ: Mapping[str, str] | None = None
) -> Spec:
    """The same spec with every folder absolute, relative ones being meant from the folder of the spec's file.

    Raises SpecError when the working directory, the script or the checkpoint to begin from is not there: nothing else
    notices before the launch.
    """
    base = Path(path).absolute().parent
    workdir = (base / spec.workdir).resolve()
    folder, first, runbooks = (
        named and str((base / named).resolve())
        for named in (spec.checkpoint.folder, spec.checkpoint.resume_from, spec.recovery.runbooks)
    )
    wrong = command.problem(spec, workdir, chosen=_chose_program(spec, document), environ=environ)
    if wrong is None and runbooks is not None and not Path(runbooks).is_dir():
        wrong = f"recovery.runbooks: {runbooks} is not a folder"
    wrong = wrong or _unfit_checkpoints(folder, first, spec)
    if wrong is not None:
        raise SpecError(f"{_where(document, wrong, path)}: {wrong}")
    return spec.model_copy(
        update={
            "workdir": str(workdir),
            "checkpoint": spec.checkpoint.model_copy(update={"folder": folder, "resume_from": first}),
            "recovery": spec.recovery.model_copy(update={"runbooks": runbooks}),
            "tracker": spec.tracker.resolved(str(base)),
        }
    )


def _unfit_checkpoints(folder: str | None, first: str | None, spec: Spec) -> str | None:
    from jobs.checkpoint.origin import check_vacant, origin

    try:
        if folder is not None:
            check_vacant(folder)
        if first is not None:
            origin(first, spec.data.skip)
    except SpecError as error:
        return str(error)
    return None


def _chose_program(spec: Spec, document: Document | None) -> bool:
    """Whether a person wrote `python: false`, and not we for a bare command."""
    place = document.places.get(("python",)) if document is not None else None
    return place is not None and not spec.python and not place.where.startswith(BARE)


def _where(document: Document | None, problem: str, path: str | Path) -> str:
    if document is None:
        return str(path)
    where = document.place(problem.partition(":")[0].split(".")).where
    return BARE if where.startswith(BARE) else where


def schema() -> dict[str, Any]:
    """The spec as JSON Schema, draft 2020-12, for editors."""
    return {"$schema": SCHEMA_ID, **Spec.model_json_schema(), "title": "lastgood run"}


def read_file(path: Path) -> bytes:
    """The bytes of a spec. Raises SpecError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file{_nearest_file(path)}") from None
    except IsADirectoryError:
        raise SpecError(f"{path}: is a folder; name the spec's file in it") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise SpecError(f"{path}: cannot be read: {why}") from None


def _nearest_file(path: Path) -> str:
    try:
        names = [other.name for other in path.parent.iterdir() if other.suffix in (".yaml", ".yml")]
    except OSError:
        return "; `lastgood init` writes one"
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {near[0]}?" if near else "; `lastgood init` writes one"


def _set(document: Document, text: str) -> None:
    key, equals, value = text.partition("=")
    where = f"--set {text}"
    parts = tuple(key.split("."))
    if not equals or not all(parts):
        raise SpecError(f"{where}: needs the form KEY=VALUE, for example checkpoint.every_steps=100")
    data, places = value_of(value, lambda _line: where, where)
    # Where the spec wants text, the text as written wins over YAML's reading of it.
    places[()] = Place(where=where, text=value if data is not None else None)
    document.put(parts, data, {key: Place(where=where, text=place.text) for key, place in places.items()})


def _set_env(document: Document, text: str) -> None:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise SpecError(f"--env {text}: needs the form NAME=VALUE, for example OMP_NUM_THREADS=1")
    document.put(("env", name), value, {(): Place(where=f"--env {text}", text=value)})
