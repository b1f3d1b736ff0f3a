"""What looks like a fault and must not end a world? Neighbours, what was corrected, what is over soon, what is slow."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from tests.simulation import dmesg
from tests.simulation.cluster import Cluster
from tests.simulation.timeline import Timeline

if TYPE_CHECKING:
    from tests.simulation.breakage import Site

STRANGER_PID = 999_999
SLOW_STEPS, LOOKED_AT_STEPS = 30, 6
"""how long a GPU is slow, and at how many of these steps the GPUs are asked"""
SLOWED = 1.6


class Innocence:
    """One method for each, named as its rate."""

    def __init__(self, dice: Random, timeline: Timeline, cluster: Cluster) -> None:
        self._dice = dice
        self._time = timeline
        self._cluster = cluster

    def slow_gpu(self, site: Site) -> None:
        """Hot, or capped: every step waits for it."""
        gpu, training, now = site.gpu, site.training, self._time.now()
        if training.slowness > 1.0:
            return
        if self._dice.random() < 0.5:
            gpu.hot_since = now
        else:
            gpu.cap_w = 400.0
        training.slowness = SLOWED
        self._cluster.truth.slowed.add(training.world)
        step_s = self._cluster.knobs.step_s * SLOWED
        for step in range(LOOKED_AT_STEPS):
            self._time.after((step + 0.5) * step_s, self._attend)

        def over() -> None:
            gpu.cool(self._time.now())
            training.slowness = 1.0

        self._time.after(SLOW_STEPS * step_s, over)

    def _attend(self) -> None:
        for agent in self._cluster.agents():
            agent.senses.attend(6.0)

    def corrected(self, site: Site) -> None:
        """Errors that ECC corrected, of a GPU and of the host."""
        site.gpu.corrected += self._dice.choice((1, 3, 50))
        site.agent.senses.happened(site.gpu.device, "ecc_corrected")
        high = dmesg.xid(92, site.gpu.pci, site.pid, "High single-bit ECC error rate")
        site.agent.senses.wrote(self._dice.choice((dmesg.CORRECTED, (high,), ())))

    def other_job(self, site: Site) -> None:
        """A process that is none of ours faults, or is killed for memory."""
        fault = self._dice.choice(dmesg.PROGRAMS)(site.machine.gpus[-1].pci, STRANGER_PID)
        site.agent.senses.wrote(self._dice.choice((fault, dmesg.oom(STRANGER_PID))))

    def idle_gpu(self, site: Site) -> None:
        """A GPU breaks that no rank uses; hours later somebody mends it."""
        knobs = self._cluster.knobs
        # By its address alone nobody knows whose it is: a node that cannot ask its driver has to take it for its own.
        if not knobs.idle_gpus or "nvml" in site.agent.senses.blind:
            return
        gpu = site.machine.gpus[-1]
        gpu.lost = True
        site.agent.senses.wrote(dmesg.lost(gpu.pci, STRANGER_PID))

        def mended() -> None:
            gpu.lost = False

        self._time.after(self._dice.uniform(600.0, 20_000.0), mended)

    def blink(self, site: Site) -> None:
        """A file server or a port is away for some seconds."""
        machine, senses = site.machine, site.agent.senses
        what = self._dice.choice(("server", "mount", "port"))  # kernel and host at once are two witnesses
        senses.attend(60.0)
        if what == "mount":
            machine.dead_mounts = ("/ckpt",)
        else:
            senses.wrote(dmesg.NFS_AWAY if what == "server" else dmesg.CABLE)
        if what == "port":
            machine.links_down = ("mlx5_0/1",)

        def back() -> None:
            machine.dead_mounts = machine.links_down = ()
            if what == "server":
                senses.wrote(dmesg.NFS_BACK)

        self._time.after(self._dice.uniform(1.0, 12.0), back)
