"""Which GPUs of a node are the run's, and which rank works on which?

An agent tells of each rank which GPU it was given: by convention, local rank i works on `cuda:i` of what it sees. The
driver numbers GPUs by their PCI addresses; so does CUDA where CUDA_DEVICE_ORDER says so, or where all are alike.
What a program really does with what it sees is its own affair, so three answers are possible: a rank's, nobody's, and
not known. Not known counts as the run's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from monitors.hardware import GpuFailed, GpuLooked
from monitors.signals import RankProgress, RankStarted, Signal

RankOf = Callable[[int, int], int | None]
"""node and index of a GPU, as the driver numbers them, to the rank that works on it; None: no rank does"""
UNKNOWN = -1
"""instead of a rank: some rank of the run may work on this GPU"""
AT_WORK = 0.05
"""utilisation from which somebody computes on a GPU"""


def by_convention(ranks_per_node: int) -> RankOf:
    """GPU i of a node is its local rank i's: all that is known before ranks say what they were given."""
    return lambda node, index: node * ranks_per_node + index if index < ranks_per_node else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spot:
    """A GPU, by what is known of it."""

    index: int | None
    device: str | None


@dataclass(slots=True)
class _Node:
    given: dict[int, RankStarted] = field(default_factory=dict)
    """what each of its ranks was given in this world"""
    before: dict[int, RankStarted] = field(default_factory=dict)
    """in the last world that had ranks here"""
    has_ranks: bool = False
    """one of them moves: whoever did not say by now what it was given has said it to a supervisor before"""
    looked: dict[int, GpuLooked] = field(default_factory=dict)
    """the newest look at each GPU, by index"""
    failed: dict[int, int] = field(default_factory=dict)
    """how often a GPU failed to answer since the world began, or was taken over, by index"""
    at_work: set[int] = field(default_factory=set)
    """indices of GPUs on which somebody computed since the world began"""
    answers: dict[tuple[int | None, str | None], int | None] = field(default_factory=dict)
    """by index and UUID; asked at every look, and the same until something new is known"""
    likely: dict[int, int | None] = field(default_factory=dict)
    """the same for witnesses, by index"""

    def changed(self) -> None:
        """Something new is known."""
        self.answers.clear()
        self.likely.clear()


class Placement:
    """Sees what ranks were given and what GPUs there are; one for a run."""

    def __init__(self, *, ranks_per_node: int) -> None:
        self._per_node = ranks_per_node
        self._world = 0
        self._began_at = 0.0
        self._nodes: dict[int, _Node] = {}

    def world_began(self, world: int, at: float = 0.0) -> None:
        """New ranks may be given other GPUs. `at`: what is older was heard by a supervisor before us."""
        self._world, self._began_at = world, at
        for node in self._nodes.values():
            node.given, node.before = {}, node.given or node.before
            node.has_ranks, node.at_work, node.failed = False, set(), {}
            node.changed()

    def see(self, signal: Signal) -> None:
        """A rank was started or is there, or a GPU was looked at, or did not answer."""
        match signal:
            case RankStarted():
                node = self._node(signal.node)
                node.given[signal.rank] = signal
                node.changed()
            case RankProgress():
                self.progress(signal)
            case GpuLooked():
                self.looked(signal)
            case GpuFailed() if signal.at >= self._began_at:
                failed = self._node(signal.node).failed
                failed[signal.index] = failed.get(signal.index, 0) + 1
            case _:
                pass

    def progress(self, signal: RankProgress) -> None:
        """A rank is there."""
        self._node(signal.node).has_ranks = True

    def looked(self, signal: GpuLooked) -> None:
        """A GPU was looked at."""
        node = self._node(signal.node)
        before = node.looked.get(signal.index)
        if before is not None and before.device != signal.device:
            node.looked.clear()  # another host, or other boards in this one: nothing is left of the old numbers
            node.at_work.clear()
        node.looked[signal.index] = signal
        works = (signal.utilisation or 0.0) >= AT_WORK and signal.index not in node.at_work
        if works:
            node.at_work.add(signal.index)
        if works or before is None or before.device != signal.device or before.name != signal.name:
            node.changed()

    def rank_of_index(self, node: int, index: int) -> int | None:
        """The rank that works on GPU `index` of a node, as the driver numbers them; UNKNOWN; None: no rank does."""
        looked = self._node(node).looked.get(index)
        return self._rank_of(node, index, None if looked is None else looked.device)

    def rank_of(self, node: int, device: str, index: int | None = None) -> int | None:
        """The same for a GPU of which the UUID is known (any other name says nothing), and perhaps the index."""
        if index is None:
            found = (number for number, look in self._node(node).looked.items() if look.device == device)
            index = next(found, None)
        return self._rank_of(node, index, device if device.startswith("GPU-") else None)

    def likely_rank(self, node: int, index: int) -> int | None:
        """The same for witnesses, which need a name: where it is not known, as before, or GPU i is local rank i's."""
        likely = self._node(node).likely
        if index not in likely:
            likely[index] = self._likely(node, index)
        return likely[index]

    def _likely(self, node: int, index: int) -> int | None:
        rank = self.rank_of_index(node, index)
        if rank != UNKNOWN:
            return rank
        looked, before = self._node(node).looked.get(index), self._node(node).before
        spot = _Spot(index=index, device=None if looked is None else looked.device)
        if len(before) == self._per_node and (rank := self._among(node, before, spot)) != UNKNOWN:
            return rank
        return by_convention(self._per_node)(node, index)

    def is_awaited(self, node: int) -> bool:
        """A world began, and its ranks on this node are yet to be started: what they are given is soon known."""
        known = self._node(node)
        return self._world > 0 and not known.has_ranks and len(known.given) < self._per_node

    def is_unnumbered(self, node: int) -> bool:
        """None of its GPUs was looked at, so what its ranks were given cannot be found among them; the next look at all
        of them is to come."""
        known = self._node(node)
        return not known.looked and max(known.failed.values(), default=0) < 2

    def _rank_of(self, node: int, index: int | None, device: str | None) -> int | None:
        known, key = self._node(node), (index, device)
        if key not in known.answers:
            known.answers[key] = self._among(node, known.given, _Spot(index=index, device=device))
        return known.answers[key]

    def _among(self, node: int, given: dict[int, RankStarted], spot: _Spot) -> int | None:
        matches = {rank: self._is_given(node, given[rank], spot) for rank in sorted(given)}
        for rank, match in matches.items():
            if match:
                return rank
        return UNKNOWN if len(given) < self._per_node or None in matches.values() else None

    def _is_given(self, node: int, started: RankStarted, spot: _Spot) -> bool | None:
        """Whether a rank works on this GPU; None: it may."""
        if started.gpu is not None:
            is_own = self._is_named(node, started.gpu, started.gpu_order, spot)
            # A rank that is alone on its node may well drive all that it sees; those that stand idle it does not.
            if is_own is not False or self._per_node > 1 or spot.index not in self._node(node).at_work:
                return is_own
        is_seen = started.gpus is None or self._is_any(node, started.gpus, started.gpu_order, spot)
        return None if is_seen else False

    def _is_any(self, node: int, names: Iterable[str], order: str, spot: _Spot) -> bool:
        return any(self._is_named(node, name, order, spot) is not False for name in names)

    def _is_named(self, node: int, name: str, order: str, spot: _Spot) -> bool | None:
        """Whether this entry of CUDA_VISIBLE_DEVICES means that GPU; None: it may."""
        if not name:
            return False
        if name.isdecimal():
            counts_alike = order == "PCI_BUS_ID" or self._are_alike(node)
            return int(name) == spot.index if counts_alike and spot.index is not None else None
        # Slices of a GPU: older drivers name the whole one in them, newer ones give each a UUID of its own.
        start = name.lower().removeprefix("mig-").partition("/")[0]
        if not start.startswith("gpu-") or spot.device is None:
            return None
        return spot.device.lower().startswith(start)

    def _are_alike(self, node: int) -> bool:
        """CUDA numbers the fastest first: equal ones come in the order of their addresses."""
        return len({look.name for look in self._node(node).looked.values()}) == 1

    def _node(self, node: int) -> _Node:
        known = self._nodes.get(node)
        if known is None:
            known = self._nodes[node] = _Node()
        return known
