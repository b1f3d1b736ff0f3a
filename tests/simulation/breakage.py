"""What breaks in the hardware, and what looks as though it did? Physics: what ranks, kernel and driver show of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from monitors.incidents import SURFACE, Kind
from orchestrator.core.state import Phase
from tests.simulation import dmesg
from tests.simulation.agent import Agent
from tests.simulation.cluster import Cluster
from tests.simulation.innocence import Innocence
from tests.simulation.knobs import DAY_S, Knobs
from tests.simulation.machines import Gpu, Machine
from tests.simulation.office import Office
from tests.simulation.plight import Plight
from tests.simulation.timeline import Timeline
from tests.simulation.training import Training
from tests.simulation.truth import Trouble
from tests.simulation.verdicts import Verdicts

PRELUDE_S, ATTEND_S, GLANCE_S = 4.0, 20.0, 7.0
"""how long before, and how long in all, the GPUs are asked every second around a fault, and around what is none"""
IN_TIME_S = 0.25
"""senses that lag by more may tell of a death when the next world has begun, which takes half a second: the way to the
supervisor takes up to as long"""
PEER_GONE = "NCCL error: remote process exited or there was a network error; ncclRemoteError"
RETRIES = "NET/IB: Got completion from peer with status=12 IBV_WC_RETRY_EXC_ERR"
LAUNCH = "CUDA error: unspecified launch failure"
Kinds = Iterable[Kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where it breaks."""

    training: Training
    agent: Agent
    machine: Machine
    gpu: Gpu
    rank: int

    @property
    def pid(self) -> int:
        """Of the rank's process."""
        return self.training.pid_of(self.rank)


class Breakage:
    """Breaks until it is told to stop."""

    def __init__(self, knobs: Knobs, timeline: Timeline, cluster: Cluster, office: Office) -> None:
        self._knobs = knobs
        self._time = timeline
        self._cluster = cluster
        self._office = office
        self._dice = Random(f"breakage {knobs.seed}")
        self._verdicts = Verdicts(knobs, timeline, cluster.truth, office)
        self._innocence = Innocence(self._dice, timeline, cluster)
        self._on = True
        cluster.began = self._began

    def begin(self) -> None:
        """Set the first time of everything."""
        for name, rate in sorted(self._knobs.hardware.items()):
            innocent = getattr(self._innocence, name, None)
            self._plan(innocent or getattr(self, f"_{name}"), rate, innocent=innocent is not None)

    def stop(self) -> None:
        """Nothing breaks any more, and what is broken is mended."""
        self._on = False
        for machine in self._cluster.machines.values():
            machine.reset()

    def _plan(self, break_: Callable[[Site], None], rate: float, *, innocent: bool) -> None:
        def prelude() -> None:
            if not self._on:
                return
            for agent in self._cluster.agents():
                agent.senses.attend(GLANCE_S if innocent else ATTEND_S)
            self._time.after(PRELUDE_S, strike)
            self._plan(break_, rate, innocent=innocent)

        def strike() -> None:
            site = self._site()
            if site is None or not self._on:
                return
            self._cluster.truth.odd_nodes.add(site.machine.node)
            if innocent or site.training.world not in self._cluster.truth.troubles:
                break_(site)

        self._time.after(self._dice.expovariate(rate / DAY_S), prelude)

    def _site(self) -> Site | None:
        """A rank of a world that trains, on a node of which nothing is broken."""
        training, state = self._cluster.current(), self._office.state
        if training is None or state is None or (state.phase, state.world) != (Phase.TRAINING, training.world):
            return None
        rank = self._dice.randrange(self._knobs.ranks)
        node, index = divmod(rank, self._knobs.ranks_per_node)
        machine = self._cluster.machines[node]
        agents = [agent for agent in self._cluster.agents() if agent.node == node and agent.training is training]
        if not agents or not machine.well:
            return None
        return Site(training=training, agent=agents[0], machine=machine, gpu=machine.gpus[index], rank=rank)

    # What is broken when a world begins

    def _began(self, training: Training) -> None:
        each = self._knobs.ranks_per_node
        for gpu in (g for m in self._cluster.machines.values() for g in m.gpus):
            gpu.links_down = 0  # it trains again with new processes
        bad = [g for m in self._cluster.machines.values() for g in m.gpus[:each] if not g.well]
        away = [m for m in self._cluster.machines.values() if m.dead_mounts or m.links_down]
        if training.stalls or not (bad or away):
            return
        world = training.world
        if not bad:
            self._stands(world, away[0].node, None, {Kind.STORAGE_FAULT, Kind.NIC_FAULT})
            return
        gpu = bad[0]
        rank = gpu.node * each + gpu.index
        training.stalls = True
        training.last_words = PEER_GONE
        self._cluster.truth.culprits[world].add(rank)
        self._stands(world, gpu.node, rank, {Kind.GPU_LOST, Kind.GPU_FAULT, Kind.GPU_MEMORY, Kind.LINK_FAULT})
        self._later(
            self._dice.uniform(5.0, 30.0), lambda: self._raises(training, rank, f"CUDA error: unknown error ({world})")
        )

    def _stands(self, world: int, node: int, rank: int | None, kinds: set[Kind]) -> None:
        truth = self._cluster.truth
        truth.faults[world].append("still broken")
        truth.troubles[world] = Trouble(
            what="still broken", world=world, at=self._time.now(), node=node, rank=rank, kinds=frozenset(kinds),
            clear=False,
        )  # fmt: skip

    # What breaks

    def _off_the_bus(self, site: Site) -> None:
        site.gpu.lost = True
        self._trouble(site, "a GPU fell off the bus", {Kind.GPU_LOST}, ("kernel", "nvml"))
        site.agent.senses.wrote(dmesg.lost(site.gpu.pci, site.pid))
        if self._dice.random() < 0.5:
            site.agent.senses.happened(site.gpu.device, "xid", 79)
        self._rank_fails(site, LAUNCH)

    def _memory(self, site: Site) -> None:
        how = self._dice.choice(("contained", "uncontained", "double_bit"))
        # A count that grew while nobody could see it is news, hours later, to whoever sees it then.
        site.gpu.uncorrected += self._sees(site, "nvml")
        site.gpu.verdict = 0 if how == "contained" else 1
        self._trouble(
            site, f"{how} memory error", {Kind.GPU_MEMORY, *([Kind.GPU_FAULT] if site.gpu.verdict else [])},
            ("kernel", "nvml"),
        )  # fmt: skip
        site.agent.senses.wrote(dmesg.MEMORY[how](site.gpu.pci, site.pid))
        site.agent.senses.happened(site.gpu.device, "ecc_uncorrected")
        self._dies(site, self._dice.uniform(0.2, 5.0), "CUDA error: uncorrectable ECC error encountered")

    def _firmware(self, site: Site) -> None:
        site.gpu.silent_since = self._time.now()
        self._trouble(site, "the GSP hangs", {Kind.GPU_FAULT, Kind.GPU_LOST}, ("kernel", "nvml"))

        def waits() -> None:
            if site.gpu.silent_since is not None and site.agent.alive:
                site.agent.senses.wrote(dmesg.gsp(site.gpu.pci, site.pid))
                self._later(6.0, waits)

        waits()
        self._rank_fails(site, LAUNCH)

    def _verdict(self, site: Site) -> None:
        action = self._dice.choice((1, 2, 3))
        # To drain its peers asks for a reset by the kernel's line, and is a link's fault by the driver's look.
        kinds = {1: {Kind.GPU_FAULT}, 2: {Kind.GPU_LOST}, 3: {Kind.LINK_FAULT, Kind.GPU_FAULT}}[action]
        site.gpu.verdict = action
        self._trouble(site, f"the driver's verdict is {action}", kinds, ("kernel", "nvml"))
        site.agent.senses.wrote(dmesg.verdict(site.gpu.pci, action))
        self._dies(site, self._dice.uniform(2.0, 8.0), LAUNCH)

    def _link(self, site: Site) -> None:
        """One GPU's links are gone; ranks everywhere fail with it, in any order."""
        site.gpu.links_down = 4
        self._trouble(site, "NVLink is down", {Kind.LINK_FAULT}, ("kernel", "nvml"))
        site.agent.senses.wrote(dmesg.nvlink(site.gpu.pci, site.pid))
        words = "CUDA error: Invalid access of peer GPU memory over nvlink or a hardware error"
        self._all_fail(site, (1.0, 8.0), lambda rank: (words if rank == site.rank else PEER_GONE, ""))

    def _port(self, site: Site) -> None:
        """A node's port is gone; ranks at both ends of its connections give up after their retries."""
        if self._knobs.nodes == 1:
            return
        site.machine.links_down = ("mlx5_0/1",)
        kernel, host = not self._sees(site, "kernel"), not self._sees(site, "host")
        self._trouble(site, "a port is gone", {Kind.NIC_FAULT}, ("kernel", "host"), of_node=True)
        site.agent.senses.wrote(self._dice.choice((dmesg.CABLE, dmesg.CARD)) if kernel or host else dmesg.CARD)
        for agent in self._cluster.agents():
            agent.senses.attend(60.0)
        self._all_fail(site, (20.0, 50.0), lambda _: (PEER_GONE, RETRIES))

    def _out_of_memory(self, site: Site) -> None:
        self._trouble(site, "the OOM killer came", {Kind.HOST_OOM}, ("kernel",))
        site.agent.senses.wrote(dmesg.oom(site.pid))
        site.training.last_words = PEER_GONE
        self._later(0.01, lambda: self._ends(site.training, site.rank, 9))

    def _machine_check(self, site: Site) -> None:
        self._trouble(site, "a machine check", {Kind.HOST_FAULT}, ("kernel",))
        site.agent.senses.wrote(dmesg.MACHINE_CHECK)
        self._later(self._dice.uniform(0.2, 3.0), lambda: self._ends(site.training, site.rank, 7))

    def _read_only(self, site: Site) -> None:
        self._trouble(site, "a file system is read-only", {Kind.STORAGE_FAULT}, ("kernel",))
        site.agent.senses.wrote(dmesg.READ_ONLY)
        self._dies(site, self._dice.uniform(0.2, 20.0), "OSError: [Errno 30] Read-only file system: '/ckpt'")

    def _mount(self, site: Site) -> None:
        """A file server is away for a while: whoever reads from it stands in the kernel."""
        site.machine.dead_mounts = ("/ckpt",)
        self._trouble(site, "a mount is dead", {Kind.STORAGE_FAULT}, ("kernel", "host"), of_node=True)
        site.agent.senses.wrote(dmesg.NFS_AWAY)
        for agent in self._cluster.agents():
            agent.senses.attend(60.0)
        site.training.hang(site.rank, Plight.BLOCKED)

        def back() -> None:
            site.machine.dead_mounts = ()
            site.agent.senses.wrote(dmesg.NFS_BACK)

        self._later(self._dice.uniform(600.0, 7200.0), back)

    def _user_fault(self, site: Site) -> None:
        """The program reads where nothing is: a Xid that is no GPU's fault."""
        self._trouble(site, "an illegal access", set(SURFACE), ())
        site.agent.senses.wrote(self._dice.choice(dmesg.PROGRAMS)(site.gpu.pci, site.pid))
        at = self._dice.randrange(10**9)
        self._dies(site, self._dice.uniform(0.0, 2.0), f"CUDA error: an illegal memory access was encountered ({at:x})")

    def _power_loss(self, site: Site) -> None:
        """Nothing of the node is heard again; the others stand, or lose their connections."""
        training = site.training
        training.last_words = PEER_GONE
        self._cluster.truth.faults[training.world].append("no power")
        self._cluster.agent_died(site.agent, found_s=self._dice.uniform(20.0, 1200.0), with_node=True)
        for rank in sorted(training.plights):
            delay_s = self._dice.uniform(5.0, 60.0)
            if self._dice.random() < 0.5:
                self._later(delay_s, lambda rank=rank: self._raises(training, rank, PEER_GONE))  # type: ignore[misc]

    # How ranks take it

    def _trouble(
        self, site: Site, what: str, kinds: set[Kind], seen: tuple[str, ...], *, of_node: bool = False
    ) -> None:
        truth, training = self._cluster.truth, site.training
        lag_s = max(self._knobs.sense_lag_s, self._knobs.lag_s)
        clear = lag_s < IN_TIME_S and all(self._sees(site, sense) for sense in seen)
        each = self._knobs.ranks_per_node
        ranks = range(site.machine.node * each, site.machine.node * each + each) if of_node else (site.rank,)
        trouble = Trouble(
            what=what, world=training.world, at=self._time.now(), node=site.machine.node,
            rank=None if of_node else site.rank, kinds=frozenset(kinds), clear=clear,
        )  # fmt: skip
        truth.troubles[training.world] = trouble
        truth.faults[training.world].append(what)
        truth.culprits[training.world].update(ranks)
        training.last_words = PEER_GONE
        self._verdicts.watch(trouble)

    def _sees(self, site: Site, sense: str) -> bool:
        return sense not in site.agent.senses.blind

    def _rank_fails(self, site: Site, words: str) -> None:
        if self._dice.random() < 0.4:
            site.training.hang(site.rank, self._dice.choice((Plight.BLOCKED, Plight.SPINNING)))
        else:
            self._dies(site, self._dice.uniform(0.2, 8.0), words)

    def _dies(self, site: Site, delay_s: float, words: str) -> None:
        self._later(delay_s, lambda: self._raises(site.training, site.rank, words, cascade=True))

    def _all_fail(self, site: Site, between_s: tuple[float, float], words: Callable[[int], tuple[str, str]]) -> None:
        for rank in sorted(site.training.plights):
            raised, said = words(rank)
            delay_s = self._dice.uniform(*between_s)
            if said:
                self._later(delay_s - 0.5, lambda rank=rank, said=said: site.training.says(rank, said))  # type: ignore[misc]
            self._later(delay_s, lambda rank=rank, raised=raised: self._raises(site.training, rank, raised))  # type: ignore[misc]
        site.training.hang(site.rank, Plight.SPINNING)

    def _raises(self, training: Training, rank: int, words: str, *, cascade: bool = False) -> None:
        if training.plights.get(rank, Plight.DEAD) is not Plight.DEAD:
            training.fail(rank, "RuntimeError", words, cascade=cascade)

    def _ends(self, training: Training, rank: int, number: int) -> None:
        if training.plights.get(rank, Plight.DEAD) is not Plight.DEAD:
            training.kill(rank, number=number)

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._time.after(delay_s, call)
