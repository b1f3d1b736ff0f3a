"""What is wrong with a host, by its kernel's log and its own counters? Each thing once, until it was well for a while.

What one node shows is judged apart from all others. A rank is named only where a process of ours is the victim.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitors.detect.host_kernel import Grave, Lines
from monitors.detect.host_lasting import Lasting
from monitors.detect.host_levels import Finding, Levels
from monitors.hardware import HostLooked, KernelSaw
from monitors.incidents import Incident, Kind, Subject
from monitors.signals import RankStarted, Signal

OBSERVED = (Kind.DISK_FULL, Kind.HOST_DEGRADED)
"""kinds that end no world, so that a new one is no news for them"""
FLAP_WINDOW_S = 12 * 3600.0
FLAPS = 3
"""gpud: a port that went down three times in twelve hours"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig:
    """How long to wait."""

    clear_s: float = 60.0
    """a counter that was well for so long is well again"""
    quiet_s: float = 600.0
    """a kernel that said nothing of a thing for so long says something new with the next line"""
    victim_s: float = 1.0
    """the kernel names the process that it ended within milliseconds of its need"""


class _Node:
    """What is known of one node."""

    def __init__(self, config: HostConfig) -> None:
        self.levels = Levels()
        self.lines = Lines()
        self.lasting = Lasting(clear_s=config.clear_s)
        self.noted = Lasting(clear_s=config.clear_s)
        """of kinds that are only observed"""
        self.told: dict[str, tuple[float, int]] = {}
        """of the kernel: when it last said so, and the degree that was told"""
        self.oom: KernelSaw | None = None
        """a victim that is no rank of ours, or none yet"""
        self.down_since: dict[str, float] = {}
        self.downs: dict[str, list[float]] = {}


class Host:
    """Every node of a run."""

    def __init__(self, config: HostConfig | None = None) -> None:
        self.config = config or HostConfig()
        self._world = 0
        self._nodes: dict[int, _Node] = {}
        self._ranks: dict[tuple[int, int], int] = {}
        self.deadline: float | None = None
        """when a line that waits for another witness is told without"""

    def world_began(self, world: int) -> None:
        """New ranks: what goes on to be wrong is news for them, and a line about an old one is history."""
        self._world = world
        self._ranks.clear()
        for node in self._nodes.values():
            node.lasting.rearm()
            node.told.clear()
            node.oom = None
        self.deadline = self._next()

    def see(self, signal: Signal) -> list[Incident]:
        """What the signal makes known."""
        found = self._read(signal)
        self.deadline = self._next()
        return found

    def _read(self, signal: Signal) -> list[Incident]:
        match signal:
            case RankStarted():
                self._ranks[signal.node, signal.pid] = signal.rank
                return []
            case HostLooked():
                return self._looked(signal)
            case KernelSaw(fault="host_oom"):
                return self._oom(signal)
            case KernelSaw():
                grave = self._node(signal.node).lines.read(signal)
                return [] if grave is None else self._grave(grave, signal.at)
            case _:
                return []

    def silent(self, now: float) -> list[Incident]:
        """Lines for which no second witness came."""
        found: list[Incident] = []
        for node in self._nodes.values():
            for grave in node.lines.due(now):
                found += self._grave(grave, now)
            if node.oom is not None and now >= node.oom.at + self.config.victim_s:
                saw, node.oom = node.oom, None
                found += self._killed(saw, None, now)
        self.deadline = self._next()
        return found

    def _next(self) -> float | None:
        return min((wait for node in self._nodes.values() for wait in self._waits(node)), default=None)

    def _node(self, number: int) -> _Node:
        if number not in self._nodes:
            self._nodes[number] = _Node(self.config)
        return self._nodes[number]

    def _waits(self, node: _Node) -> list[float]:
        waits = [waiting.until for waiting in node.lines.waiting.values()]
        return waits if node.oom is None else [*waits, node.oom.at + self.config.victim_s]

    # ---------------------------------------------------------------------------------------- the kernel's log

    def _oom(self, saw: KernelSaw) -> list[Incident]:
        """The line that names a rank of ours decides; others wait for it."""
        if saw.cascade or saw.action == "none":
            return []
        node = self._node(saw.node)
        rank = None if saw.pid is None else self._ranks.get((saw.node, saw.pid))
        if rank is not None:
            node.oom = None
            return self._killed(saw, rank, saw.at)
        if node.oom is None or node.oom.pid is None:
            node.oom = saw
        return []

    def _killed(self, saw: KernelSaw, rank: int | None, at: float) -> list[Incident]:
        degree = 1 if rank is None else 2
        if not self._is_news(saw.node, "kernel:oom", saw.at, degree):
            return []
        who = f"rank {rank}" if rank is not None else f"process {saw.pid}, which is no rank of this run"
        victim = f"the kernel ended {who}" if saw.pid is not None else "the kernel names no victim"
        return [
            self._incident(
                Kind.HOST_OOM,
                at=at,
                onset=saw.at,
                subject=Subject(node=saw.node, rank=rank),
                confidence=0.6 if rank is None else 1.0,
                words=(f"{victim} because no memory was left", f"kernel: {saw.text or saw.fault}"),
                senses=("kernel",),
            )
        ]

    def _grave(self, grave: Grave, at: float) -> list[Incident]:
        saw = grave.saw
        if not self._is_news(saw.node, grave.what, saw.at, grave.degree):
            return []
        rank = None if saw.pid is None else self._ranks.get((saw.node, saw.pid))
        return [
            self._incident(
                grave.kind,
                at=at,
                onset=saw.at,
                subject=Subject(node=saw.node, rank=rank, device=saw.device),
                confidence=grave.confidence,
                words=grave.words,
                senses=("kernel",),
            )
        ]

    def _is_news(self, number: int, what: str, at: float, degree: int) -> bool:
        """Not said yet, or graver than what was said. Each line makes the quiet begin anew."""
        told = self._node(number).told
        last_at, said = told.get(what, (float("-inf"), 0))
        if at - last_at > self.config.quiet_s:
            said = 0
        told[what] = (max(at, last_at), max(degree, said))
        return degree > said

    # ---------------------------------------------------------------------------------------- the host's counters

    def _looked(self, looked: HostLooked) -> list[Incident]:
        node = self._node(looked.node)
        found: list[Incident] = []
        seen: set[str] = set()
        known = {*node.lasting.names(), *node.noted.names()}
        for finding in (*node.levels.read(looked), *self._flaps(node, looked)):
            seen.add(finding.what)
            if finding.wrong or finding.what in known:
                found += self._judged(node, looked, finding)
        for lasting in (node.lasting, node.noted):
            for what in set(lasting.names()) - seen:
                lasting.see(what, wrong=False, at=looked.at)
        node.lines.all_well(looked.at, mounts=not looked.dead_mounts, links=not looked.links_down)
        return found

    def _judged(self, node: _Node, looked: HostLooked, finding: Finding) -> list[Incident]:
        lasting = node.noted if finding.kind in OBSERVED else node.lasting
        # With the kernel's word for it, one look that hangs is enough.
        hangs = finding.what.startswith("mount:") and "nfs_stall" in node.lines.waiting
        hold_s, looks = (0.0, 1) if hangs else (finding.hold_s, finding.looks)
        since = lasting.see(finding.what, finding.wrong, looked.at, hold_s=hold_s, looks=looks, degree=finding.degree)
        if since is None:
            return []
        witness = self._kernel_too(node, finding)
        ranks = [rank for pid in finding.pids if (rank := self._ranks.get((looked.node, pid))) is not None]
        words = (*finding.words, *witness, *(f"one of them is rank {rank}" for rank in ranks[:1]))
        return [
            self._incident(
                finding.kind,
                at=looked.at,
                onset=since,
                subject=Subject(node=looked.node, rank=ranks[0] if ranks else None),
                confidence=finding.confidence,
                words=words,
                # The kernel and the counters tell one fact: that the run suffers from it, a rank must show.
                senses=("host",),
            )
        ]

    def _kernel_too(self, node: _Node, finding: Finding) -> tuple[str, ...]:
        """What the kernel said of the same thing a moment ago; it is then told with this, not by itself."""
        name = {"mount": "nfs_stall", "port": "nic_link_down"}.get(finding.what.partition(":")[0])
        waiting = node.lines.waiting.pop(name, None) if name is not None else None
        return () if waiting is None else (f"kernel: {waiting.saw.text or waiting.saw.fault}",)

    def _flaps(self, node: _Node, looked: HostLooked) -> list[Finding]:
        """Ports that went down and came back, again and again."""
        for port in set(looked.links_down) - node.down_since.keys():
            recent = [at for at in node.downs.get(port, []) if looked.at - at < FLAP_WINDOW_S]
            node.downs[port] = [*recent[-FLAPS:], looked.at]
        node.down_since = {port: node.down_since.get(port, looked.at) for port in looked.links_down}
        return [
            Finding(
                what=f"flaps:{port}",
                kind=Kind.NIC_FAULT,
                wrong=looked.at - downs[-FLAPS] < FLAP_WINDOW_S,
                words=(f"port {port} went down {FLAPS} times within {looked.at - downs[-FLAPS]:.0f} s",),
                confidence=0.6,
                looks=1,
            )
            for port, downs in node.downs.items()
            if len(downs) >= FLAPS
        ]

    def _incident(
        self,
        kind: Kind,
        *,
        at: float,
        onset: float,
        subject: Subject,
        confidence: float,
        words: tuple[str, ...],
        senses: tuple[str, ...],
    ) -> Incident:
        return Incident(
            kind=kind,
            at=max(at, onset),
            onset=onset,
            world=self._world,
            subject=subject,
            confidence=confidence,
            fingerprint=f"{kind}:{subject.node}",
            evidence=words,
            senses=senses,
        )
