"""How does a value travel? Frozen dataclasses to JSON objects tagged with their class name, and back.

One format for the link between agent and supervisor, for the journal, and for recorded test data. NaN and infinity
survive: a loss may be either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

TAG = "is"


_adapters: dict[type, TypeAdapter[Any]] = {}


def _adapter(cls: type) -> TypeAdapter[Any]:
    if cls not in _adapters:
        _adapters[cls] = TypeAdapter(cls)
    return _adapters[cls]


def encode(value: Any) -> dict[str, Any]:
    """A JSON-ready object that says which class it is."""
    return {TAG: type(value).__name__, **_adapter(type(value)).dump_python(value, mode="json")}


def decode(body: Mapping[str, Any], classes: Mapping[str, type]) -> Any:
    """The value that `encode` was given.

    Raises KeyError for a class that is not in `classes` and pydantic.ValidationError (a ValueError) for wrong fields.
    """
    fields = dict(body)
    cls = classes[fields.pop(TAG)]
    return _adapter(cls).validate_python(fields)


def by_name(*classes: type) -> dict[str, type]:
    """The table that `decode` wants."""
    return {cls.__name__: cls for cls in classes}


def dumps(value: Any) -> str:
    """One line of JSON."""
    return json.dumps(encode(value), separators=(",", ":"))


def loads(line: str | bytes, classes: Mapping[str, type]) -> Any:
    """The value of one line of JSON."""
    return decode(json.loads(line), classes)
