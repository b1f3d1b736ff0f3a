"""Are GPUs limited as ordered, and the limits put back whatever becomes of the agent? Real agents, a fake driver."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from stage import Stage, is_running, kill, until

from jobs.agent import orders
from monitors.fakenvml.build import compiler
from monitors.fakenvml.control import NO_PERMISSION, FakeNvml
from monitors.hardware import PowerCapped

SET = "nvmlDeviceSetPowerManagementLimit"
ON = {"senses": {"kernel": "off", "nvml": "auto", "host": "off"}, "ranks_per_node": 2}
pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C compiler")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: Stage) -> FakeNvml:
    """Three GPUs, of which the node's two ranks have the first two; an agent is there."""
    made = FakeNvml(tmp_path / "nvml", gpus=3)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    stage.spec(stage.script("import time; time.sleep(60)"), **ON)
    stage.launch()
    return made


def limits(fake: FakeNvml) -> list[float | None]:
    return [fake.limit_w(gpu) for gpu in range(3)]


def cap(stage: Stage, watts: float | None) -> PowerCapped:
    before = len(stage.seen(PowerCapped))
    stage.order(orders.CapPower(watts=watts))
    return stage.wait_for(PowerCapped, before + 1)[-1]


def capper() -> psutil.Process:
    """The process that set the limits."""
    return next(p for p in psutil.process_iter(["cmdline"]) if "monitors.sense.nvml_cap" in (p.info["cmdline"] or ()))


def test_the_gpus_of_the_ranks_are_limited_until_the_agent_leaves(stage: Stage, fake: FakeNvml) -> None:
    told = cap(stage, 400.0)
    assert (told.watts, told.may_draw_w, told.least_w, told.why) == (400.0, 800.0, 200.0, "")
    assert limits(fake) == [400.0, 400.0, None]
    assert cap(stage, 300.0).may_draw_w == 600.0, "changed while it goes on"
    assert cap(stage, None).may_draw_w == 1400.0
    cap(stage, 500.0)
    stage.order(orders.Leave())
    until(lambda: limits(fake)[:2] == [700.0, 700.0], "limits put back")


def test_nobody_is_let_draw_more_than_somebody_else_allowed(stage: Stage, fake: FakeNvml) -> None:
    fake.set(0, "power_requested_limit_mw", 350_000)
    assert cap(stage, 400.0).why == ""
    assert limits(fake) == [350.0, 400.0, None]


def test_without_the_right_nothing_is_changed_and_the_answer_says_who_needs_it(stage: Stage, fake: FakeNvml) -> None:
    fake.fail(1, NO_PERMISSION, SET)
    told = cap(stage, 400.0)
    assert "needs root" in told.why
    assert told.may_draw_w == 1400.0
    assert limits(fake)[0] == 700.0, "all of them or none"
    fake.heal(1)
    assert cap(stage, 400.0).why == "", "tried again"


def test_a_limit_below_the_least_is_refused_with_it(stage: Stage, fake: FakeNvml) -> None:
    told = cap(stage, 150.0)
    assert told.why == "GPU 0 cannot be limited to 150 W: 200 W is the least"
    assert told.least_w == 200.0
    assert limits(fake) == [None, None, None]


def test_the_limits_are_put_back_when_the_agent_is_killed(stage: Stage, fake: FakeNvml) -> None:
    cap(stage, 400.0)
    child = capper()
    stage.agents[0].kill()
    until(lambda: limits(fake)[:2] == [700.0, 700.0], "limits put back")
    until(lambda: not is_running(child.pid), "the end of the child")


def test_what_a_killed_child_left_is_put_back_by_the_next_agent(stage: Stage, fake: FakeNvml) -> None:
    cap(stage, 400.0)
    child = capper()
    child.suspend()
    stage.agents[0].kill()
    stage.agents[0].wait()
    kill(child.pid)
    assert limits(fake)[:2] == [400.0, 400.0]
    stage.launch()
    until(lambda: limits(fake)[:2] == [700.0, 700.0], "limits put back")


def test_a_driver_that_is_not_there_is_an_answer(stage: Stage, fake: FakeNvml) -> None:
    fake.vanish()
    told = cap(stage, 400.0)
    assert told.may_draw_w is None
    assert "libnvidia-ml.so.1 is not found" in told.why
