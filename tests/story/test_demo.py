"""Does the demo notice when a fault of its own was not told, and does a flip hit what is restored next?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from orchestrator import demo, injection
from orchestrator.core import events as e
from orchestrator.journal import Journal
from tests.story.scripted import RUN, Script

TOLD = [
    ("kill", "worker_killed"),
    ("exception", "worker_exception"),
    ("stop", "hang"),
    ("spin", "hang"),
    ("nan", "nonfinite_loss"),
    (None, "loss_spike"),
    ("flip", "checkpoint_corrupt"),
    ("kill", "worker_killed"),
    ("supervisor", "supervisor_restarted"),
]
"""drills and kinds of a demo in which all went well"""


def incidents(*told: tuple[str | None, str], response: str = "restart") -> list[dict[str, Any]]:
    rows = enumerate(told, 1)
    return [{"id": f"i{at}", "drill": drill, "kind": kind, "response": response} for at, (drill, kind) in rows]


def test_a_demo_in_which_every_fault_was_told_has_no_problem() -> None:
    assert demo.problems(incidents(*TOLD)) == []


def test_a_machine_that_is_busy_beside_the_demo_is_no_problem_of_it() -> None:
    assert demo.problems([*incidents(*TOLD), *incidents((None, "straggler"), response="observe")]) == []
    assert demo.problems(incidents(*TOLD, (None, "gpu_lost"), response="observe")) == ["UNEXPECTED: i10 gpu_lost"]


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        (
            [one for one in TOLD if one[0] != "flip"],
            "MISSING: checkpoint_corrupt, which the drill flip provokes",
        ),
        ([one for one in TOLD if one[0] != "spin"], "MISSING: hang, which the drill spin provokes"),
        (
            [one for one in TOLD if one[0] is not None],
            "MISSING: loss_divergence or loss_spike, which the poisoned data provoke",
        ),
        ([*TOLD, (None, "straggler")], "UNEXPECTED: i10 straggler"),
    ],
    ids=["no flip", "no spin", "no spike", "a straggler"],
)
def test_what_is_missing_or_unexpected_is_named(told: list[tuple[str | None, str]], problem: str) -> None:
    assert demo.problems(incidents(*told)) == [problem]


def committed(script: Script, folder: Path, world: int = 1) -> str:
    """A save of the present step that is not read back yet."""
    name = f"step-{script.state.step:08d}.a1w{world}"
    path = folder / name
    path.mkdir()
    (path / "shard").write_bytes(bytes(64))
    script.take(
        e.CheckpointCommitted(
            at=script.now,
            checkpoint=name,
            step=script.state.step,
            world=world,
            saved_at=script.now,
            bytes=64,
            path=str(path),
        )
    )
    return name


def test_a_flip_waits_for_the_newest_save_to_be_read_back(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db") as journal, ThreadPoolExecutor(1) as pool:
        script = Script(journal).join().begin(0).train(10)
        older = committed(script, tmp_path)
        script.take(e.CheckpointVerified(at=script.now, checkpoint=older))
        newest = committed(script.train(10), tmp_path)
        said = pool.submit(injection.flip, tmp_path, RUN)
        assert not wait([said], timeout=0.3).done, "what was damaged is passed over: the newest is restored"
        script.take(e.CheckpointVerified(at=script.now, checkpoint=newest))
        assert said.result(timeout=injection.READ_S).startswith(f"{newest}: flip shard")
    assert (tmp_path / older / "shard").read_bytes() == bytes(64)


def test_what_another_run_left_is_not_flipped(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db") as journal:
        script = Script(journal).join().begin(0).train(10)
        anothers = committed(script, tmp_path, world=0)
        script.take(e.CheckpointVerified(at=script.now, checkpoint=anothers))
    with pytest.raises(LookupError, match="has no verified checkpoint yet"):
        injection.flip(tmp_path, RUN)
    assert (tmp_path / anothers / "shard").read_bytes() == bytes(64)


def test_without_a_save_there_is_nothing_to_flip(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db") as journal:
        Script(journal).join().begin(0).train(10)
    with pytest.raises(LookupError, match="has no verified checkpoint yet"):
        injection.flip(tmp_path, RUN)
