"""What stands on the page that Prometheus scrapes? Everything known now, put together anew for each reader.

Its size is bounded: by the runs that are told of (`runs_max`), and the GPUs that are told of singly (`gpus_max`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from monitors.clock import Clock
from orchestrator import bulkhead, contract, metrics_families, metrics_gpus
from orchestrator.home import Home
from orchestrator.journal import JournalUnavailable
from orchestrator.journal.file import code_version
from orchestrator.metrics_runs import Books
from orchestrator.metrics_settings import Settings

log = logging.getLogger(__name__)

TEXT = "text/plain; version=0.0.4"
KEEP_UP_S = 5.0
"""between two looks at the journal: a page is not older than that, and no scrape has much to read"""
Live = Mapping[str, Mapping[str, Any]]
"""of each run that goes on: `readings.Readings.table`, with `hosts`"""


class Pages(Collector):
    """The page of one state folder, made anew for each reader. One thread uses it."""

    def __init__(self, home: Home, settings: Settings, clock: Clock) -> None:
        self._home = home
        self._settings = settings
        self._clock = clock
        self._books = Books(home.journal)
        self._live: Live | None = None
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self._unread = ""
        """why the journal could not be read"""
        self._read_at = float("-inf")

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: what there is depends on what is running."""
        return []

    def follow(self) -> None:
        """Read what is new in the journal."""
        self._read_at = self._clock.now()
        try:
            self._books.catch_up(self._read_at)
        except JournalUnavailable as error:
            self._books.close()
            if self._unread != str(error):
                log.error("%s", error)
            self._unread = str(error)
        else:
            self._unread = ""

    def page(self, live: Live | None, accept: str = TEXT) -> tuple[bytes, str]:
        """The page and its type. `live`: what the supervisor answered; None: it did not."""
        self._live = live
        if self._clock.now() >= self._read_at + KEEP_UP_S:
            self.follow()
        encoder, kind = choose_encoder(accept)
        return encoder(self._registry), kind

    def collect(self) -> Iterator[Metric]:
        """Every family, with the samples of now."""
        now = self._clock.now()
        live = self._live or {}
        runs = [
            metrics_families.told(
                book,
                now,
                agents=len(live[run]["hosts"]) if (run := book.submission.run) in live else None,
                unsupervised=bulkhead.unsupervised(self._home.root, run) is not None,
            )
            for book in self._books.shown(self._settings.runs_max)
        ]
        yield from self._supervisor(now)
        yield from metrics_families.of_runs(runs)
        yield from metrics_gpus.of_gpus(_bounded(live, self._settings.gpus_max))
        yield from metrics_gpus.of_spread(live)
        yield from metrics_gpus.of_senses(live)

    def _supervisor(self, now: float) -> Iterator[Metric]:
        seen_at = self._books.seen_at
        build = GaugeMetricFamily("lastgood_build_info", "Always 1; says which lastgood tells.", labels=("version",))
        build.add_metric((code_version(),), 1.0)
        yield build
        looked_at = now if self._unread else self._read_at  # what was said since then was not heard
        alive = seen_at is not None and looked_at - seen_at < contract.ALIVE_S
        yield _single("supervisor_up", "1 while the supervisor says every few seconds that it lives.", alive)
        yield _single("supervisor_answers", "1 when it answered what it alone knows.", self._live is not None)
        yield _single("journal_readable", "0 when the journal cannot be read: nothing is new then.", not self._unread)
        if seen_at is not None:
            yield _single("supervisor_heartbeat_timestamp_seconds", "When it was last known alive.", seen_at)
        runs = GaugeMetricFamily("lastgood_runs", "Runs by state, of all that ever were.", labels=("state",))
        counted = dict.fromkeys(metrics_families.STATES, 0)
        for phase, count in self._books.count().items():
            counted[contract.STATES[phase][0]] += count
        for state, count in counted.items():
            runs.add_metric((state,), count)
        yield runs


def _single(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"lastgood_{name}", text, value=float(value))


def _bounded(live: Live, most: int) -> Live:
    """The same, with GPUs one by one for the first runs only, as many as may be named."""
    found: dict[str, Mapping[str, Any]] = {}
    for run, table in live.items():
        named = len(table["gpus"]) <= most
        most -= len(table["gpus"]) if named else 0
        found[run] = table if named else {**table, "gpus": []}
    return found
