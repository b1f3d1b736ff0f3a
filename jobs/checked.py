"""Is what the user wrote what a model wants? Plain data to a checked value, or a sentence for each thing wrong."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from jobs.document import Document, Key, dotted, noun
from jobs.errors import SpecError

Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], document: Document) -> Model:
    """The document as a value of the model. Raises SpecError: where, what, what is allowed, the nearest spelling."""
    try:
        return _construct(model, document)
    except ValidationError as error:
        if not _take_as_text(document, error.errors()):
            raise SpecError(*_problems(model, document, error)) from None
    try:
        return _construct(model, document)
    except ValidationError as error:
        raise SpecError(*_problems(model, document, error)) from None


def _construct(model: type[Model], document: Document) -> Model:
    # Strict: `nodes: true` is no number. Through JSON, whose arrays may become tuples in strict mode.
    return model.model_validate_json(json.dumps(document.data), strict=True)


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


def _problems(model: type[BaseModel], document: Document, error: ValidationError) -> list[str]:
    """One sentence for each thing that is wrong, in the order of the file."""
    found: dict[Key, tuple[str, str]] = {}
    for detail in error.errors(include_url=False):
        key = _key(document, detail["loc"])
        if detail["type"] == "missing" and isinstance(detail["loc"][-1], str):
            key = (*key, detail["loc"][-1])
        # The branches of a union complain one by one about the same value: one sentence is enough.
        found.setdefault(key, (document.place(key).where, _sentence(model, document, key, detail)))
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


def _sentence(model: type[BaseModel], document: Document, key: Key, detail: ErrorDetails) -> str:
    kind, ctx = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(model, key)
    if kind == "missing" and isinstance(detail["loc"][-1], str):
        return f"is missing; {_described(model, key)}"
    got = noun(document.value(key))
    if key == ("command",) and kind in _WANTED:
        return f"must be text or a list of texts, not {got}"
    if key[:1] == ("data",) and kind in ("missing", "too_long", "too_short", "tuple_type"):
        return f"must be pairs [first, end), for example [[400, 420]], not {got}"
    if kind in _WANTED:
        keys = ", ".join(sorted(_fields(model, key) or ()))
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


def _unknown(model: type[BaseModel], key: Key) -> str:
    """What to say about a key that the model does not have."""
    name = str(key[-1])
    allowed = sorted(_fields(model, key[:-1]) or ())
    near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.6)
    elsewhere = {leaf[-1]: dotted(leaf) for leaf in _leaves(model, ())}
    far = difflib.get_close_matches(name, list(elsewhere), n=1, cutoff=0.75)
    guess = near[0] if near else elsewhere[far[0]] if far else None
    meant = f'did you mean "{guess}"? ' if guess else ""
    return f"unknown key; {meant}allowed: {', '.join(allowed)}"


def _described(model: type[BaseModel], key: Key) -> str:
    info = (_fields(model, key[:-1]) or {}).get(str(key[-1]))
    return info.description if info is not None and info.description else "it has no default"


def _fields(model: type[BaseModel], key: Key) -> dict[str, Any] | None:
    """The fields of the part of the model at `key`, None when there are none."""
    here: Any = model
    for part in key:
        fields = _model(here)
        if fields is not None and str(part) in fields.model_fields:
            here = fields.model_fields[str(part)].annotation
        else:
            here = _item(here)
    below = _model(here)
    return None if below is None else dict(below.model_fields)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _model(annotation: Any) -> type[BaseModel] | None:
    for one in _alternatives(annotation):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _item(annotation: Any) -> Any:
    """What a list or a mapping of this annotation holds; None: it is neither."""
    for one in _alternatives(annotation):
        if get_origin(one) in (dict, list, tuple):
            return [arg for arg in get_args(one) if arg is not ...][-1]
    return None


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
