"""What did the user write, and on which line? YAML text to plain data that remembers where each value stands.

Scalars follow YAML 1.2's core schema, not PyYAML's 1.1: `no` is a word, `1e-4` a number, `12:30` is not 750.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import yaml

from jobs.errors import SpecError

BYTES_MAX = 1 << 20
"""A spec is a page; whatever is larger is another file."""
DEPTH_MAX = 20
VALUES_MAX = 20_000
"""Values after aliases are written out: without a limit, nine lines of aliases are a billion values."""

Key = tuple[str | int, ...]


_CORE = "tag:yaml.org,2002:"
_MERGE = _CORE + "merge"


class _Loader(yaml.SafeLoader):
    """SafeLoader with other words for plain scalars."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  PyYAML's own table, to be filled below


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    _firsts = ["" if letter == "\0" else letter for letter in _first]
    _Loader.add_implicit_resolver(_CORE + _tag, re.compile(f"^(?:{_pattern})$"), _firsts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one value was written."""

    where: str
    """`run.yaml:7`, or the option of the command line"""
    text: str | None = None
    """a scalar as written, None for null, lists and mappings"""


@dataclass(slots=True, kw_only=True)
class Document:
    """Plain data, and the place of each value in it."""

    name: str
    data: dict[str, Any]
    places: dict[Key, Place] = field(default_factory=dict)

    def place(self, key: Iterable[str | int]) -> Place:
        """Where the value of `key` stands, or the nearest thing around it."""
        at = tuple(key)
        while at and at not in self.places:
            at = at[:-1]
        return self.places.get(at, Place(where=self.name))

    def value(self, key: Iterable[str | int]) -> Any:
        """The value of `key`. Raises KeyError, IndexError or TypeError where there is none."""
        here: Any = self.data
        for part in key:
            here = here[part]
        return here

    def put(self, key: tuple[str, ...], value: Any, places: dict[Key, Place]) -> None:
        """Set a value, making the mappings on the way to it."""
        here, where = self.data, next(iter(places.values())).where
        for depth, part in enumerate(key[:-1]):
            below = here.get(part)
            if below is None:
                below = here[part] = {}
                self.places[key[: depth + 1]] = Place(where=where)
            if not isinstance(below, dict):
                raise SpecError(
                    f"{where}: {dotted(key[: depth + 1])} is {noun(below)}, it has no key {key[depth + 1]!r} below it"
                )
            here = below
        here[key[-1]] = value
        self.places.update({key + below: place for below, place in places.items()})


def dotted(key: Iterable[str | int]) -> str:
    """`data.skip[0]`: how people write the path of a value."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).removeprefix(".")


def noun(value: Any) -> str:
    """What kind of thing a value is, in the words of the user."""
    match value:
        case None:
            return "empty"
        case bool():
            return f"{str(value).lower()}"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {_cut(value)!r}"
        case list():
            return "a list"
        case _:
            return "a mapping"


def _cut(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def read(name: str, body: bytes, *, kind: str = "spec", begin: str = "lastgood init") -> Document:
    """The document of a file's bytes; `begin` is the command that writes one of this kind. Raises SpecError."""
    if len(body) > BYTES_MAX:
        raise SpecError(
            f"{name}: {len(body)} bytes is too large for a {kind} (at most {BYTES_MAX}): is it the right file?"
        )
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise SpecError(f"{name}:{line}: is not UTF-8 text (byte {error.start}): is it the right file?") from None
    data, places = value_of(text, lambda line: f"{name}:{line}", name)
    if data is None:
        raise SpecError(f"{name}: is empty; `{begin}` writes a {kind} to start from")
    if not isinstance(data, dict):
        example = ", such as `name: my-run`" if kind == "spec" else ""
        raise SpecError(f"{name}: is {noun(data)}, but a {kind} is a mapping of keys to values{example}")
    return Document(name=name, data=data, places=places)


def value_of(text: str, where: Callable[[int], str], name: str) -> tuple[Any, dict[Key, Place]]:
    """The one value of a YAML text and the places in it; `where` turns a line number into a place's name."""
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        letter = f"U+{ord(text[error.position]):04X}"
        raise SpecError(f"{where(line)}: the character {letter} is not allowed in YAML: delete it") from None
    try:
        node = loader.get_single_node()
        reading = _Reading(loader=loader, where=where)
        return (None if node is None else reading.value(node, (), 0)), reading.places
    except yaml.MarkedYAMLError as error:
        raise SpecError(_syntax(error, where, text)) from None
    except RecursionError:
        raise SpecError(f"{name}: is nested too deeply (at most {DEPTH_MAX} levels)") from None
    finally:
        loader.dispose()


def _syntax(error: yaml.MarkedYAMLError, where: Callable[[int], str], text: str) -> str:
    mark = error.problem_mark or error.context_mark
    line = mark.line if mark else 0
    lines = text.splitlines() or [""]
    line = min(line, len(lines) - 1)
    written = lines[line]
    problem = f"{where(line + 1)}: not valid YAML: {error.problem or error.context}"
    indent = written[: len(written) - len(written.lstrip())]
    if "\t" in indent or "'\\t'" in (error.problem or ""):
        return f"{where(line + 1)}: a tab cannot be used for indentation: use spaces"
    if error.context_mark and error.context and error.context_mark.line != line:
        problem += f" ({error.context}, begun on line {error.context_mark.line + 1})"
    return f"{problem}: {_cut(written.strip())!r}" if written.strip() else problem


@dataclass(slots=True, kw_only=True)
class _Reading:
    """One walk over the nodes of one text."""

    loader: _Loader
    where: Callable[[int], str]
    places: dict[Key, Place] = field(default_factory=dict)
    values: int = 0

    def value(self, node: yaml.Node, key: Key, depth: int) -> Any:
        where = self.where(node.start_mark.line + 1)
        self.values += 1
        if depth > DEPTH_MAX:
            raise SpecError(
                f"{where}: is nested too deeply (at most {DEPTH_MAX} levels; an alias inside its own anchor?)"
            )
        if self.values > VALUES_MAX:
            raise SpecError(f"{where}: has more than {VALUES_MAX} values once its aliases are written out")
        self.places[key] = Place(where=where)
        match node.tag.removeprefix(_CORE), node:
            case "seq", yaml.SequenceNode():
                return [self.value(item, (*key, at), depth + 1) for at, item in enumerate(node.value)]
            case "map", yaml.MappingNode():
                return self._mapping(node, key, depth)
            case kind, yaml.ScalarNode():
                return self._scalar(node, kind, key, where)
        raise SpecError(f"{where}: {dotted(key)}: the tag {node.tag} is not supported: write the plain value")

    def _scalar(self, node: yaml.ScalarNode, kind: str, key: Key, where: str) -> Any:
        text = str(node.value)
        if kind != "null":
            self.places[key] = Place(where=where, text=text)
        match kind:
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int" | "float":
                return _number(text, kind, where, key)
            case "str" | "merge" if _is_text(text):
                return text
            case "str" | "merge":
                raise SpecError(f"{where}: {dotted(key)}: holds a NUL or half a character, which cannot be stored")
        raise SpecError(f"{where}: {dotted(key)}: the tag {node.tag} is not supported: write the plain value")

    def _mapping(self, node: yaml.MappingNode, key: Key, depth: int) -> dict[str, Any]:
        merges = [value for name, value in node.value if name.tag == _MERGE]
        merged: dict[str, Any] = {}
        for value in merges:
            merged |= self._merge(value, key, depth)
        written: dict[str, int] = {}
        own: dict[str, Any] = {}
        for name_node, value in node.value:
            if name_node.tag == _MERGE:
                continue
            name, line = self._name(name_node, key), name_node.start_mark.line + 1
            if name in written:
                first = f"it is already there on line {written[name]}"
                raise SpecError(f"{self.where(line)}: {dotted((*key, name))}: written twice; {first}")
            written[name] = line
            own[name] = self.value(value, (*key, name), depth + 1)
            self.places[(*key, name)] = Place(where=self.where(line), text=self.places[(*key, name)].text)
        return merged | own

    def _merge(self, node: yaml.Node, key: Key, depth: int) -> dict[str, Any]:
        """What `<<` brings in: the first of several mappings wins."""
        together: dict[str, Any] = {}
        for part in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(part, yaml.MappingNode):
                raise SpecError(f"{self.where(part.start_mark.line + 1)}: `<<` takes a mapping, or a list of them")
            together = self.value(part, key, depth + 1) | together
        return together

    def _name(self, node: yaml.Node, key: Key) -> str:
        if not isinstance(node, yaml.ScalarNode):
            at = f"{dotted(key)}: " if key else ""
            raise SpecError(
                f"{self.where(node.start_mark.line + 1)}: {at}a key must be a word, not a list or a mapping"
            )
        return str(node.value)


def _is_text(text: str) -> bool:
    """No lone surrogate and no NUL: an escape can write them, and neither a file nor an environment holds them."""
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text)


def _number(text: str, kind: str, where: str, key: Key) -> int | float:
    """The number of a scalar; a tag may claim one that is none."""
    try:
        if kind == "int":
            return int(text, 0 if text[:2] in ("0x", "0o") else 10)
        number = float(re.sub(r"\.(inf|nan)", r"\1", text.lower()))
    except ValueError:
        raise SpecError(f"{where}: {dotted(key)}: {_cut(text)!r} is not a number that can be read") from None
    if not math.isfinite(number):
        raise SpecError(f"{where}: {dotted(key)}: {_cut(text)!r} is not a finite number")
    return number
