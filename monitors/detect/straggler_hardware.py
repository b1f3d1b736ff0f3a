"""Is one GPU, or one host, slower than its peers? A hint at the culprit where no rank comes late by itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from monitors.detect.power_brakes import grown
from monitors.hardware import GpuLooked, HostLooked
from monitors.placement import RankOf, by_convention

_ANCHOR_S = 60.0
"""how often the look that later ones are compared with is renewed"""
_CLOCK, _LIMIT, _FULL_POWER = 0.9, 0.95, 0.9
_STEAL, _LOAD, _PRESSURE = 0.1, 1.5, 0.2
_WORDS = {
    "hw_thermal": "was slowed by its hardware for heat",
    "thermal": "was slowed for heat",
    "sw_thermal": "was slowed by the driver for heat",
    "power_brake": "was slowed by the power supply's brake",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """A GPU, or all of a node's, held back."""

    node: int
    rank: int | None
    device: str | None
    sentences: tuple[str, ...]


@dataclass(slots=True)
class _Gpu:
    now: GpuLooked
    anchors: list[GpuLooked] = field(default_factory=list)
    """this look and the one before it, at least _ANCHOR_S apart"""
    clocks: deque[float] = field(default_factory=lambda: deque(maxlen=3))


class Hardware:
    """The newest looks at GPUs and hosts."""

    def __init__(self, *, ranks_per_node: int, rank_of: RankOf | None = None) -> None:
        """GPU i of a node belongs to the node's rank i unless `rank_of` knows better."""
        self._rank_of = rank_of or by_convention(ranks_per_node)
        self._gpus: dict[str, _Gpu] = {}
        self._hosts: dict[int, HostLooked] = {}

    def looked(self, signal: GpuLooked | HostLooked) -> None:
        """Keep it."""
        if isinstance(signal, HostLooked):
            self._hosts[signal.node] = signal
            return
        if self._rank_of(signal.node, signal.index) is None:
            self._gpus.pop(signal.device, None)
            return
        gpu = self._gpus.get(signal.device)
        if gpu is None:
            self._gpus[signal.device] = _Gpu(now=signal, anchors=[signal])
            return
        gpu.now = signal
        if signal.at - gpu.anchors[-1].at >= _ANCHOR_S:
            gpu.anchors = [gpu.anchors[-1], signal]
        if signal.sm_clock_mhz is not None and (signal.utilisation or 0.0) >= 0.5:
            gpu.clocks.append(signal.sm_clock_mhz)

    def outstanding(self, onset_at: float | None) -> Hint | None:
        """The one GPU, or the one node, that is held back while its peers are not; None: none, or too many."""
        by_model: dict[str, list[_Gpu]] = {}
        for gpu in self._gpus.values():
            by_model.setdefault(gpu.now.name, []).append(gpu)
        usual = {model: _usual(gpus) for model, gpus in by_model.items()}
        reasons = {
            device: found for device, gpu in self._gpus.items() if (found := _held(gpu, usual[gpu.now.name], onset_at))
        }
        if not reasons:
            return None
        held = [self._gpus[device].now for device in reasons]
        nodes = {look.node for look in held}
        if len(held) == 1:
            look = held[0]
            rank = self._rank_of(look.node, look.index)
            return Hint(node=look.node, rank=rank, device=look.device, sentences=tuple(reasons[look.device]))
        there = sum(gpu.now.node in nodes for gpu in self._gpus.values())
        if len(nodes) == 1 and there < len(self._gpus) and len(held) * 2 >= there:
            said = next(iter(reasons.values()))[0]
            sentence = f"{len(held)} of the {there} GPUs of node {held[0].node} are held back; {said}"
            return Hint(node=held[0].node, rank=None, device=None, sentences=(sentence,))
        return None

    def of_host(self, node: int | None) -> tuple[str, ...]:
        """What the host of a node says of itself that would make its ranks slow."""
        host = self._hosts.get(-1 if node is None else node)
        if host is None:
            return ()
        said = []
        if (host.cpu_steal or 0.0) >= _STEAL:
            said.append(f"the hypervisor gave {100 * (host.cpu_steal or 0):.0f} % of node {node}'s CPU time to others")
        if (host.load_per_cpu or 0.0) >= _LOAD:
            said.append(f"node {node} has {host.load_per_cpu:.1f} runnable processes for each CPU")
        if (host.memory_stalled_share or 0.0) >= _PRESSURE:
            said.append(
                f"processes of node {node} waited for memory {100 * (host.memory_stalled_share or 0):.0f} % of the time"
            )
        return tuple(said)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Usual:
    """Of the GPUs of one model; None: not known."""

    limit_w: float | None
    lanes: float | None
    clock_mhz: float | None


def _usual(gpus: list[_Gpu]) -> _Usual:
    clocks = [median(gpu.clocks) for gpu in gpus if len(gpu.clocks) == 3]
    return _Usual(
        limit_w=_middle([gpu.now.limit_w for gpu in gpus]),
        lanes=_middle([gpu.now.pcie_width for gpu in gpus]),
        clock_mhz=median(clocks) if len(clocks) > 2 else None,
    )


def _middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _held(gpu: _Gpu, usual: _Usual, onset_at: float | None) -> list[str]:
    look = gpu.now
    who = f"GPU {look.index} of node {look.node}"
    shares = grown(_before(gpu, onset_at), look)
    said = [f"{who} {_WORDS[reason]} for {100 * share:.0f} % of the time" for reason, share in shares.items()]
    if look.limit_w is not None and usual.limit_w is not None and look.limit_w < _LIMIT * usual.limit_w:
        said.append(f"{who} is limited to {look.limit_w:.0f} W, its peers to {usual.limit_w:.0f} W")
    if look.pcie_width is not None and usual.lanes is not None and look.pcie_width < usual.lanes:
        said.append(f"{who} has {look.pcie_width} PCIe lanes, its peers {usual.lanes:.0f}")
    if usual.clock_mhz is not None and _is_slow(gpu, usual.clock_mhz):
        said.append(f"{who} runs at {median(gpu.clocks):.0f} MHz, its peers at {usual.clock_mhz:.0f}, below its limit")
    return said


def _before(gpu: _Gpu, onset_at: float | None) -> GpuLooked:
    """The newest kept look from before the onset, else the oldest."""
    older = [look for look in gpu.anchors if onset_at is not None and look.at <= onset_at]
    return older[-1] if older else gpu.anchors[0]


def _is_slow(gpu: _Gpu, usual_mhz: float) -> bool:
    if len(gpu.clocks) < 3 or median(gpu.clocks) >= _CLOCK * usual_mhz:
        return False
    limit_w, power_w = gpu.now.limit_w, gpu.now.power_w
    return power_w is None or limit_w is None or power_w < _FULL_POWER * limit_w
