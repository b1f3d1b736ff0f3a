"""What do the GPUs and senses of a run say now? What agents told last, for the metrics that people scrape.

Pure, and part of nothing that is decided: the newest look at each GPU is kept, and made a table when asked.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

from monitors import signals as s
from monitors.hardware import GpuEvent, GpuLooked

RankOf = Callable[[int, int], int | None]
"""node and index of a GPU to the rank that most likely works on it"""

SEEN = (GpuLooked, GpuEvent, s.Blind)
"""of all signals, that anything is read off"""
PLACE = ("node", "rank", "index", "device", "name", "pci")
VALUES = (
    *("at", "power_w", "power_mean_w", "energy_j", "limit_w", "utilisation", "sm_clock_mhz", "temperature_c"),
    *("memory_temperature_c", "memory_used_bytes", "memory_bytes", "throttles", "ecc_corrected", "ecc_uncorrected"),
    *("remap_failed", "rows_remapped_uncorrected", "nvlink_errors", "pcie_replays"),
)
"""fields of `monitors.hardware.GpuLooked`, after those of PLACE, in a line of the table"""
SPREAD = ("power_w", "temperature_c", "utilisation", "memory_used_bytes", "sm_clock_mhz")
"""what is told of GPUs that are too many to name"""


class Readings:
    """The newest of everything, of one run."""

    def __init__(self, *, rank_of: RankOf) -> None:
        self._rank_of = rank_of
        self._gpus: dict[tuple[int, str], GpuLooked] = {}
        self._xids: dict[tuple[int, str], tuple[int, dict[int, int]]] = {}
        """by node and UUID: the last Xid, and how often each was heard"""
        self._blind: dict[tuple[int, str], s.Blind] = {}

    def see(self, signal: s.Signal) -> None:
        """Keep what it says."""
        match signal:
            case GpuLooked():
                self._gpus[signal.node, signal.device] = signal
            case GpuEvent(event="xid"):
                _, heard = self._xids.get((signal.node, signal.device), (0, {}))
                heard[signal.data] = heard.get(signal.data, 0) + 1
                self._xids[signal.node, signal.device] = (signal.data, heard)
            case s.Blind(why=""):
                self._blind.pop((signal.node, signal.sense), None)
            case s.Blind():
                self._blind[signal.node, signal.sense] = signal
            case _:
                pass

    def forget(self) -> None:
        """Another attempt begins, perhaps on other nodes; how often a GPU failed stays known."""
        self._gpus.clear()
        self._blind.clear()

    def table(self, most: int) -> dict[str, Any]:
        """What is known now, ready for JSON: `gpus` has a line for each, unless there are more than `most`.

        `spread` has least, median and greatest of each of SPREAD, in any case.
        """
        named = len(self._gpus) <= most
        return {
            "gpus": [self._line(gpu) for _, gpu in sorted(self._gpus.items())] if named else [],
            "gpus_seen": len(self._gpus),
            "spread": {name: spread for name in SPREAD if (spread := self._spread(name)) is not None},
            "xids": [
                [node, device, last, sorted(heard.items())] for (node, device), (last, heard) in self._xids.items()
            ],
            "blind": [[blind.node, blind.sense, blind.why, blind.at] for blind in self._blind.values()],
        }

    def _line(self, gpu: GpuLooked) -> list[Any]:
        rank = self._rank_of(gpu.node, gpu.index)
        return [gpu.node, rank, gpu.index, gpu.device, gpu.name, gpu.pci, *(getattr(gpu, name) for name in VALUES)]

    def _spread(self, name: str) -> tuple[float, float, float] | None:
        values = [value for gpu in self._gpus.values() if (value := getattr(gpu, name)) is not None]
        return (min(values), median(values), max(values)) if values else None
