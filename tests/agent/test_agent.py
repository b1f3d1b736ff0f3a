"""Does an agent keep its word? Real agents, real workers, real faults; only the supervisor is a stand-in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from stage import RUN, Stage, accepts, is_running, kill, until

from jobs.agent import orders, sweep
from monitors import signals as s

SLEEPS = "import time\ntime.sleep(600)\n"
STEPS = """
import os, time
from lastgood.progress import Writer
writer = Writer(os.environ["LASTGOOD_PROGRESS"])
writer.phase("step")
for step in range(1, 100_000):
    writer.row(step, step, 1.0 / step, None, None, None, 0.01)
    time.sleep(0.01)
"""


def test_a_world_starts_ends_and_says_so_once(stage: Stage) -> None:
    stage.spec(
        stage.script("import json, os; print(json.dumps(dict(os.environ)))"),
        ranks_per_node=2,
        env={"COLOUR": "blue", "RANK": "9", "CUDA_VISIBLE_DEVICES": "2,GPU-11"},
    )
    hello = stage.launch()
    assert (hello.run, hello.attempt, hello.node, hello.world, hello.alive) == (RUN, 1, 0, 0, False)
    stage.start_world(1)
    stage.wait_for(s.WorldStopped, world=1)

    assert [(one.rank, one.gpu) for one in stage.seen(s.RankStarted)] == [(0, "2"), (1, "GPU-11")]
    assert len(stage.seen(s.WorldStarted)) == 1
    assert sorted((one.rank, one.code, one.signal, one.ordered) for one in stage.seen(s.RankExited)) == [
        (0, 0, None, False),
        (1, 0, None, False),
    ]
    env = json.loads(stage.output(rank=1))
    assert {name: env[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "COLOUR")} == {
        "RANK": "1",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "COLOUR": "blue",
    }
    assert env["MASTER_PORT"] == str(hello.store.port)
    assert stage.place().left_in_memory() == []

    # The next world has a store of its own; nothing is said twice of the first.
    stage.wait(lambda: bool(stage.supervisor.offers), "a fresh store")
    assert stage.store() != hello.store
    stage.start_world(2)
    stage.wait_for(s.WorldStopped, world=2)
    assert len(stage.seen(s.WorldStopped, world=1)) == 1


def test_a_killed_worker_is_seen_at_once(stage: Stage) -> None:
    stage.spec(stage.script(STEPS), ranks_per_node=3, nodes=2)
    stage.launch(node=1)
    stage.start_world(1, 1)
    waits_s = []
    for rank in (3, 4, 5):
        stage.wait(lambda rank=rank: any(p.step > 3 for p in stage.seen(s.RankProgress, rank=rank)), "steps")
        killed_at = time.time()
        kill(stage.pid(rank, world=1))
        (seen,) = stage.wait_for(s.RankExited, rank=rank)
        assert (seen.code, seen.signal, seen.ordered) == (None, signal.SIGKILL, False)
        assert seen.step > 3
        waits_s.append(seen.at - killed_at)
    assert min(waits_s) < 0.05, waits_s
    stage.wait_for(s.WorldStopped, world=1)


def test_an_exception_is_told(stage: Stage) -> None:
    stage.spec(stage.script("raise RuntimeError('the data is wrong')"), nodes=2)
    stage.launch(node=1)
    stage.start_world(1, 1)
    (seen,) = stage.wait_for(s.RankExited)
    assert (seen.code, seen.failure.kind, seen.failure.message) == (1, "RuntimeError", "the data is wrong")
    assert "train.py" in seen.failure.traceback


def test_a_stopped_worker_and_what_it_started_are_ended(stage: Stage) -> None:
    """Neither can act: the worker is stopped, and its grandchild has a session of its own."""
    stage.spec(
        stage.script(
            "import subprocess, time\n"
            "print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid, flush=True)\n"
            "time.sleep(600)\n"
        ),
        nodes=2,
    )
    stage.launch(node=1)
    stage.start_world(1, 1)
    worker = stage.pid(1, world=1)
    until(lambda: stage.output(rank=1, node=1).endswith("\n"), "no grandchild")
    grandchild = int(stage.output(rank=1, node=1))
    os.kill(worker, signal.SIGSTOP)

    ordered_at = time.time()
    stage.order(orders.StopWorld(world=1), 1)
    (stopped,) = stage.wait_for(s.WorldStopped, world=1)
    assert stopped.at - ordered_at < 1.0
    assert not is_running(worker)
    assert not is_running(grandchild)
    (exited,) = stage.seen(s.RankExited)
    assert (exited.signal, exited.ordered) == (signal.SIGKILL, True)


def test_grace_lets_a_stopped_worker_finish(stage: Stage) -> None:
    stage.spec(
        stage.script(
            "import signal, sys, time\n"
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
            "print('ready', flush=True)\n"
            "time.sleep(600)\n"
        ),
        nodes=2,
    )
    stage.launch(node=1)
    stage.start_world(1, 1)
    until(lambda: stage.output(rank=1, node=1) != "", "not ready")
    os.kill(stage.pid(1, world=1), signal.SIGSTOP)
    stage.order(orders.StopWorld(world=1, grace_s=20.0), 1)
    (exited,) = stage.wait_for(s.RankExited)
    assert (exited.code, exited.ordered) == (7, True)


def test_grace_runs_out(stage: Stage) -> None:
    stage.spec(
        stage.script(
            "import signal, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "print('ready', flush=True)\n"
            "while True: time.sleep(600)\n"
        ),
        nodes=2,
    )
    stage.launch(node=1)
    stage.start_world(1, 1)
    until(lambda: stage.output(rank=1, node=1) != "", "not ready")
    stage.order(orders.StopWorld(world=1, grace_s=0.3), 1)
    (exited,) = stage.wait_for(s.RankExited)
    assert (exited.signal, exited.ordered) == (signal.SIGKILL, True)


def test_orders_are_safe_to_hear_twice(stage: Stage) -> None:
    stage.spec(stage.script(SLEEPS), nodes=2)
    stage.launch(node=1)
    stage.start_world(2, 1)
    stage.wait_for(s.WorldStarted, world=2)
    stage.start_world(2, 1)
    stage.start_world(1, 1)
    stage.wait_for(s.WorldStarted, 2, world=2)
    assert len(stage.seen(s.RankStarted)) == 1

    # A newer world waits until the older one is gone.
    stage.start_world(3, 1)
    stage.wait_for(s.WorldStarted, world=3)
    kinds = [type(heard.signal).__name__ for heard in stage.supervisor.reports.values()]
    assert kinds.index("WorldStopped") < len(kinds) - 1 - kinds[::-1].index("RankStarted")
    assert not is_running(stage.pid(1, world=2))

    # What never began has stopped too, and does not begin later.
    for _ in range(2):
        stage.order(orders.StopWorld(world=4), 1)
    stage.wait_for(s.WorldStopped, world=4)
    stage.start_world(4, 1)
    stage.start_world(5, 1)
    stage.wait_for(s.WorldStarted, world=5)
    assert [one.world for one in stage.seen(s.WorldStopped)] == [2, 3, 4]
    assert stage.seen(s.RankStarted, world=4) == []


def test_a_killed_agent_leaves_no_worker_and_the_next_one_cleans_up(stage: Stage) -> None:
    stage.spec(
        stage.script(
            "import subprocess, time\n"
            "print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid, flush=True)\n"
            "time.sleep(600)\n"
        ),
        nodes=2,
        ranks_per_node=2,
    )
    stage.launch(node=1)
    stage.start_world(1, 1)
    workers = [stage.pid(rank, world=1) for rank in (2, 3)]
    until(lambda: all(stage.output(rank, node=1).endswith("\n") for rank in (2, 3)), "no grandchildren")
    kill(stage.agents[1].pid)
    stage.agents[1].wait()
    until(lambda: not any(map(is_running, workers)), "workers live")

    of_older = stage.place(1).progress_file(world=1, rank=2)
    assert of_older in stage.place(1).left_in_memory()
    assert len(replace(stage.place(1), attempt=2).left_in_memory()) == 2, "the next attempt cleans up as well"
    hello = stage.launch(node=1)
    assert (hello.world, hello.alive) == (0, False)
    assert not any(is_running(int(stage.output(rank, node=1))) for rank in (2, 3))
    assert stage.place(1).left_in_memory() == []


def test_the_link_breaks_and_nothing_is_lost(stage: Stage) -> None:
    stage.spec(stage.script(STEPS))
    stage.launch()
    stage.start_world(1)
    stage.wait_for(s.StepReported, 20)
    for _ in range(2):
        stage.supervisor.down()
        before = len(stage.seen(s.StepReported))
        time.sleep(1.0)  # the cut itself, not a wait for something
        assert len(stage.seen(s.StepReported)) == before
        stage.supervisor.up()
        stage.wait_for(s.StepReported, before + 100)
    hello = stage.supervisor.hellos[-1]
    assert (hello.world, hello.alive) == (1, True)
    assert list(hello.ranks) == stage.seen(s.RankStarted), "a supervisor that was started anew knows of no rank"

    rows = stage.seen(s.StepReported)
    assert [row.step for row in rows] == list(range(1, len(rows) + 1))
    assert stage.supervisor.heard_again == []
    gaps_s = [after.at - before.at for before, after in pairwise(rows)]
    assert max(gaps_s) < 0.5, "training paused"
    for kind in (s.RankStarted, s.WorldStarted):
        assert len(stage.seen(kind)) == 1


def test_leave_tells_the_end_before_it_goes(stage: Stage) -> None:
    stage.spec(stage.script(SLEEPS))
    stage.launch()
    stage.start_world(1)
    stage.wait_for(s.WorldStarted)
    stage.order(orders.Leave(grace_s=5.0))
    assert stage.agents[0].wait(20) == 0
    assert [(one.world) for one in stage.seen(s.WorldStopped)] == [1]
    until(lambda: not accepts(stage.store()), "the store outlives the agent")  # the kernel ends it, a moment later


def test_sigterm_is_leave(stage: Stage) -> None:
    stage.spec(stage.script(SLEEPS), nodes=2)
    stage.launch(node=1)
    stage.start_world(1, 1)
    worker = stage.pid(1, world=1)
    stage.agents[1].terminate()
    assert stage.agents[1].wait(20) == 0
    assert not is_running(worker)
    assert sweep.find(sweep.Marks(mark=stage.place().mark, node=1)) == []


def test_a_second_agent_ends_at_once(stage: Stage) -> None:
    stage.spec(stage.script(SLEEPS), nodes=2)
    stage.launch(node=1)
    first = stage.agents[1]
    assert stage.start(node=1).wait(10) == 0
    assert first.poll() is None
    record = json.loads((stage.place(1).folder / "agent.json").read_text())
    assert (record["pid"], record["home"]) == (first.pid, str(stage.home))


def test_a_worker_that_cannot_start_says_why(stage: Stage) -> None:
    stage.spec("train.py", workdir=str(stage.scripts / "nowhere"), ranks_per_node=2, nodes=2)
    stage.launch(node=1)
    stage.start_world(1, 1)
    stage.wait_for(s.WorldStopped, world=1)
    exits = stage.seen(s.RankExited)
    assert [one.rank for one in exits] == [2, 3]
    assert all(one.failure.kind == "FileNotFoundError" and "nowhere" in one.failure.message for one in exits)
    assert stage.seen(s.WorldStarted) == []


def test_a_store_that_was_not_offered_is_refused(stage: Stage) -> None:
    stage.spec(stage.script(SLEEPS))
    stage.launch()
    store = orders.Store(host="127.0.0.1", port=1)
    stage.order(orders.StartWorld(world=1, store=store, candidates=(), skips=()))
    (exited,) = stage.wait_for(s.RankExited)
    assert "not the one that was offered" in exited.failure.message
    stage.wait_for(s.WorldStopped, world=1)


def test_a_lost_store_ends_its_world(stage: Stage) -> None:
    stage.spec(stage.script(SLEEPS))
    stage.launch()
    stage.start_world(1)
    stage.wait_for(s.WorldStarted, world=1)
    stage.wait(lambda: bool(stage.supervisor.offers), "a fresh store")
    until(lambda: _stores(stage.agents[0].pid) != [], "no store")
    kill(_stores(stage.agents[0].pid)[0])
    (exited,) = stage.wait_for(s.RankExited)
    assert (exited.failure.kind, exited.ordered) == ("lastgood.StoreLost", False)
    assert [b.sense for b in stage.seen(s.Blind) if b.why] == ["store"], stage.seen(s.Blind)
    stage.wait_for(s.WorldStopped, world=1)
    stage.start_world(2)
    stage.wait_for(s.WorldStarted, world=2)


def _stores(agent: int) -> list[int]:
    found = subprocess.run(["ps", "--ppid", str(agent), "-o", "pid=,comm="], capture_output=True, text=True, check=True)
    return [int(line.split()[0]) for line in found.stdout.splitlines() if "lastgood-store" in line]


def test_drills_are_injected_once(stage: Stage) -> None:
    stage.spec(stage.script(STEPS), ranks_per_node=2, nodes=2)
    stage.launch(node=1)
    stage.start_world(1, 1)
    stage.wait_for(s.WorldStarted)
    stage.order(orders.Inject(world=1, drill="nan", rank=2, number=1), 1)
    drill = stage.rank_file("drill.json", rank=2, node=1)
    until(drill.exists, "no drill")
    assert json.loads(drill.read_text()) == {"number": 1, "drill": "nan"}
    drill.unlink()
    for _ in range(2):
        stage.order(orders.Inject(world=1, drill="nan", rank=2, number=1), 1)
        stage.order(orders.Inject(world=1, drill="kill", rank=3, number=2), 1)
        stage.order(orders.Inject(world=1, drill="stop", rank=2, number=3), 1)
    stage.wait_for(s.RankExited, rank=3)
    assert sorted((one.drill, one.rank) for one in stage.wait_for(s.DrillDone, 2)) == [("kill", 3), ("stop", 2)]
    until(lambda: _state(stage.pid(2, world=1)) == "T", "not stopped")
    assert not drill.exists()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_look_shows_the_stack_of_a_rank_that_spins(stage: Stage) -> None:
    script = "def spin():\n    print('here', flush=True)\n    while True:\n        pass\nspin()\n"
    stage.spec(stage.script(script), nodes=2)
    stage.launch(node=1)
    stage.start_world(1, 1)
    until(lambda: stage.output(rank=1, node=1) != "", "not there")
    stage.order(orders.LookAt(world=1), 1)
    stage.wait(lambda: any(seen.stack for seen in stage.seen(s.ProcessLooked)), "a stack")
    seen = stage.seen(s.ProcessLooked)[-1]
    assert seen.state == "R"
    assert "train.py" in seen.stack[-1]
    assert seen.stack[-1].endswith("in spin")


def test_an_unmodified_program_is_read_from_its_output(stage: Stage) -> None:
    stage.spec(
        ("sh", "-c", 'for i in 1 2 3; do echo "it $i | loss 0.$i"; sleep 0.1; done; exec sleep 600'),
        python=False,
        nodes=2,
        progress={"pattern": r"it (?P<step>\d+) \| loss (?P<loss>\S+)"},
    )
    stage.launch(node=1)
    stage.start_world(1, 1)
    rows = stage.wait_for(s.StepReported, 3)
    assert [(row.step, row.loss) for row in rows] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert stage.wait_for(s.RankProgress, step=3)[0].phase is s.Phase.STEP
    stage.wait(lambda: _stood_still_s(stage.seen(s.RankProgress)[-1]) > 1.5, "end of movement")


def _stood_still_s(seen: s.RankProgress) -> float:
    return seen.at - seen.moved_at


def test_an_agent_starts_fast() -> None:
    """0.25 s alone on the machine; measured in CPU time, which other work does not stretch much."""
    script = (
        "import jobs.agent.__main__, resource, sys\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(used.ru_utime + used.ru_stime, 'torch' in sys.modules)\n"
    )
    argv = [sys.executable, "-P", "-c", script]
    runs = [subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split() for _ in range(2)]
    assert min(float(cpu_s) for cpu_s, _ in runs) < 0.5, runs
    assert {torch for _, torch in runs} == {"False"}
