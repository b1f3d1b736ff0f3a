"""How does a value travel? Frozen dataclasses to JSON objects tagged with their class name, and back.

One format for the link between agent and supervisor, for the journal, and for recorded test data. NaN and infinity
survive: a loss may be either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, from_json, to_json

TAG = "is"


_adapters: dict[type, TypeAdapter[Any]] = {}


def _adapter(cls: type) -> TypeAdapter[Any]:
    if cls not in _adapters:
        _adapters[cls] = TypeAdapter(cls)
    return _adapters[cls]


def encode(value: Any) -> dict[str, Any]:
    """A JSON-ready object that says which class it is."""
    return {TAG: type(value).__name__, **_adapter(type(value)).serializer.to_python(value, mode="json")}


def decode(body: Mapping[str, Any], classes: Mapping[str, type]) -> Any:
    """The value that `encode` was given.

    Raises KeyError for a class that is not in `classes` and pydantic.ValidationError (a ValueError) for wrong fields.
    """
    return _decoded(dict(body), classes)


def _decoded(fields: dict[str, Any], classes: Mapping[str, type]) -> Any:
    return _adapter(classes[fields.pop(TAG)]).validator.validate_python(fields)


def by_name(*classes: type) -> dict[str, type]:
    """The table that `decode` wants."""
    return {cls.__name__: cls for cls in classes}


def dumps(value: Any) -> str:
    """One line of JSON."""
    body = encode(value)
    try:
        return to_json(body, inf_nan_mode="constants").decode()
    except PydanticSerializationError:  # half a character, as names of files may hold: only the slower way writes it
        return json.dumps(body, separators=(",", ":"))


def loads(line: str | bytes, classes: Mapping[str, type]) -> Any:
    """The value of one line of JSON.

    Raises as `decode` does, and ValueError for what is not JSON.
    """
    try:
        body = from_json(line)
    except ValueError:  # half a character, or no JSON at all
        body = json.loads(line)
    return _decoded(body, classes)
