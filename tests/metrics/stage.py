"""A state folder with many runs in it, and what a supervisor would say of them, without any process."""

from __future__ import annotations

from pathlib import Path

from monitors.hardware import GpuLooked
from monitors.incidents import Kind
from monitors.signals import StepReported
from orchestrator.core import events as e
from orchestrator.home import Home
from orchestrator.journal import Journal
from orchestrator.metrics_page import Live, Pages
from orchestrator.metrics_settings import Settings
from orchestrator.readings import Readings
from tests.story.scripted import PLAN, T0, Script

DAY_S = 86400.0


class Hands:
    """A clock that is set by hand."""

    def __init__(self, at: float = T0) -> None:
        self.at = at

    def now(self) -> float:
        """As it was set."""
        return self.at


def home_at(root: Path) -> Home:
    """A new state folder."""
    home = Home(root)
    home.create()
    return home


def pages(home: Home, at: float, **settings: int) -> Pages:
    """Its metrics at some time."""
    return Pages(home, Settings(**settings), Hands(at))


def trained(journal: Journal, run: str, *, seconds: int = 5, plan: e.Plan = PLAN) -> Script:
    """A run that has had a fault and trains again, a report a second, with rows."""
    script = Script(journal, run=run, plan=plan).join().begin(0).train(10).save(stall_s=0.25).train(10)
    script.fail(Kind.WORKER_KILLED).stop().begin(10)
    for second in range(seconds):
        script.train(10, save=second * 0.01, data=second * 0.02)
    last = script.state.step
    journal.add_rows(run, [row(script, step) for step in range(last - 20, last)])
    return script


def row(script: Script, step: int) -> StepReported:
    """One step of a newest world."""
    return StepReported(
        at=script.now,
        node=0,
        world=script.state.world,
        rank=0,
        step=step,
        loss=2.5,
        grad_norm=0.5,
        lr=1e-4,
        tokens=4096.0,
        step_s=0.1,
    )


def looked(node: int, index: int, at: float = T0) -> GpuLooked:
    """All that a driver says of a GPU."""
    return GpuLooked(
        at=at,
        node=node,
        device=f"GPU-{node:04d}-{index}",
        index=index,
        name="NVIDIA H200",
        pci=f"0000:{index:02x}:00.0",
        power_w=512.5 + index,
        energy_j=1.5e6,
        limit_w=700.0,
        utilisation=0.97,
        sm_clock_mhz=1830.0,
        temperature_c=61.0 + index,
        memory_temperature_c=75.0,
        memory_used_bytes=64 << 30,
        memory_bytes=141 << 30,
        throttles=0,
        ecc_corrected=0,
        ecc_uncorrected=0,
        remap_failed=False,
        rows_remapped_uncorrected=0,
        nvlink_errors=0,
        pcie_replays=3,
    )


def readings(nodes: int, per_node: int) -> Readings:
    """Those of a run whose every GPU was looked at."""
    known = Readings(rank_of=lambda node, index: node * per_node + index)
    for node in range(nodes):
        for index in range(per_node):
            known.see(looked(node, index))
    return known


def live(run: str, known: Readings, *, nodes: int, most: int = 256) -> Live:
    """What the supervisor would answer."""
    return {run: known.table(most) | {"hosts": {str(node): f"host{node}" for node in range(nodes)}}}


def held(journal: Journal, run: str) -> Script:
    """A run that waits for a person."""
    script = Script(journal, run=run).join().begin(0).train(3).fail(Kind.CRASH_LOOP)
    script.take(e.AttemptEnded(at=script.wait(1).now, attempt=1))
    return script
