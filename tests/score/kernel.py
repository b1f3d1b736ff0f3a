"""Is a kernel line judged as its label says? Class by class, on `kmsg_cases.jsonl`.

Precision of a class: of the lines called so, those that are. Recall: of the lines that are, those called so. The row
`all` counts lines with a fault: right only if the class is the labelled one; `detection` is fault against innocent, and
`action` the share of all lines whose action is the labelled one.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from monitors.catalogue.kernel import read
from tests.score.rows import Row

CASES = "kmsg_cases.jsonl"
INNOCENT = "none"
PRECISION, RECALL = 0.99, 0.97


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One line, as labelled and as read."""

    line: str
    label: tuple[str, str]
    """class and action"""
    said: tuple[str, str]


def score(folder: Path) -> list[Row]:
    """A row for each class, and one for all; none where there are no cases."""
    if not (folder / CASES).is_file():
        return []
    cases = [json.loads(line) for line in (folder / CASES).read_text().splitlines() if line.strip()]
    judged = [judge(case["line"], (case["fault_class"], case["action"])) for case in cases]
    return [*by_class(judged), overall(judged)]


def judge(line: str, label: tuple[str, str]) -> Judged:
    """What the catalogue says of a line, beside its label."""
    found = read(line)
    said = (INNOCENT, "none") if found is None else (found.fault or INNOCENT, found.action)
    return Judged(line=line, label=label, said=said)


def by_class(judged: list[Judged]) -> list[Row]:
    """A row for each class that is a label or was said."""
    are = Counter(one.label[0] for one in judged)
    said = Counter(one.said[0] for one in judged)
    right = Counter(one.label[0] for one in judged if one.label[0] == one.said[0])
    return [
        Row(
            family="kernel",
            what=name,
            cases=are[name],
            precision=_share(right[name], said[name]),
            recall=_share(right[name], are[name]),
        )
        for name in sorted(are | said)
    ]


def overall(judged: list[Judged]) -> Row:
    """Every line with a fault together."""
    faults = [one for one in judged if one.label[0] != INNOCENT]
    called = [one for one in judged if one.said[0] != INNOCENT]
    right = sum(one.label[0] == one.said[0] for one in faults)
    seen = sum(one.said[0] != INNOCENT for one in faults)
    precision, recall = _share(right, len(called)), _share(right, len(faults))
    return Row(
        family="kernel",
        what="all",
        cases=len(judged),
        precision=precision,
        recall=recall,
        target=f"precision ≥ {PRECISION:g}, recall ≥ {RECALL:g}",
        met=(precision or 0.0) >= PRECISION and (recall or 0.0) >= RECALL,
        more={
            "detection precision": _share(seen, len(called)) or 0.0,
            "detection recall": _share(seen, len(faults)) or 0.0,
            "action": sum(one.label[1] == one.said[1] for one in judged) / len(judged),
        },
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
