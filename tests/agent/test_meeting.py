"""Do the ranks of a world meet, and only they? Real torch, gloo, two agents of two ranks each."""

from __future__ import annotations

import json

from stage import Stage, accepts, until

from jobs.agent import orders
from monitors import signals as s

MEETS = """
import json, os, warnings
warnings.simplefilter("ignore")
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
store = dist.distributed_c10d._get_default_store()
# Nobody of this world sets the key before all have looked for it.
stale = store.check(["left behind"])
dist.barrier()
store.set("left behind", "by world " + os.environ["LASTGOOD_WORLD"])
total = torch.tensor([float(os.environ["RANK"])])
dist.all_reduce(total)
print(json.dumps({"total": total.item(), "stale": stale, "port": os.environ["MASTER_PORT"]}), flush=True)
dist.barrier()
dist.destroy_process_group()
"""


def test_two_agents_of_two_ranks_form_one_world_after_the_other(stage: Stage) -> None:
    stage.spec(stage.script(MEETS), nodes=2, ranks_per_node=2, recovery={"warm": True})
    first = stage.launch(0).store
    stage.launch(1)
    assert first is not None
    ports = []
    for world in (1, 2):
        stage.start_world(world, 0, 1)
        stage.wait_for(s.WorldStopped, 2, world=world)
        assert [one.code for one in stage.seen(s.RankExited, world=world)] == [0, 0, 0, 0], stage.log()
        said = [json.loads(stage.output(rank, world, node=rank // 2)) for rank in range(4)]
        assert [one["total"] for one in said] == [6.0, 6.0, 6.0, 6.0]
        assert not any(one["stale"] for one in said), "a key of another world was read"
        ports.append({one["port"] for one in said})
        stage.wait(lambda world=world: len(stage.supervisor.offers) == world, "a fresh store")
    second, third = stage.supervisor.offers
    assert ports == [{str(first.port)}, {str(second.port)}]

    # The store of a world is closed when the next one begins: until then a slow rank may still read it.
    until(lambda: not accepts(first), "the store of world 1 listens")
    assert accepts(second)
    assert accepts(third)
    stage.order(orders.Leave(), 0, 1)
    assert [stage.agents[node].wait(20) for node in (0, 1)] == [0, 0]
