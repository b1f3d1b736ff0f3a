"""Who writes a checkpoint while the ranks train, or are dead? One process a node, from the copies in its memory.

`python -P -m lastgood.saver`, started by the agent or forked from its zygote; standard output is a socket of whole
messages. It says `{"ready": true}` and then answers each order, one at a time,

    {"folder", "run", "attempt", "world", "node", "nodes", "step", "data_index", "saved_at", "stall_s", "paths": [...]}

(`paths`: a copy of that step for each rank of the node, in their order) with what became of it:

    {"world", "step", "committed": its note | null, "failure": {"rank": the node, "why", "errno"} | null, "replaced"}

It changes nothing in a copy. Other nodes' savers are met in the checkpoint folder (`meeting.py`).
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lastgood import background, shown, worker
from lastgood.commit import Commit, Outcome, Part, Save, side_by_side
from lastgood.copies import Copy
from lastgood.drafts import DraftPlanner
from lastgood.files import Files
from lastgood.manifest import Name
from lastgood.meeting import Meeting

ORDER_BYTES = 1 << 16
NICENESS = 5
"""behind the ranks, which may need every core; at the lowest one, saves of a training on the CPU took minutes"""


def main() -> None:
    """Obey until the agent is gone."""
    worker.die_with_agent(os.environ)
    background.step_back(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = worker.taken_channel()
    shown.show_name("lastgood-saver")
    channel.send(json.dumps({"ready": True}).encode())
    while message := channel.recv(ORDER_BYTES):
        order = json.loads(message)
        answer = {"world": order["world"], "step": order["step"], **asdict(save(order, Files()))}
        channel.send(json.dumps(answer).encode())


def save(order: Mapping[str, Any], files: Files) -> Outcome:
    """Make this node's part of a checkpoint."""
    name = Name(step=order["step"], attempt=order["attempt"], world=order["world"])
    folder = os.path.abspath(order["folder"])
    meeting = Meeting(folder, name, node=order["node"], nodes=order["nodes"])
    wanted = Save(
        folder=folder,
        run=order["run"],
        name=name,
        data_index=order["data_index"],
        saved_at=order["saved_at"],
        stall_s=order["stall_s"],
    )
    try:
        paths = order["paths"]
        return Commit(wanted, lambda: side_by_side(lambda path: _part(path, wanted), paths), meeting, files).run()
    finally:
        meeting.leave()


def _part(path: str, save: Save) -> Part:
    """What a copy holds, once it is known to be sound. Raises CopyDamaged, OSError and ValueError."""
    copy = Copy(path)
    planner = DraftPlanner(copy)
    facts = copy.facts()
    if facts is None or (facts.world, facts.step) != (save.name.world, save.name.step):
        raise ValueError(f"{path} holds another copy than that of step {save.name.step}: {facts}")
    return Part(plan=planner.local_plan, planner=planner)


if __name__ == "__main__":
    main()
