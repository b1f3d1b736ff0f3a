"""Does an agent tell what flight recorders say, and leave a rank alive that has begun to write down what it knows?"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from stage import Stage, is_running, until

from jobs.agent import orders
from monitors import signals as s

PAIR = """
import os, time
import torch, torch.distributed as dist
dist.init_process_group("gloo")
dist.all_reduce(torch.ones(4))
print("up", flush=True)
if os.environ["RANK"] == "1":
    time.sleep(600)
dist.all_reduce(torch.ones(4))
"""
DUMPS = """
import os, time
dump = os.environ["TORCH_FR_DUMP_TEMP_FILE"] + os.environ["RANK"]
with open(dump, "wb", buffering=0) as file:
    file.write(b"\\x80\\x02}")
    print("begun", flush=True)
    while not os.path.exists("enough"):
        time.sleep(0.01)
    file.write(b".")
time.sleep(600)
"""


def test_a_look_brings_what_the_ranks_have_called(stage: Stage) -> None:
    stage.spec(stage.script(PAIR), ranks_per_node=2)
    stage.launch()
    stage.start_world(1)
    until(lambda: all(stage.output(rank=rank).startswith("up") for rank in (0, 1)), "not up")
    enqueued: dict[int, int] = {}

    def both_asked() -> bool:
        stage.order(orders.LookAt(world=1))
        for look in stage.seen(s.CollectivesLooked):
            enqueued[look.rank] = max((status.enqueued for status in look.groups), default=0)
        return enqueued == {0: 2, 1: 1}

    until(both_asked, "it is not told who came and who did not")
    assert {look.rank for look in stage.seen(s.ProcessLooked)} == {0, 1}


def test_a_stopped_rank_holds_up_nobodys_answer(stage: Stage) -> None:
    stage.spec(stage.script("import time\nprint('up', flush=True)\ntime.sleep(600)"), ranks_per_node=2)
    stage.launch()
    stage.start_world(1)
    until(lambda: all(stage.output(rank=rank) for rank in (0, 1)), "not up")
    stopped = stage.pid(1, world=1)
    os.kill(stopped, signal.SIGSTOP)
    until(lambda: Path(f"/proc/{stopped}/stat").read_text().rpartition(")")[2].split()[0] == "T", "not stopped")
    asked_at = time.time()
    stage.order(orders.LookAt(world=1))
    (seen,) = stage.wait_for(s.ProcessLooked, rank=1)
    assert seen.state == "T"
    stage.wait_for(s.CollectivesLooked, rank=0)
    assert time.time() - asked_at < 1.8, "the answer waited for the one that never comes"
    assert stage.seen(s.CollectivesLooked, rank=1) == []


def test_a_dump_that_was_begun_may_be_finished(stage: Stage) -> None:
    stage.spec(stage.script(DUMPS))
    stage.launch()
    stage.start_world(1)
    until(lambda: stage.output(rank=0) != "", "no dump was begun")
    rank = stage.pid(0, world=1)
    stage.order(orders.StopWorld(world=1))
    stage.order(orders.LookAt(world=1))
    stage.wait_for(s.ProcessLooked)
    assert is_running(rank), "its dump is not whole"
    (stage.scripts / "enough").touch()
    (exited,) = stage.wait_for(s.RankExited)
    assert (exited.signal, exited.ordered) == (signal.SIGKILL, True)
    assert stage.rank_file("fr_0", rank=0).read_bytes() == b"\x80\x02}."
