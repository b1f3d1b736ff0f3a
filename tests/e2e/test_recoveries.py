"""After a recovery the run proves itself, or does not: as before, slower, or with something forgotten."""

from __future__ import annotations

import pytest
from lab import Lab
from test_drills import script

from orchestrator import contract

pytestmark = [pytest.mark.e2e]

SAVING = {"every_steps": 20, "probation_steps": 30, "keep": 3}


def proofs(lab: Lab, run: str) -> list[str]:
    """What the story says of worlds that proved themselves."""
    told = [sentence["text"] for sentence in contract.story(lab.home, run)["sentences"]]
    return [text for text in told if "proved itself" in text]


@pytest.mark.long
@pytest.mark.parametrize("memory", [True, False])
def test_a_killed_run_proves_itself(lab: Lab, memory: bool) -> None:
    saving = SAVING if memory else {**SAVING, "memory_every_steps": 0}
    run = lab.submit(script(lab, until=400), ranks_per_node=1, checkpoint=saving)
    lab.reach(run, 110)
    lab.drill(run, "kill", 0)
    lab.finish(run)
    assert lab.kinds(run) == ["worker_killed"], lab.told(run)
    (proof,) = proofs(lab, run)
    assert proof.startswith("World 2 proved itself: step time 0.0"), proof
    assert proof.endswith("data position as expected."), proof


@pytest.mark.long
def test_a_run_that_is_slow_after_a_restart_is_told(lab: Lab) -> None:
    lukewarm = script(lab, until=420)
    text = (lab.folder / "tiny.py").read_text()
    text = text.replace(
        "        time.sleep(", "        time.sleep((0.06 if os.environ['LASTGOOD_WORLD'] > '1' else 0) + "
    )
    (lab.folder / "tiny.py").write_text(text)
    run = lab.submit(lukewarm, ranks_per_node=1, checkpoint=SAVING)
    lab.reach(run, 110)
    lab.drill(run, "kill", 0)
    lab.finish(run)
    assert lab.kinds(run) == ["worker_killed", "recovery_slow"], lab.told(run)
    slow = lab.concluded(run)[1]
    assert (slow["response"], slow["actions"], slow["onset_step"] > 100) == ("observe", [], True), slow
    assert "before the fault it took 0.0" in slow["evidence"][0]
    assert proofs(lab, run) == []


@pytest.mark.long
def test_a_run_that_forgets_a_part_of_its_weights_is_rewound_and_held(lab: Lab) -> None:
    forgetful = script(lab, until=2000, loss="3.0 - 0.003 * own.weight.mean().item()")
    text = (lab.folder / "tiny.py").read_text()
    # What is learned in `own` is not part of what is saved.
    text = text.replace(
        "    for step in", "    own = torch.nn.Linear(1, 1)\n    own.weight.data.zero_()\n    for step in"
    )
    text = text.replace("            model.weight", "            own.weight += 1\n            model.weight")
    (lab.folder / "tiny.py").write_text(text)
    run = lab.submit(forgetful, ranks_per_node=1, checkpoint=SAVING)
    lab.reach(run, 140)
    lab.drill(run, "kill", 0)
    status = lab.wait(run, lambda s: bool(s["state"] == "HELD"))
    assert lab.kinds(run) == ["worker_killed", "recovery_wrong", "recovery_wrong"], lab.told(run)
    assert status["cause"] == "recovery_wrong"
    first, second = lab.concluded(run)[1:]
    assert (first["response"], second["response"]) == ("rewind", "hold")
    assert 0 < first["resumed_from_step"] < first["onset_step"]
    assert "on the same data" in second["evidence"][0]
    assert second["step"] == second["onset_step"] + 2, "the third step that was trained again"
    doubtful = [one for one in lab.checkpoints(run) if one["world"] > 1]
    assert all(one["state"] == "tainted" for one in doubtful), doubtful
    assert proofs(lab, run) == []
