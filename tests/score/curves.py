"""What counts as right on a labelled loss curve? The rules of the curves' own `score.py`, and more delays.

Counts are rows of the log. An event is found when an alarm lies in it or within ten rows of it; alarms within ten rows
of each other are one episode; an episode that touches no event, no data outlier and no unclear stretch is false. An
alarm whose kind begins with `warn` is a notice, any other is an action.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

Row = tuple[float, float, float | None]
"""step, loss, gradient norm"""
Judge = Callable[[float, float, float | None], str | None]
Factory = Callable[[Mapping[str, Any]], Judge]

SERIOUS = ("sustained", "divergence", "nan")
LEAD_ROWS = GRACE_ROWS = 10
REFRACTORY_ROWS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One label."""

    kind: str
    first: int
    last: int

    @property
    def window(self) -> range:
        """Rows in which an alarm belongs to it."""
        if self.kind == "outlier":
            return range(self.first - 1, self.last + 4)
        return range(self.first - LEAD_ROWS, self.last + GRACE_ROWS + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A log and its labels."""

    name: str
    rows: Sequence[Row]
    events: tuple[Event, ...] = ()
    unclear: tuple[tuple[int, int], ...] = ()
    log_interval: float = 1.0

    @property
    def meta(self) -> dict[str, Any]:
        """What a detector is told beforehand."""
        has_norm = self.rows[0][2] is not None
        return {
            "name": self.name,
            "n_rows": len(self.rows),
            "log_interval": self.log_interval,
            "has_grad_norm": has_norm,
        }

    @property
    def is_clean(self) -> bool:
        """Nothing is wrong with it but odd batches."""
        return all(event.kind == "outlier" for event in self.events)


def load(folder: Path) -> list[Curve]:
    """The curves of a folder with INDEX.jsonl; empty where there is none."""
    index = folder / "INDEX.jsonl"
    if not index.exists():
        return []
    return [_curve(folder, json.loads(line)) for line in index.read_text().splitlines() if line.strip()]


def _curve(folder: Path, entry: Mapping[str, Any]) -> Curve:
    with (folder / entry.get("csv", f"{entry['name']}.csv")).open(newline="") as file:
        rows = [_row(one) for one in csv.DictReader(file)]
    return Curve(
        name=entry["name"],
        rows=rows,
        events=tuple(Event(kind=e["kind"], first=e["start_row"], last=e["end_row"]) for e in entry["spikes_detail"]),
        unclear=tuple((first, last) for first, last in entry.get("ignore_rows", ())),
        log_interval=entry.get("log_interval", 1.0),
    )


def _row(one: Mapping[str, str]) -> Row:
    norm = one.get("grad_norm")
    return float(one["step"]), float(one["loss"]), float(norm) if norm else None


@dataclass(slots=True)
class Tally:
    """What one detector did on all curves."""

    rows: int = 0
    clean_rows: int = 0
    serious: int = 0
    found: int = 0
    acted: int = 0
    """of the serious ones"""
    delays: list[int] = field(default_factory=list)
    """from the beginning of a serious event to the first alarm of either level"""
    action_delays: list[int] = field(default_factory=list)
    onset_errors: list[int] = field(default_factory=list)
    transients: int = 0
    transients_noticed: int = 0
    transients_acted: int = 0
    outliers: int = 0
    outliers_acted: int = 0
    true_episodes: int = 0
    false_episodes: int = 0
    false_actions: int = 0
    clean_false_actions: int = 0
    missed: list[str] = field(default_factory=list)

    def add(self, curve: Curve, judge: Judge) -> None:
        """Run the judge over one curve."""
        alarms = [(number, said) for number, row in enumerate(curve.rows) if (said := judge(*row))]
        actions = [number for number, said in alarms if not said.startswith("warn")]
        rows = [number for number, _ in alarms]
        self.rows += len(curve.rows)
        self.clean_rows += len(curve.rows) if curve.is_clean else 0
        for event in curve.events:
            self._event(curve, event, rows, actions, _onsets(judge))
        self._episodes(curve, rows, actions)

    def _event(
        self, curve: Curve, event: Event, rows: list[int], actions: list[int], onsets: list[tuple[int, int]]
    ) -> None:
        first = next((row for row in rows if row in event.window), None)
        acted = next((row for row in actions if row in event.window), None)
        if event.kind == "outlier":
            self.outliers += 1
            self.outliers_acted += acted is not None
        elif event.kind in SERIOUS:
            self._serious(curve, event, first, acted)
            self.onset_errors += [abs(onset - event.first) for row, onset in onsets if row == acted][:1]
        else:
            self.transients += 1
            self.transients_noticed += first is not None
            self.transients_acted += acted is not None

    def _serious(self, curve: Curve, event: Event, first: int | None, acted: int | None) -> None:
        self.serious += 1
        self.found += first is not None
        self.acted += acted is not None
        self.delays += [] if first is None else [first - event.first]
        self.action_delays += [] if acted is None else [acted - event.first]
        self.missed += [f"{curve.name}: {event.kind} at {event.first}"] if first is None else []

    def _episodes(self, curve: Curve, rows: list[int], actions: list[int]) -> None:
        events = {row for event in curve.events if event.kind != "outlier" for row in event.window}
        neutral = {row for event in curve.events if event.kind == "outlier" for row in event.window}
        neutral |= {row for first, last in curve.unclear for row in range(first - 1, last + 3)}
        for episode in _merged(rows):
            self.true_episodes += not events.isdisjoint(episode)
            self.false_episodes += (events | neutral).isdisjoint(episode)
        false = sum((events | neutral).isdisjoint(episode) for episode in _merged(actions))
        self.false_actions += false
        self.clean_false_actions += false if curve.is_clean else 0

    @property
    def precision(self) -> float | None:
        """Of the episodes that fall on something labelled or on nothing; None when there are none."""
        told = self.true_episodes + self.false_episodes
        return self.true_episodes / told if told else None

    def per_10k(self, count: int) -> float:
        """Rows."""
        return 1e4 * count / max(1, self.rows)


def _onsets(judge: Judge) -> list[tuple[int, int]]:
    """Row of the conclusion and row of the onset, of a judge that says both."""
    return [(row, told.onset_step) for row, told in getattr(judge, "told", ())]


def _merged(rows: list[int]) -> Iterator[list[int]]:
    episode: list[int] = []
    for row in rows:
        if episode and row - episode[-1] > REFRACTORY_ROWS:
            yield episode
            episode = []
        episode.append(row)
    if episode:
        yield episode


def middle(values: Sequence[int]) -> float | None:
    """The median; None of nothing."""
    return float(median(values)) if values else None


def high(values: Sequence[int]) -> float | None:
    """The 90th percentile; None of nothing."""
    return float(sorted(values)[min(len(values) - 1, int(0.9 * len(values)))]) if values else None


def judged(factory: Factory, curves: Sequence[Curve]) -> Tally:
    """One detector over all curves, a fresh judge for each."""
    tally = Tally()
    for curve in curves:
        tally.add(curve, factory(curve.meta))
    return tally
