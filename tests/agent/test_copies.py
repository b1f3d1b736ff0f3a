"""Is what ranks left in memory there for the next agent, and gone when nobody needs it? Real agents, real keepers."""

from __future__ import annotations

import os
import socket
import struct

from stage import RUN, Stage, kill, until

from jobs.agent import orders
from jobs.agent.copies import OWN
from jobs.keeper import door
from monitors import signals as s

LEAVES = """
import json, os, sys
path = json.loads(os.environ["LASTGOOD_MEMORY"])["paths"][0]
with open(path, "rb+") as file:
    print("found", file.read().decode(), flush=True)
    file.seek(0)
    file.write(b"what world " + os.environ["LASTGOOD_WORLD"].encode() + b" left")
"""
ON = {"memory_every_steps": 1}


def keeper(stage: Stage) -> int:
    """Its process."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(f"\0{door.name(stage.home, RUN, 0)}")
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", raw)[0])


def left_to(stage: Stage, world: int) -> str:
    """What a world finds in its memory."""
    store = stage.supervisor.hellos[-1].store
    assert store is not None
    stage.order(orders.StartWorld(world=world, store=store, candidates=(), skips=()))
    stage.wait_for(s.WorldStopped, world=world)
    return stage.output(rank=0, world=world).strip()


def test_the_next_agent_finds_what_ranks_left(stage: Stage) -> None:
    stage.spec(stage.script(LEAVES), checkpoint=ON)
    (first,) = stage.launch().keepers
    assert left_to(stage, 1) == "found"
    stage.agents[0].kill()
    stage.agents[0].wait()
    (second,) = stage.launch().keepers
    assert (second.node, second.port) == (0, first.port)
    assert left_to(stage, 2) == "found what world 1 left"


def test_files_outlive_their_keeper_and_get_another_one(stage: Stage) -> None:
    stage.spec(stage.script(LEAVES), checkpoint=ON)
    (first,) = stage.launch().keepers
    assert left_to(stage, 1) == "found"
    kill(keeper(stage))
    (lost,) = stage.wait_for(s.Blind, sense=OWN)
    assert lost.why.endswith("copies in memory end with this agent")
    stage.wait(lambda: len(stage.seen(s.Blind, sense=OWN)) == 2, "another keeper")
    assert stage.seen(s.Blind, sense=OWN)[1].why == ""
    stage.wait(lambda: stage.supervisor.hellos[-1].keepers[0].port != first.port, "a hello that says where it is")
    assert left_to(stage, 2) == "found what world 1 left"
    stage.agents[0].kill()
    stage.agents[0].wait()
    stage.launch()
    assert left_to(stage, 3) == "found what world 2 left"


def test_a_keeper_stays_for_another_attempt_and_goes_with_the_run(stage: Stage) -> None:
    stage.spec(stage.script(LEAVES), checkpoint=ON)
    stage.launch()
    pid = keeper(stage)
    stage.order(orders.Leave(relaunch=True))
    assert stage.agents[0].wait(20) == 0
    os.kill(pid, 0)
    stage.launch()
    assert keeper(stage) == pid
    stage.order(orders.Leave())
    assert stage.agents[0].wait(20) == 0
    until(lambda: door.nodes_here(stage.home, RUN) == [], "no keeper")


def test_copies_come_from_another_node_before_the_ranks_begin_and_are_not_waited_for_in_vain(stage: Stage) -> None:
    stage.spec(stage.script(LEAVES), checkpoint=ON)
    stage.launch()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    source = orders.Source(rank=0, host="127.0.0.1", port=port)
    stage.order(orders.StartWorld(world=1, store=stage.store(), candidates=(), skips=(), fetch=(source,)))
    stage.wait_for(s.WorldStopped, world=1)
    assert stage.output(rank=0).strip() == "found"
    assert "could not be fetched" in stage.log()


def test_where_no_copies_are_made_nobody_keeps_any(stage: Stage) -> None:
    stage.spec(stage.script("pass"))
    assert stage.launch().keepers == ()
    assert door.nodes_here(stage.home, RUN) == []
