"""What happens when a GPU fails, on a machine that has none? `lastgood demo --fault xid79`.

A management library of our own stands in for NVIDIA's, so the senses, the detectors and the policy are the real ones:
only the GPUs are made up. Two CPU ranks train meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobs.load import load, resolve
from monitors.fakenvml.control import RESET_REQUIRED, FakeNvml
from monitors.incidents import Kind
from orchestrator import contract
from orchestrator.cli.text import print_story
from orchestrator.client import ask
from orchestrator.demo_stage import CLOCK, RECIPE, Show, wait

STEPS = 160
AT_STEP = 40
GPU = 1
WITHIN_S = 2.0
"""from the fault to the incident"""
LINE = "NVRM: Xid (PCI:{pci}): {xid}, pid='<unknown>', name=<unknown>, {text}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What breaks, and what should be concluded."""

    does: str
    breaks: Callable[[FakeNvml], None]
    expects: Kind
    line: str = ""
    """what the kernel would write, too"""
    within_s: float = WITHIN_S


def _fall_off(gpus: FakeNvml) -> None:
    gpus.xid(GPU, 79)
    gpus.lose(GPU)


FAULTS = {
    "xid79": Fault(
        does="a GPU falls off the bus: Xid 79, and every call about it says that it is lost",
        breaks=_fall_off,
        expects=Kind.GPU_LOST,
        line=LINE.format(pci="{pci}", xid=79, text="GPU has fallen off the bus."),
    ),
    "xid95": Fault(
        does="a GPU's memory returns wrong bits, uncontained: Xid 95",
        breaks=lambda gpus: gpus.xid(GPU, 95),
        expects=Kind.GPU_MEMORY,
    ),
    "reset": Fault(
        does="a GPU answers that it must be reset",
        breaks=lambda gpus: gpus.fail(GPU, RESET_REQUIRED),
        expects=Kind.GPU_FAULT,
    ),
    "verdict": Fault(
        does="the driver's recovery action says: reboot the node",
        breaks=lambda gpus: gpus.recover_by(GPU, 2),
        expects=Kind.GPU_LOST,
    ),
    "hang": Fault(
        does="a call about a GPU does not return",
        breaks=lambda gpus: gpus.hang(GPU),
        expects=Kind.GPU_LOST,
        within_s=12.0,
    ),
}


def play(folder: Path, name: str) -> int:
    """Train, break a GPU once, and let the run finish; the exit status."""
    fault = FAULTS[name]
    gpus = FakeNvml(folder / "gpus", gpus=2)
    os.environ.update(gpus.environment)  # the supervisor, the agent and its senses inherit it
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # each rank has one that is made up, whatever it may see of others
    kernel = folder / "kernel.log"
    kernel.touch()
    home = folder / "home"
    spec = resolve(load(RECIPE), RECIPE)
    command = (*spec.argv, "--steps", str(STEPS), "--poison", "0:0")
    senses = spec.senses.model_copy(update={"kernel": str(kernel), "host": "off"})
    body = spec.model_copy(update={"command": command, "senses": senses}).model_dump(mode="json")
    run = str(ask(home, {"ask": "submit", "spec": body, "yaml": RECIPE.read_text()}, start=True)["run"])
    show = Show(home, run)
    show.say(f"submitted {run}: {' '.join(spec.argv)}, beside two GPUs that are made up")
    wait(show, lambda s: bool(s["step"] >= AT_STEP and contract.checkpoints(home, run)["checkpoints"]))
    show.say(f"FAULT: {fault.does}")
    broken_at = CLOCK.now()
    fault.breaks(gpus)
    if fault.line:
        with kernel.open("a") as log:
            log.write(fault.line.format(pci=gpus.pci(GPU).removesuffix(".0")))
    wait(show, lambda _: bool(contract.incidents(home, run)["incidents"]))
    gpus.heal(GPU)  # as a node does that the scheduler gives instead
    status = wait(show, lambda _: False)
    incidents = contract.incidents(home, run)["incidents"]
    print_story(contract.story(home, run), contract.incidents(home, run))
    took_s = incidents[0]["detected"] - broken_at
    told = incidents[0]["kind"] == fault.expects and len(incidents) == 1
    print(f"\n{run}: {status['state']}: {status['reason']}")
    asked = f"{fault.expects} within {fault.within_s:.0f} s"
    print(f"{incidents[0]['kind']} {took_s:.2f} s after the fault; expected: {asked}")
    return int(status["exit_code"]) or int(not told or took_s > fault.within_s)
