"""What does the user want run? A YAML file, and what the command line changes in it, to a `Spec`.

Whatever is wrong is a `SpecError` that says where, what, what is allowed, and the nearest spelling.
"""

from __future__ import annotations

import difflib
import json
import shlex
import types
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from jobs import command
from jobs.document import Document, Key, Place, dotted, noun, read, value_of
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
    return _validated(_written(name, body, called, sets, env))


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
    return resolve(_validated(document), path, document, environ=environ)


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


def _validated(document: Document) -> Spec:
    try:
        return _construct(document)
    except ValidationError as error:
        if not _take_as_text(document, error.errors()):
            raise SpecError(*_problems(document, error)) from None
    try:
        return _construct(document)
    except ValidationError as error:
        raise SpecError(*_problems(document, error)) from None


def _construct(document: Document) -> Spec:
    # Strict: `nodes: true` is no number. Through JSON, whose arrays may become tuples in strict mode.
    return Spec.model_validate_json(json.dumps(document.data), strict=True)


def _take_as_text(document: Document, errors: list[ErrorDetails]) -> bool:
    """Where the spec wants text, a scalar is the text as written: `SEED: 4`. Says whether any was."""
    taken = False
    for error in errors:
        key = _key(document, error["loc"])
        text = document.places[key].text if key in document.places else None
        if error["type"] == "string_type" and text is not None and len(key) > 0:
            document.value(key[:-1])[key[-1]] = text
            taken = True
    return taken


def _key(document: Document, loc: tuple[str | int, ...]) -> Key:
    """The part of a pydantic location that is a path in the data: branches of a union are not."""
    key: Key = ()
    here: Any = document.data
    for part in loc:
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            continue
        key = (*key, part)
    return key


def _problems(document: Document, error: ValidationError) -> list[str]:
    """One sentence for each thing that is wrong, in the order of the file."""
    found: dict[Key, tuple[str, str]] = {}
    for detail in error.errors(include_url=False):
        key = _key(document, detail["loc"])
        if detail["type"] == "missing" and isinstance(detail["loc"][-1], str):
            key = (*key, detail["loc"][-1])
        # The branches of a union complain one by one about the same value: one sentence is enough.
        found.setdefault(key, (document.place(key).where, _sentence(document, key, detail)))
    lines = list(found.items())
    lines.sort(key=lambda item: _order(item[1][0]))
    return [f"{where}: {dotted(key)}: {what}" if key else f"{where}: {what}" for key, (where, what) in lines]


def _order(where: str) -> tuple[int, int]:
    """By line; a place without a line first, the command line last."""
    if where.startswith(("--", "-n ")):
        return 1, 0
    line = where.rpartition(":")[2]
    return 0, int(line) if line.isdigit() else 0


_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number that is not that large",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "tuple_type": "a list",
}


def _sentence(document: Document, key: Key, detail: ErrorDetails) -> str:
    kind, ctx = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(key)
    if kind == "missing" and isinstance(detail["loc"][-1], str):
        return f"is missing; {_described(key)}"
    got = noun(document.value(key))
    if key == ("command",) and kind in _WANTED:
        return f"must be text or a list of texts, not {got}"
    if key[:1] == ("data",) and kind in ("missing", "too_long", "too_short", "tuple_type"):
        return f"must be pairs [first, end), for example [[400, 420]], not {got}"
    if kind in _WANTED:
        keys = ", ".join(sorted(_fields(key) or ()))
        return f"must be {_WANTED[kind]}{f' with any of {keys}' if keys else ''}, not {got}"
    match kind:
        case "greater_than_equal":
            return f"must be at least {ctx['ge']}, not {got.removeprefix('the number ')}"
        case "greater_than":
            return f"must be more than {ctx['gt']}, not {got.removeprefix('the number ')}"
        case "less_than_equal":
            return f"must be at most {ctx['le']}, not {got.removeprefix('the number ')}"
        case "literal_error":
            return f"must be {ctx['expected']}, not {got}"
        case "too_short":
            return "must not be empty"
        case "value_error":
            return str(ctx["error"])
        case _:
            return f"{detail['msg']} (it is {got})"


def _unknown(key: Key) -> str:
    """What to say about a key that the spec does not have."""
    name = str(key[-1])
    allowed = sorted(_fields(key[:-1]) or ())
    near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.6)
    elsewhere = {leaf[-1]: dotted(leaf) for leaf in _leaves(Spec, ())}
    far = difflib.get_close_matches(name, list(elsewhere), n=1, cutoff=0.75)
    guess = near[0] if near else elsewhere[far[0]] if far else None
    meant = f'did you mean "{guess}"? ' if guess else ""
    return f"unknown key; {meant}allowed: {', '.join(allowed)}"


def _described(key: Key) -> str:
    info = (_fields(key[:-1]) or {}).get(str(key[-1]))
    return info.description if info is not None and info.description else "it has no default"


def _fields(key: Key) -> dict[str, Any] | None:
    """The fields of the part of the spec at `key`, None when there are none."""
    model: type[BaseModel] = Spec
    for part in key:
        info = model.model_fields.get(str(part))
        below = None if info is None else _model(info.annotation)
        if below is None:
            return None
        model = below
    return dict(model.model_fields)


def _model(annotation: Any) -> type[BaseModel] | None:
    if get_origin(annotation) in (Union, types.UnionType):
        return next(filter(None, map(_model, get_args(annotation))), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


@cache
def _leaves(model: type[BaseModel], key: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The path of every setting."""

    def walk() -> Iterator[tuple[str, ...]]:
        for name, info in model.model_fields.items():
            below = _model(info.annotation)
            yield (*key, name)
            if below is not None:
                yield from _leaves(below, (*key, name))

    return tuple(walk())
