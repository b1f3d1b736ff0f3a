"""The drills that enter at the door of a sense: what one sense sees alone is noted, what is sure is acted on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lab import Lab

from orchestrator.drills import DRILLS

pytestmark = [pytest.mark.e2e]

PROGRAM = """
step=0
while [ ! -e {folder}/enough ]; do
    step=$((step + 1))
    echo "step $step"
    sleep 0.05
done
"""
"""Steps until somebody lays down a file: no torch, so that a restart costs next to nothing."""
NOTED = ("nvlink", "nic", "mce", "readonly", "throttle", "power", "steal", "disk")
ACTED = {"xid95": "restart", "oom": "restart", "xid79": "relaunch", "xid119": "relaunch"}


def stepping(lab: Lab) -> str:
    """A run of such a program."""
    return lab.submit(
        ["bash", "-c", PROGRAM.format(folder=lab.folder)],
        python=False,
        ranks_per_node=2,
        progress={"pattern": r"step (?P<step>\d+)"},
        # What this machine's own kernel, disks and neighbours do is no part of the drills.
        senses={"kernel": str(lab.folder / "kernel.log"), "nvml": "off", "host": "off"},
    )


def finish(lab: Lab, run: str) -> dict[str, Any]:
    """Let it end."""
    (lab.folder / "enough").touch()
    status: dict[str, Any] = lab.finish(run)
    return status


def heard(lab: Lab, run: str, drill: str, known: int) -> dict[str, Any]:
    """The one incident that the drill led to."""
    lab.wait(run, lambda _: any(i["kind"] == DRILLS[drill].expects for i in lab.concluded(run)[known:]), within_s=20)
    new = lab.concluded(run)[known:]
    assert [incident["kind"] for incident in new] == [DRILLS[drill].expects], lab.told(run)
    return new[0]


def test_what_one_sense_sees_alone_is_noted_and_ends_nothing(lab: Lab) -> None:
    (lab.folder / "kernel.log").touch()
    run = stepping(lab)
    lab.wait(run, lambda s: bool(s["step"] > 5))
    for known, drill in enumerate(NOTED):
        lab.drill(run, drill, 1)
        incident = heard(lab, run, drill, known)
        assert (incident["response"], incident["drill"]) == ("observe", drill), incident
        assert incident["evidence"], incident
    status = finish(lab, run)
    assert (status["attempt"], status["world"], status["restarts"]) == (1, 1, 0)


def test_what_is_sure_starts_the_run_anew_and_is_told_once(lab: Lab) -> None:
    (lab.folder / "kernel.log").touch()
    run = stepping(lab)
    for known, (drill, response) in enumerate(ACTED.items()):
        at = lab.status(run)["world"]
        lab.wait(run, lambda s, at=at: bool(s["state"] == "RUNNING" and s["step"] > 5 and s["world"] >= at))
        lab.drill(run, drill, 1)
        incident = heard(lab, run, drill, known)
        assert incident["response"] == response, incident
        assert incident["phases_s"]["detect"] < 2.0, incident
        lab.wait(run, lambda s, at=at: bool(s["world"] > at and s["state"] == "RUNNING"))
    oom = lab.concluded(run)[1]
    assert oom["subject"]["rank"] == 1
    assert any("SIGKILL" in said for said in oom["evidence"]), oom["evidence"]
    finish(lab, run)
    assert len(lab.concluded(run)) == len(ACTED), lab.told(run)


def test_a_line_of_the_kernel_is_an_incident_within_two_seconds(lab: Lab) -> None:
    log = lab.folder / "kernel.log"
    log.touch()
    run = stepping(lab)
    lab.wait(run, lambda s: bool(s["step"] > 5))
    with log.open("a") as kernel:
        kernel.write("[ 99.000001] NVRM: Xid (PCI:0000:3b:00): 79, pid=1, name=x, GPU has fallen off the bus.\n")
    lost = heard(lab, run, "xid79", 0)
    assert lost["detected"] - Path(log).stat().st_mtime < 2.0
    finish(lab, run)
