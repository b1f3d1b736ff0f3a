"""A person pauses, restarts and changes a run of real processes: what comes out is the same, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
from lab import STEPS, Alone, Lab, gpt, read

from jobs import registry
from orchestrator.client import ask

pytestmark = [pytest.mark.e2e]
WITHIN_S = 240.0


def asked(lab: Lab, verb: str, run: str, **fields: Any) -> dict[str, Any]:
    answer = ask(lab.home, {"ask": verb, "run": run, "by": "the test", **fields}, start=True)
    assert answer["ok"], answer
    return answer


def refused(lab: Lab, verb: str, run: str, **fields: Any) -> str:
    answer = ask(lab.home, {"ask": verb, "run": run, "by": "the test", **fields}, start=True)
    assert not answer["ok"], answer
    return str(answer["error"])


def in_state(lab: Lab, run: str, state: str) -> dict[str, Any]:
    return lab.wait(run, lambda s: bool(s["state"] == state), within_s=WITHIN_S)


def test_a_run_is_paused_restarted_and_changed_and_nothing_of_it_is_lost(lab: Lab, alone: Alone) -> None:
    run = lab.submit(gpt(lab.folder, "--step-s", "0.3"))
    lab.reach(run, 10, within_s=WITHIN_S)
    asked(lab, "pause", run, why="the hall is hot")
    paused = in_state(lab, run, "PAUSED")
    assert (paused["paused_by"], paused["paused_why"], paused["exit_code"]) == ("the test", "the hall is hot", 101)
    assert not registry.marked(run, 1), "it left its devices"
    newest = max(c["step"] for c in lab.checkpoints(run))
    assert newest == paused["step"], "the last step was not saved"
    assert "only a person" in refused(lab, "resume", run, by="the power budget")
    assert "nodes stays what it is" in refused(lab, "resume", run, sets=["nodes=2"])

    asked(lab, "resume", run, sets=["recovery.stop_grace_s=45", "env.SECRET=hunter2"])
    lab.reach(run, newest + 5, within_s=WITHIN_S)
    status = lab.status(run)
    assert (status["attempt"], status["world"], status["spec_revision"], status["paused_by"]) == (2, 2, 1, None)
    assert "hunter2" not in lab.told(run)
    assert '"hunter2"' in (lab.home / "runs" / run / "spec.json").read_text()
    assert "hunter2" not in (lab.home / "runs" / run / "spec.r0.json").read_text()

    assert "no other host to give" in refused(lab, "restart", run, without=0)
    asked(lab, "restart", run)
    lab.wait(run, lambda s: bool(s["world"] == 3 and s["state"] == "RUNNING"), within_s=WITHIN_S)
    done = lab.finish(run, within_s=WITHIN_S)
    assert (done["attempt"], done["world"], done["restarts"]) == (2, 3, 0)
    assert lab.concluded(run) == []
    trained = read(lab.folder / "losses", lab.folder / "weights")
    assert trained == alone()
    assert len((lab.folder / "losses").read_text().splitlines()) == STEPS, "a step was trained twice"
    told = lab.told(run)
    assert "the test changed the spec: recovery.stop_grace_s=45, env.SECRET." in told
    assert "the test asked for a restart: restarted by the test, saving first." in told


@pytest.mark.long
def test_a_pause_in_the_middle_of_a_recovery_goes_on_from_there(lab: Lab, alone: Alone) -> None:
    run = lab.submit(gpt(lab.folder, "--step-s", "0.1"))
    lab.reach(run, 15, within_s=WITHIN_S)
    lab.drill(run, "kill", 1)
    lab.wait(run, lambda s: bool(s["state"] in ("RECOVERING", "STARTING")), within_s=WITHIN_S)
    asked(lab, "pause", run)
    in_state(lab, run, "PAUSED")
    asked(lab, "resume", run)
    lab.finish(run, within_s=WITHIN_S)
    assert lab.kinds(run) == ["worker_killed"]
    assert read(lab.folder / "losses", lab.folder / "weights") == alone()
