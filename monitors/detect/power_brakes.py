"""Which GPUs are held back: by heat, a power brake, a limit below their peers', or a clock that does not rise?

Heat and brakes show in the driver's time counters, which miss nothing between two polls. A power cap that works at
full load is no fault and is not told. A limit counts only beside peers of the same model: when all have it, a person
set it. A low clock counts only with power below the limit: at the limit, power itself holds the clock down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from monitors.hardware import GpuLooked

POLLS = 3
"""in a row: one poll may fall into anything"""
_SHARES = {"hw_thermal": 0.05, "power_brake": 0.05, "thermal": 0.2, "sw_thermal": 0.2}
"""of the time: hardware slows a GPU only in need, software trims a hot one now and then by design"""
_MASKS = {"hw_thermal": 0x40, "power_brake": 0x80}
"""bits of `throttles`, for drivers without the time counters (NVML: clocks event reasons)"""
_WORDS = {
    "hw_thermal": "the hardware slows it for heat",
    "thermal": "it is slowed for heat",
    "sw_thermal": "the driver slows it for heat",
    "power_brake": "the power supply's brake slows it",
    "capped": "its power limit is below its peers'",
    "clock": "its clock stays below its peers' though it is busy",
}
_CAPPED = 0.95
"""of the peers' limit and of its own default; vendors' boards differ by less"""
_CLOCK = 0.85
"""of the peers' median: boards of one model differ by 5 to 8 % in clock at full power"""
_AT_LIMIT = 0.88
"""of the limit: here power itself holds the clock down, as it should"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One GPU that is held back for one reason."""

    device: str
    node: int
    reason: str
    """hw_thermal, thermal, sw_thermal, power_brake, capped or clock"""
    since: float
    polls: int
    confidence: float
    sentence: str


@dataclass(slots=True)
class _Gpu:
    looked: GpuLooked
    fresh: bool = True
    since: dict[str, float] = field(default_factory=dict)
    """reason: first of the polls in a row that saw it"""
    polls: dict[str, int] = field(default_factory=dict)
    share: dict[str, float] = field(default_factory=dict)


class Brakes:
    """Fed with every look; judged now and then, when all peers have been looked at."""

    def __init__(self) -> None:
        self._gpus: dict[str, _Gpu] = {}

    def looked(self, signal: GpuLooked) -> None:
        """Compare with the look before."""
        gpu = self._gpus.get(signal.device)
        if gpu is None:
            self._gpus[signal.device] = _Gpu(looked=signal)
            return
        before, gpu.looked, gpu.fresh = gpu.looked, signal, True
        if signal.throttled_s:
            self._counted(gpu, before)
        elif signal.throttles is not None:
            for reason, bit in _MASKS.items():
                _note(gpu, reason, seen=bool(signal.throttles & bit), since=before.at)

    def forget(self, device: str) -> None:
        """It belongs to no rank any more."""
        self._gpus.pop(device, None)

    def held(self, idle: frozenset[str] = frozenset()) -> list[Held]:
        """GPUs that were held back at each of their last POLLS looks; those in `idle` are no peers of a busy one."""
        by_model: dict[str, list[_Gpu]] = {}
        for gpu in self._gpus.values():
            by_model.setdefault(gpu.looked.name, []).append(gpu)
        for peers in by_model.values():
            _compare(peers, idle)
        found = [
            _told(gpu, reason) for gpu in self._gpus.values() for reason in gpu.polls if gpu.polls[reason] >= POLLS
        ]
        for gpu in self._gpus.values():
            gpu.fresh = False
        return found

    @staticmethod
    def _counted(gpu: _Gpu, before: GpuLooked) -> None:
        took_s = gpu.looked.at - before.at
        if took_s <= 0.0:
            return
        was = dict(before.throttled_s)
        for reason, counted_s in gpu.looked.throttled_s:
            least = _SHARES.get(reason)
            grown_s = counted_s - was.get(reason, counted_s)
            if least is None or grown_s < 0.0:  # a counter that fell: the driver was loaded anew
                continue
            if grown_s < least * took_s:
                gpu.polls.pop(reason, None)
                continue
            gpu.share[reason] = min(1.0, grown_s / took_s)
            _note(gpu, reason, seen=True, since=before.at)


def grown(before: GpuLooked, now: GpuLooked) -> Mapping[str, float]:
    """Share of the time between two looks for which each brake held; empty where the driver counts none."""
    took_s = now.at - before.at
    if took_s <= 0.0:
        return {}
    was = dict(before.throttled_s)
    shares = {reason: (s - was.get(reason, s)) / took_s for reason, s in now.throttled_s if reason in _SHARES}
    return {reason: share for reason, share in shares.items() if share >= _SHARES[reason]}


def _note(gpu: _Gpu, reason: str, *, seen: bool, since: float) -> None:
    if not seen:
        gpu.polls.pop(reason, None)
        return
    if reason not in gpu.polls:
        gpu.since[reason] = since
    gpu.polls[reason] = gpu.polls.get(reason, 0) + 1


def _compare(peers: list[_Gpu], idle: frozenset[str]) -> None:
    limit_w = _middle(gpu.looked.limit_w for gpu in peers)
    busy = [gpu for gpu in peers if (gpu.looked.utilisation or 0.0) >= 0.9 and gpu.looked.device not in idle]
    clocks = _middle(gpu.looked.sm_clock_mhz for gpu in busy)
    among_busy = {gpu.looked.device for gpu in busy} if len(busy) >= 3 else set()
    for gpu in peers:
        if not gpu.fresh:
            continue
        look = gpu.looked
        _note(gpu, "capped", seen=_is_capped(look, limit_w), since=look.at)
        slow = look.device in among_busy and _is_slow(look, clocks)
        _note(gpu, "clock", seen=slow, since=look.at)


def _middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _is_capped(look: GpuLooked, usual_w: float | None) -> bool:
    if usual_w is None or look.limit_w is None or look.limit_w >= _CAPPED * usual_w:
        return False
    return look.limit_default_w is None or look.limit_w < _CAPPED * look.limit_default_w


def _is_slow(look: GpuLooked, usual_mhz: float | None) -> bool:
    """Both are of the same instant: whether the GPU computed or waited in it does not matter."""
    if usual_mhz is None or look.sm_clock_mhz is None or look.power_w is None:
        return False
    limit_w = look.limit_w or look.limit_default_w
    return look.sm_clock_mhz < _CLOCK * usual_mhz and limit_w is not None and look.power_w < _AT_LIMIT * limit_w


def _told(gpu: _Gpu, reason: str) -> Held:
    look = gpu.looked
    numbers = {
        "capped": f"{look.limit_w:.0f} W" if look.limit_w is not None else "",
        "clock": f"{look.sm_clock_mhz:.0f} MHz" if look.sm_clock_mhz is not None else "",
    }.get(reason, f"{100 * gpu.share[reason]:.0f} % of the time" if reason in gpu.share else "")
    said = f"GPU {look.index} of node {look.node} ({look.device}): {_WORDS[reason]}"
    return Held(
        device=look.device,
        node=look.node,
        reason=reason,
        since=gpu.since[reason],
        polls=gpu.polls[reason],
        confidence=0.6 if reason == "clock" else 0.9,
        sentence=f"{said}, {numbers}, at {gpu.polls[reason]} polls in a row" if numbers else said,
    )
