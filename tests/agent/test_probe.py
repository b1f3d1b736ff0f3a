"""What does a probe tell of a device that works, one that is not there, and one that never answers?"""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from stage import Stage

from jobs.agent import orders, probe
from jobs.agent.child import Exit
from monitors.clock import SystemClock
from monitors.detect.straggler_probe import Word, confirmed
from monitors.hardware import ProbeDone
from monitors.signals import NodeSeen, WorldStarted


def test_a_core_of_this_machine_is_measured() -> None:
    done = asyncio.run(probe.probe(SystemClock(), node=3, device=None))
    assert done.why == ""
    assert (done.node, done.device) == (3, None)
    assert done.tflops > 0.001
    assert done.bandwidth_bytes_s > 1e8


def test_a_gpu_that_torch_does_not_see_is_neither_slow_nor_sound() -> None:
    done = asyncio.run(probe.probe(SystemClock(), node=0, device="GPU-00000000-0000-0000-0000-000000000000"))
    assert done.why == "torch sees no such GPU here"
    assert (done.tflops, done.bandwidth_bytes_s, done.unable) == (0.0, 0.0, True)
    assert confirmed(done, []).word is Word.UNKNOWN


def test_a_device_that_never_answers_is_not_waited_for() -> None:
    clock = SystemClock()
    began = clock.now()
    done = asyncio.run(probe.probe(clock, node=0, device=None, deadline_s=0.05))
    assert (done.why, done.unable) == ("no answer in 0 s", True), "it had not begun"
    assert clock.now() - began < 5


BEGUN = b'{"begun": true}\n'


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("said", [b"", b"{}", b"[]", b"nonsense", b'{"tflops": null, "bandwidth_bytes_s": 1}'])
def test_no_result_is_the_devices_failure_once_it_was_gone_to(said: bytes, begun: bool) -> None:
    how = Exit(code=1, signal=None)
    result = probe._read(BEGUN + said if begun else said, b"", how)
    assert (result.tflops, result.bandwidth_bytes_s, result.unable) == (0.0, 0.0, not begun)
    assert result.why == "it said nothing, and ended as Exit(code=1, signal=None)"


def test_a_device_that_was_gone_to_and_never_answers_has_failed() -> None:
    result = probe._read(BEGUN, b"", 30.0)
    assert (result.why, result.unable) == ("no answer in 30 s", False)


def test_what_the_device_raises_is_its_failure_and_what_is_missing_is_not() -> None:
    raised = probe._read(BEGUN, b"Traceback\nRuntimeError: CUDA error: uncorrectable ECC error\n", None)
    assert (raised.why, raised.unable) == ("RuntimeError: CUDA error: uncorrectable ECC error", False)
    missing = probe._read(BEGUN + b'{"unable": "only 1.0 GiB are free"}\n', b"", None)
    assert (missing.why, missing.unable) == ("only 1.0 GiB are free", True)


@pytest.mark.parametrize("tflops", ["0.0", "-1", "NaN", "Infinity"])
def test_a_result_of_nothing_is_a_failure(tflops: str) -> None:
    said = f'{{"tflops": {tflops}, "bandwidth_bytes_s": 1e9}}'.encode()
    result = probe._read(BEGUN + said, b"", None)
    assert "which no device does" in result.why
    assert not result.unable


def test_a_probe_is_ordered_while_a_world_runs_and_the_agent_goes_on_looking(stage: Stage) -> None:
    stage.spec(("sleep", "600"), python=False, nodes=2, ranks_per_node=2)
    stage.launch(node=1)
    stage.start_world(1, 1)
    stage.wait_for(WorldStarted)
    order = orders.Probe(world=1, device=None, about="node 1")
    stage.order(order, 1)
    stage.order(order, 1)
    (done,) = stage.wait_for(ProbeDone)
    assert (done.node, done.world, done.about, done.why) == (1, 1, "node 1", "")
    assert done.tflops > 0.001
    looks = [seen.at for seen in stage.seen(NodeSeen) if done.at - done.took_s <= seen.at]
    held_up_s = max(later - earlier for earlier, later in pairwise([done.at - done.took_s, *looks, done.at]))
    assert held_up_s < 0.5 * done.took_s, "its loop waited for the probe"
    stage.order(order, 1)
    again = stage.wait_for(ProbeDone, 2)
    assert again == [done, done], "measured once, and said again"


def test_a_device_is_not_measured_for_a_world_that_is_not_there(stage: Stage) -> None:
    stage.spec(("sleep", "600"), python=False, nodes=2)
    stage.launch(node=1)
    stage.start_world(2, 1)
    stage.wait_for(WorldStarted)
    stage.order(orders.Probe(world=1, device=None, about="of the world before"), 1)
    stage.order(orders.Probe(world=2, device=None, about="node 1"), 1)
    assert [done.about for done in stage.wait_for(ProbeDone)] == ["node 1"]
