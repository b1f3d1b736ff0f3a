"""Which GPU is lost, needs a reset, returns wrong bits, or has lost a link? The driver's own word, first.

A fault is told once for each GPU and kind, until the driver says that the GPU is well again. What is still wrong when a
new world begins is wrong for that one too, and told again. What a fault does to others (Xids of cleaning up, links that
go down with it) is not told as another, and a GPU that no rank works on is none of the run's affairs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from monitors.catalogue.kernel import Catalogue
from monitors.detect.gpus_meaning import ERRORS, EVENTS, Told, of_line, of_verdict, of_xid, read_xid
from monitors.hardware import GpuEvent, GpuFailed, GpuLooked, KernelSaw
from monitors.incidents import Incident, Kind, Subject
from monitors.placement import UNKNOWN, Placement
from monitors.signals import RankProgress, RankStarted, Signal

_LESSER: dict[Kind, frozenset[Kind]] = {
    Kind.GPU_LOST: frozenset({Kind.GPU_FAULT, Kind.GPU_MEMORY, Kind.LINK_FAULT}),
    Kind.GPU_FAULT: frozenset({Kind.GPU_MEMORY, Kind.LINK_FAULT}),
}
"""what says nothing new about a GPU that has this"""

_KEPT_MAX = 64
"""words kept until it is known whose a GPU is: more than a node says in the moment before its ranks start"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpusConfig:
    """How long, and how often."""

    polls: int = 3
    """in a row, for what a single look may get wrong: an error without a meaning, a narrow bus"""
    well_s: float = 60.0
    """without a word of a fault that only events told of: then it is over"""
    settle_s: float = 10.0
    """in which an event, and the counter that counts it, tell of the same, even if a world ended of it meanwhile"""
    cascade_s: float = 60.0
    """in which one fault explains another of the same GPU, and the links of its peers"""


@dataclass(slots=True)
class _Gpu:
    """One GPU, as far as it was heard of."""

    node: int
    index: int = -1
    pci: str | None = None
    looked: GpuLooked | None = None
    """the newest look at which it answered"""
    told: dict[Kind, tuple[float, int]] = field(default_factory=dict)
    """kinds that stand: when the newest word of each came, and in which world"""
    heard: dict[Kind, float] = field(default_factory=dict)
    """when the newest event of each kind was; a log that is read again tells none anew"""
    ill_since: float | None = None
    """looks, not only events, say that it is; since the last one that did not"""
    well: int = 0
    """looks in a row at which it is well"""
    strange: int = 0
    """looks in a row that ended in an error without a meaning"""
    narrow: list[float] = field(default_factory=list)
    """times of the looks in a row at which its bus was narrow"""
    xid: tuple[float, int, str] | None = None
    """the newest Xid that was not a consequence: when, its number, what it says"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    """What was heard of a GPU, and by which sense."""

    device: str
    told: Told
    at: float
    onset: float
    sense: str


class Gpus:
    """Sees what the driver says of every GPU; concludes what is wrong with which."""

    deadline: float | None = None
    """never: the sense itself tells when a GPU does not answer"""

    def __init__(
        self,
        config: GpusConfig | None = None,
        *,
        placement: Placement | None = None,
        catalogue: Catalogue | None = None,
    ) -> None:
        """Without `placement` every GPU counts as the run's. `catalogue`: for Xids that no sense has judged."""
        self.config = config or GpusConfig()
        self._placement = placement
        self._catalogue = catalogue or Catalogue()
        self._kept: list[_Word] = []
        """heard once each, before it is known whose the GPU is"""
        self._gpus: dict[str, _Gpu] = {}
        self._world = 0
        self._step = 0

    def world_began(self, world: int) -> None:
        """Ranks are new; the GPUs are not."""
        self._world, self._step = world, 0

    def see(self, signal: Signal) -> list[Incident]:
        """A GPU was looked at, failed, or its driver told of something."""
        match signal:
            case GpuLooked():
                return self.looked(signal)
            case GpuFailed():
                return self._failed(signal)
            case GpuEvent():
                return self._event(signal)
            case KernelSaw():
                return self._line(signal)
            case RankProgress():
                return self.progress(signal)
            case RankStarted():
                return self._placed()
            case _:
                pass
        return []

    def progress(self, signal: RankProgress) -> list[Incident]:
        """A rank is there."""
        self._step = max(self._step, signal.step)
        return self._placed() if self._kept else []

    def silent(self, now: float) -> list[Incident]:  # noqa: ARG002 - every detector has it
        """Nothing: who asks the driver says when it does not answer."""
        return []

    # ------------------------------------------------------------------------------------------- looks

    def looked(self, signal: GpuLooked) -> list[Incident]:
        """A GPU answered."""
        gpu = self._gpu(signal.device, signal.node, signal.index, signal.pci)
        before, gpu.looked, gpu.strange = gpu.looked, signal, 0
        verdict = of_verdict(signal.recovery_action or 0)
        if verdict is not None:
            return self._ill(signal.device, verdict, signal.at, since=signal.at if before is None else before.at)
        incidents = [] if before is None or _is_new_boot(before, signal) else self._changed(before, signal)
        if not incidents:
            self._recovered(gpu, signal)
        return incidents + self._narrow(signal, gpu)

    def _changed(self, before: GpuLooked, now: GpuLooked) -> list[Incident]:
        """What is worse than at the look before, the first of which counts."""
        for told in (_memory(before, now), _links(before, now)):
            if told is not None:
                return self._tell(now.device, told, now.at, onset=before.at)
        return []

    def _recovered(self, gpu: _Gpu, signal: GpuLooked) -> None:
        gpu.well += 1
        if gpu.ill_since is not None and gpu.well >= self.config.polls:
            gpu.ill_since, gpu.told, gpu.xid = None, {}, None
        if gpu.ill_since is None:
            over = [kind for kind, (at, _) in gpu.told.items() if signal.at - at >= self.config.well_s]
            for kind in over:
                del gpu.told[kind]

    def _narrow(self, signal: GpuLooked, gpu: _Gpu) -> list[Incident]:
        """A bus below what the slot can do, while those of its peers are not: all alike is how the board is built."""
        width, most = signal.pcie_width, signal.pcie_width_max
        alike, full = (0, 0) if width is None or most is None or width >= most else self._peers(signal, most)
        if full <= alike - full:
            gpu.narrow.clear()
            gpu.told.pop(Kind.GPU_DEGRADED, None)
            return []
        gpu.narrow.append(signal.at)
        if len(gpu.narrow) < self.config.polls:
            return []
        sentence = (
            f"its PCIe link has {width} of {most} lanes at {self.config.polls} looks in a row;"
            f" {full} of its {alike} peers have all of theirs"
        )
        told = Told(kind=Kind.GPU_DEGRADED, confidence=0.9, sentence=sentence)
        return self._tell(signal.device, told, signal.at, onset=gpu.narrow[0])

    def _peers(self, signal: GpuLooked, most: int) -> tuple[int, int]:
        """GPUs of the same model on the same node, and how many of them have so many lanes."""
        looks = [
            gpu.looked for device, gpu in self._gpus.items() if gpu.node == signal.node and device != signal.device
        ]
        widths = [peer.pcie_width for peer in looks if peer is not None and peer.name == signal.name]
        return len(widths), sum(width is not None and width >= most for width in widths)

    # ------------------------------------------------------------------------------------------- failures, events

    def _failed(self, signal: GpuFailed) -> list[Incident]:
        device = signal.device or f"GPU {signal.index} of node {signal.node}"
        gpu = self._gpu(device, signal.node, signal.index, signal.pci)
        gpu.strange += 1
        told = ERRORS.get(signal.error)
        if told is None and gpu.strange < self.config.polls:
            return []
        told = told or Told(
            kind=Kind.GPU_FAULT,
            confidence=0.5,
            sentence=f"its driver answers with the error {signal.error} {gpu.strange} times in a row",
        )
        return self._ill(device, told, signal.at, since=signal.at if gpu.looked is None else gpu.looked.at)

    def _event(self, signal: GpuEvent) -> list[Incident]:
        gpu = self._gpu(signal.device, signal.node, None, signal.pci)
        match signal.event:
            case "xid":
                told = self._xid(signal, gpu)
            case "recovery_action":
                told = of_verdict(signal.data)
            case event:
                told = EVENTS.get(event)
        return [] if told is None else self._tell(signal.device, told, signal.at, onset=signal.at)

    def _xid(self, signal: GpuEvent, gpu: _Gpu) -> Told | None:
        before = self._recent_xid(gpu, signal.at)
        after_another = before is not None and before[1] != signal.data
        told = of_xid(read_xid(signal, self._catalogue), after_another=after_another)
        if told is not None:
            gpu.xid = (signal.at, signal.data, told.sentence)
        return told

    def _line(self, saw: KernelSaw) -> list[Incident]:
        told = of_line(saw)
        if told is None:
            return []
        device = saw.device or self._at(saw.node, saw.pci) or f"{saw.pci or 'a GPU'} of node {saw.node}"
        self._gpu(device, saw.node, None, saw.pci)
        return self._tell(device, told, saw.at, onset=saw.at, sense="kernel")

    def _at(self, node: int, pci: str | None) -> str | None:
        """The GPU at this address, with or without the function that the kernel writes behind it."""
        known = {
            gpu.pci.partition(".")[0]: device for device, gpu in self._gpus.items() if gpu.node == node and gpu.pci
        }
        return known.get(pci.partition(".")[0]) if pci else None

    # ------------------------------------------------------------------------------------------- conclusions

    def _ill(self, device: str, told: Told, at: float, *, since: float) -> list[Incident]:
        """What every look shows until it is over."""
        gpu = self._gpus[device]
        gpu.well, gpu.ill_since = 0, since if gpu.ill_since is None else gpu.ill_since
        return self._tell(device, told, at, onset=gpu.ill_since, stays=True)

    def _tell(
        self, device: str, told: Told, at: float, *, onset: float, stays: bool = False, sense: str = "nvml"
    ) -> list[Incident]:
        """The incident, unless it was told. `stays`: each look shows it anew, so a new world has to hear of it."""
        gpu = self._gpus[device]
        if self._placement is not None and self._placement.is_awaited(gpu.node):
            if not stays and len(self._kept) < _KEPT_MAX:
                self._kept.append(_Word(device=device, told=told, at=at, onset=onset, sense=sense))
            return []
        rank = self._rank(device, gpu)
        if stays and rank == UNKNOWN and self._placement is not None and self._placement.is_unnumbered(gpu.node):
            return []
        if not stays:
            if at <= gpu.heard.get(told.kind, float("-inf")):
                return []
            gpu.heard[told.kind] = at
        before, gpu.told[told.kind] = gpu.told.get(told.kind), (at, self._world)
        if before is not None and (before[1] == self._world or (not stays and at - before[0] < self.config.settle_s)):
            return []
        if rank is None or self._is_explained(gpu, told.kind, at):
            return []
        return [
            Incident(
                kind=told.kind,
                at=at,
                onset=min(onset, at),
                world=self._world,
                subject=Subject(
                    node=gpu.node,
                    rank=None if rank == UNKNOWN else rank,
                    device=device if _is_uuid(device) else None,
                ),
                step=self._step,
                confidence=told.confidence,
                fingerprint=f"{told.kind}:{device}",
                evidence=self._evidence(device, gpu, told, at),
                senses=(sense,),
            )
        ]

    def _rank(self, device: str, gpu: _Gpu) -> int | None:
        """Whose it is; None: no rank's. One that is known by its PCI address alone may be anybody's."""
        if self._placement is None:
            return UNKNOWN
        return self._placement.rank_of(gpu.node, device, None if gpu.index < 0 else gpu.index)

    def _placed(self) -> list[Incident]:
        """Tell what was heard of GPUs before there were ranks on their nodes; what looks show comes again by itself."""
        words, self._kept = self._kept, []
        return [
            one
            for word in words
            for one in self._tell(word.device, word.told, word.at, onset=word.onset, sense=word.sense)
        ]

    def _is_explained(self, gpu: _Gpu, kind: Kind, at: float) -> bool:
        """Something worse stands: of this GPU, or, for a link, of one at its other end."""
        ends = [other for other in self._gpus.values() if other.node == gpu.node] if kind is Kind.LINK_FAULT else [gpu]
        return any(
            kind in _LESSER.get(worse, ()) and at - since <= self.config.cascade_s
            for end in ends
            for worse, (since, _) in end.told.items()
        )

    def _evidence(self, device: str, gpu: _Gpu, told: Told, at: float) -> tuple[str, ...]:
        where = f"GPU {gpu.index} of node {gpu.node}" if gpu.index >= 0 else f"a GPU of node {gpu.node}"
        names = ", ".join([*([device] if _is_uuid(device) else []), *([f"PCI {gpu.pci}"] if gpu.pci else [])])
        sentences = [f"{where}{f' ({names})' if names else ''}: {told.sentence}"]
        xid = self._recent_xid(gpu, at)
        if xid is not None and xid[2] != told.sentence:
            sentences.append(f"{xid[2]}, {at - xid[0]:.1f} s before")
        looked = gpu.looked
        if looked is not None and looked.at < at:
            power = "" if looked.power_w is None else f", at {looked.power_w:.0f} W"
            sentences.append(f"it answered its driver {at - looked.at:.1f} s before{power}")
        return tuple(sentences)

    def _recent_xid(self, gpu: _Gpu, at: float) -> tuple[float, int, str] | None:
        return gpu.xid if gpu.xid is not None and at - gpu.xid[0] <= self.config.cascade_s else None

    def _gpu(self, device: str, node: int, index: int | None, pci: str | None) -> _Gpu:
        gpu = self._gpus.get(device)
        if gpu is None:
            gpu = self._gpus[device] = _Gpu(node)
        gpu.index = gpu.index if index is None else index
        gpu.pci = pci or gpu.pci
        return gpu


def _is_uuid(device: str) -> bool:
    """Not the name that we gave to a GPU which never said who it is."""
    return device.startswith("GPU-")


def _is_new_boot(before: GpuLooked, now: GpuLooked) -> bool:
    """The driver was loaded anew: its counters began again, and say nothing about a change."""
    return _fell(before.energy_j, now.energy_j) or _fell(before.ecc_corrected, now.ecc_corrected)


def _fell(before: float | None, now: float | None) -> bool:
    return before is not None and now is not None and now < before


def _memory(before: GpuLooked, now: GpuLooked) -> Told | None:
    if _grew(before.ecc_uncorrected, now.ecc_uncorrected):
        more = (now.ecc_uncorrected or 0) - (before.ecc_uncorrected or 0)
        pending = "; a row is to be remapped at the next reset" if now.remap_pending else ""
        sentence = f"its memory had {more} more errors that ECC could not correct{pending}"
        return Told(kind=Kind.GPU_MEMORY, confidence=0.95, sentence=sentence)
    if now.remap_failed and before.remap_failed is False:
        return Told(kind=Kind.GPU_MEMORY, confidence=0.95, sentence="a broken row of its memory has no spare row left")
    if _grew(before.rows_remapped_uncorrected, now.rows_remapped_uncorrected):
        sentence = "a row of its memory is remapped because of errors that ECC could not correct"
        return Told(kind=Kind.GPU_MEMORY, confidence=0.8, sentence=sentence)
    return None


def _links(before: GpuLooked, now: GpuLooked) -> Told | None:
    if _grew(now.nvlinks_up, before.nvlinks_up):
        after_s = now.at - before.at
        sentence = (
            f"{now.nvlinks_up} of its {now.nvlinks} NVLinks are up, {before.nvlinks_up} were {after_s:.1f} s before"
        )
        return Told(kind=Kind.LINK_FAULT, confidence=0.85, sentence=sentence)
    if before.fabric == "completed" and now.fabric not in (None, "completed"):
        sentence = f"its NVLink fabric was well, and is {now.fabric} now"
        return Told(kind=Kind.LINK_FAULT, confidence=0.7, sentence=sentence)
    return None


def _grew(before: int | None, now: int | None) -> bool:
    return before is not None and now is not None and now > before
