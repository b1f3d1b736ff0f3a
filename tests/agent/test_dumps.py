"""Does an agent tell what flight recorders left by themselves when a rank fails of a time-out, and nothing else?"""

from __future__ import annotations

import signal

from stage import Stage, is_running, kill, until

from jobs.agent import orders
from monitors import signals as s
from monitors.detect.collectives import blocked

WATCHDOG = """
import os, pickle, time
rank = int(os.environ["RANK"])
entry = {"record_id": 1, "process_group": ("0", "default_pg"), "collective_seq_id": 1, "state": "started"}
body = pickle.dumps({"version": "2.10", "entries": [entry | {"profiling_name": "nccl:all_reduce"}]}, 2)
with open(os.environ["TORCH_FR_DUMP_TEMP_FILE"] + str(rank), "wb", buffering=0) as dump:
    if rank == 0:
        dump.write(body)
        while not os.path.exists("begun"):
            time.sleep(0.01)
        os.abort()
    dump.write(body[:-1])
    open("begun", "w").close()
    while not os.path.exists("enough"):
        time.sleep(0.01)
    dump.write(body[-1:])
time.sleep(600)
"""
"""As NCCL does: every rank writes down where it stands, then the first whose time is up ends itself."""
GLOO = """
import datetime, os, time
import torch, torch.distributed as dist
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=3))
dist.all_reduce(torch.ones(4))
print("up", flush=True)
if os.environ["RANK"] == "1":
    time.sleep(600)
dist.all_reduce(torch.ones(4))
"""


def test_dumps_that_are_there_are_told_and_one_that_was_begun_is_waited_for(stage: Stage) -> None:
    stage.spec(stage.script(WATCHDOG), ranks_per_node=2)
    stage.launch()
    stage.start_world(1)
    (exited,) = stage.wait_for(s.RankExited)
    assert (exited.rank, exited.signal, exited.recording) == (0, signal.SIGABRT, (0, 1))
    (first,) = stage.wait_for(s.CollectivesLooked, rank=0)
    assert (first.groups[0].enqueued, first.groups[0].completed) == (1, 0)
    assert first.at <= exited.at, "as old as the dump"
    assert stage.seen(s.CollectivesLooked, rank=1) == []
    (stage.scripts / "enough").touch()
    (second,) = stage.wait_for(s.CollectivesLooked, rank=1)
    assert second.groups == first.groups
    assert is_running(stage.pid(1, world=1))
    stage.order(orders.StopWorld(world=1))
    stage.wait_for(s.WorldStopped)
    assert len(stage.seen(s.CollectivesLooked)) == 2, "each is told once"


def test_a_dump_whose_rank_dies_over_it_is_told_as_unreadable_before_the_world_is_over(stage: Stage) -> None:
    stage.spec(stage.script(WATCHDOG), ranks_per_node=2)
    stage.launch()
    stage.start_world(1)
    stage.wait_for(s.CollectivesLooked, rank=0)
    kill(stage.pid(1, world=1))
    stage.wait_for(s.WorldStopped)
    (mute,) = stage.seen(s.CollectivesLooked, rank=1)
    assert (mute.groups, len(mute.said)) == ((), 1)


def test_what_gloos_victim_leaves_and_the_living_answer_name_whom_it_waited_for(stage: Stage) -> None:
    stage.spec(stage.script(GLOO), ranks_per_node=2)
    stage.launch()
    stage.start_world(1)
    (exited,) = stage.wait_for(s.RankExited)
    assert (exited.rank, exited.code, exited.recording) == (0, 1, (0,))
    stage.order(orders.LookAt(world=1, ranks=(1,)))
    looks = {rank: stage.wait_for(s.CollectivesLooked, rank=rank)[0] for rank in (0, 1)}
    found = blocked(looks, (0, 1))
    assert found is not None
    assert found.rank == 1


def test_a_rank_that_is_killed_or_raises_leaves_nothing_to_read(stage: Stage) -> None:
    stage.spec(stage.script("import os, time\nif os.environ['RANK'] == '0': 1 / 0\ntime.sleep(600)"), ranks_per_node=2)
    stage.launch()
    stage.start_world(1)
    (raised,) = stage.wait_for(s.RankExited, rank=0)
    kill(stage.pid(1, world=1))
    (killed,) = stage.wait_for(s.RankExited, rank=1)
    assert (raised.recording, killed.recording) == ((), ())
    stage.wait_for(s.WorldStopped)
    assert stage.seen(s.CollectivesLooked) == []
    until(lambda: not stage.rank_file("last.json", rank=0).exists(), "what no time-out asks for was written")
