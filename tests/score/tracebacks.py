"""How well are the words of a rank judged? Labelled texts, by class and all together."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from monitors.catalogue.signatures import judge
from tests.score.rows import Row

ROLES_TARGET = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One text: what it is, and what we say."""

    wanted: tuple[str, str, bool | None, str]
    """class, role, retryable, what helps"""
    got: tuple[str, str, bool | None, str]


def score(folder: Path) -> list[Row]:
    """A row for each class, by the class that we name, then `all` and what is asked of it."""
    path = folder / "traceback_cases.jsonl"
    if not path.exists():
        return []
    cases = [_case(json.loads(line)) for line in path.read_text().splitlines() if line.strip()]
    classes = sorted({case.wanted[0] for case in cases})
    return [*(_of_class(cases, name) for name in classes), _all(cases)]


def _case(row: dict[str, object]) -> Case:
    found = judge(str(row["text"]))
    got = (
        (found.fault, found.role.value, found.retryable, found.next.value) if found else ("none", "none", None, "none")
    )
    retryable = row.get("retryable")
    return Case(
        wanted=(
            str(row["fault_class"]),
            str(row.get("role") or "none"),
            None if retryable is None else bool(retryable),
            str(row.get("next") or "none"),
        ),
        got=got,
    )


def _of_class(cases: Sequence[Case], name: str) -> Row:
    are = [case for case in cases if case.wanted[0] == name]
    said = [case for case in cases if case.got[0] == name]
    hits = sum(1 for case in are if case.got[0] == name)
    return Row(
        family="tracebacks",
        what=name,
        cases=len(are),
        precision=hits / len(said) if said else None,
        recall=hits / len(are),
        more={"role": _share(are, lambda case: case.got[1] == case.wanted[1])},
    )


def _all(cases: Sequence[Case]) -> Row:
    role = _share(cases, lambda case: case.got[1] == case.wanted[1])
    right = _share(cases, lambda case: case.got[0] == case.wanted[0])
    alarms = [case for case in cases if case.got[1] != "none"]
    return Row(
        family="tracebacks",
        what="all",
        cases=len(cases),
        precision=_share(alarms, lambda case: case.wanted[1] != "none"),
        recall=right,
        more={
            "class": right,
            "role": role,
            "retryable": _share(cases, lambda case: case.got[2] == case.wanted[2]),
            "next": _share(cases, lambda case: case.got[3] == case.wanted[3]),
        },
        target=f"root or cascade right in >= {ROLES_TARGET:.2f}",
        met=role >= ROLES_TARGET,
    )


def _share(cases: Sequence[Case], is_right: Callable[[Case], bool]) -> float:
    return sum(1 for case in cases if is_right(case)) / len(cases) if cases else 1.0
