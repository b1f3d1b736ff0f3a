"""What does an agent do that is not wanted? A real agent and worker, a supervisor that refuses."""

from __future__ import annotations

from stage import TOKEN, Stage, is_running, until

from jobs.agent import orders

SLEEPS = "import time\ntime.sleep(600)\n"


def test_an_agent_whose_attempt_is_over_ends(stage: Stage) -> None:
    stage.spec(stage.script(SLEEPS), nodes=2)
    stage.launch(node=1)
    stage.start_world(1, 1)
    worker = stage.pid(1, world=1)
    stage.supervisor.down()
    stage.supervisor.refuses = orders.Refusal.OVER
    stage.supervisor.up()
    assert stage.agents[1].wait(20) == 0
    assert not is_running(worker)


def test_an_agent_that_is_refused_for_less_trains_on(stage: Stage) -> None:
    stage.spec(stage.script(SLEEPS), nodes=2)
    stage.launch(node=1)
    stage.start_world(1, 1)
    worker = stage.pid(1, world=1)
    (stage.home / "token").write_text("another\n")
    stage.supervisor.down()
    stage.supervisor.up()
    until(lambda: stage.supervisor.refused.count(orders.Refusal.TOKEN) > 2, "refused for its token")
    stage.supervisor.refuses = orders.Refusal.UNKNOWN
    until(lambda: stage.supervisor.refused.count(orders.Refusal.UNKNOWN) > 2, "refused for its run")
    assert is_running(worker)
    stage.supervisor.refuses = None
    before = len(stage.supervisor.hellos)
    (stage.home / "token").write_text(TOKEN + "\n")
    stage.wait(lambda: len(stage.supervisor.hellos) > before, "a hello with the token read anew")
    assert stage.supervisor.hellos[-1].alive
