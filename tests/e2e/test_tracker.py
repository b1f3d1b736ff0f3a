"""Is a run one run at W&B and in TensorBoard, with a kill, a rewind, an outage, and somebody who presses Stop?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from lab import Lab, gpt

from orchestrator import tracker_events
from tests.tracker.wandb_server import KEY, Server

pytestmark = pytest.mark.e2e

FROM_DISK = {"every_steps": 5, "probation_steps": 12, "keep": 3, "memory_every_steps": 0}
WITHIN_S = 240.0


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The supervisor that the test starts has its key."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with Server() as made:
        yield made


def tracker(server: Server, **wandb: Any) -> dict[str, Any]:
    return {"wandb": {"project": "keep", "base_url": server.url, **wandb}, "tensorboard": {}}


def steps_of(server: Server, run: str) -> list[tuple[int, int, float]]:
    """World, step and loss of every row of a step, in order."""
    rows = [row for row in server.runs[run].history if "train/step_s" in row]
    return [(row["lastgood/world"], row["trainer/step"], row["train/loss"]) for row in rows]


@pytest.mark.long
@pytest.mark.parametrize("after", ["append", "rewind"])
def test_a_run_is_one_run_of_wandb_over_a_kill_and_an_outage(lab: Lab, server: Server, after: str) -> None:
    run = lab.submit(gpt(lab.folder, steps=150), tracker=tracker(server, after_rewind=after), checkpoint=FROM_DISK)
    lab.reach(run, 20)
    server.wait(lambda s: len(s.rows(run, "train/step_s")) > 3, WITHIN_S)
    server.close()
    lab.drill(run, "kill", rank=1)
    lab.finish(run, within_s=WITHIN_S)
    (recovered, *_) = lab.incidents(run)
    assert recovered["phases_s"]["total"] is not None, "nobody waited for W&B"
    server.open()
    server.wait(lambda s: s.runs[run].state == "finished", WITHIN_S)
    told = [(row.world, row.step, row.loss) for row in lab.rows(run)]
    kept = [row for row in told if row[1] <= recovered["resumed_from_step"] or row[0] > 1]
    found = steps_of(server, run)
    assert [row[:2] for row in found] == [row[:2] for row in (told if after == "append" else kept)]
    assert [row[2] for row in found] == pytest.approx([row[2] for row in (told if after == "append" else kept)])
    assert server.rows(run, "incident/kind")[0] == "worker_killed"
    assert server.rows(run, "restart/world")[0] == 2
    assert server.rows(run, "lastgood/state") == ["SUCCEEDED", "SUCCEEDED"]
    assert server.rows(run, "goodput/ettr")[-1] > 0
    assert len(server.runs[run].rewound) == (after == "rewind")
    done = lab.home / "runs" / run / "tracker" / "done"
    server.wait(lambda _: done.exists(), WITHIN_S)
    (events,) = (lab.home / "runs" / run / "tracker" / "tensorboard").iterdir()
    lines = (lab.home / "runs" / run / "tracker" / "rows.jsonl").read_bytes().count(b"\n")
    assert len(list(tracker_events.records(events.read_bytes()))) == 1 + lines


@pytest.mark.long
def test_the_stop_button_saves_and_stops(lab: Lab, server: Server) -> None:
    run = lab.submit(gpt(lab.folder, steps=100_000), tracker=tracker(server))
    lab.reach(run, 10)
    server.wait(lambda s: len(s.rows(run, "train/step_s")) > 3, WITHIN_S)
    server.runs[run].stopped = True
    status = lab.wait(run, lambda s: bool(s["state"] in ("STOPPED", "HELD")), within_s=WITHIN_S)
    assert status["exit_code"] == 103
    assert any("the Stop button of W&B asked the run to stop" in text for text in lab.told(run).splitlines())
    assert max(save["step"] for save in lab.checkpoints(run)) == status["step"], "it was saved first"


SCRIPT = """
import time, wandb, lastgood

def train(run):
    quiet = wandb.Settings(console="off", silent=True, x_disable_stats=True)
    log = wandb.init(settings=quiet) if run.rank == 0 else None
    state = {"n": [0]}
    for step in run.steps(state, until=40):
        time.sleep(0.05)
        run.report(loss=1.0)
        if log is not None:
            log.log({"trainer/step": step})
    if log is not None:
        log.finish()

lastgood.main(train)
"""


@pytest.mark.long
def test_a_script_that_calls_wandb_keeps_one_run_and_its_rows(lab: Lab, server: Server) -> None:
    script = lab.folder / "script.py"
    script.write_text(SCRIPT)
    run = lab.submit(
        [str(script)],
        ranks_per_node=1,
        env={"OMP_NUM_THREADS": "1", "WANDB_BASE_URL": server.url, "WANDB_PROJECT": "keep"},
        tracker={"script": {"one_run": True, "service": True, "service_wait_s": 30}},
    )
    lab.reach(run, 12, within_s=WITHIN_S)
    lab.drill(run, "kill", rank=0)
    lab.finish(run, within_s=WITHIN_S)
    name = f"{run}-script"
    server.wait(lambda s: name in s.runs and 40 in s.rows(name, "trainer/step"), WITHIN_S)
    assert list(server.runs) == [name]
    logged = server.rows(name, "trainer/step")
    assert sorted(set(logged)) == list(range(1, 41)), "a row was lost"
    assert len(logged) <= 40 + sum(incident["steps_lost"] for incident in lab.incidents(run)) + 1
