"""Do all agents of a run hear the same, however often and however late they are told?"""

from __future__ import annotations

import json
from pathlib import Path

from jobs.agent import orders as o
from monitors.detect.probes import ProbeWanted
from orchestrator.agents import ConnectedAgents
from orchestrator.core import actions

STOP = actions.StopAfterStep(attempt=1, world=3)


class Lines(list[bytes]):
    """What one agent was sent."""

    @property
    def last_steps(self) -> list[int]:
        """Of the orders to stop."""
        return [body["step"] for line in self if (body := json.loads(line))["is"] == "StopAfter"]


def agents(folder: Path, step: int) -> ConnectedAgents:
    """Those of a supervisor that heard of this step."""
    return ConnectedAgents(folder, "/c", pace=lambda: (step, 0.5 if step else None), step_of=lambda _: 0)


def joined(port: ConnectedAgents, node: int) -> Lines:
    """A node dials."""
    lines = Lines()
    hello = o.Hello(token="", run="one", attempt=1, node=node, host="", pid=1, started_at=0.0, world=3, alive=True)
    port.connect(hello, lines.append, 0.0)
    return lines


def test_every_rank_stops_after_the_same_step(tmp_path: Path) -> None:
    port = agents(tmp_path, 100)
    first = joined(port, 0)
    port.stop_after_step(STOP)
    (chosen,) = first.last_steps
    assert chosen > 100

    again = agents(tmp_path, 0)  # a new supervisor, which has heard nothing yet
    again.stop_after_step(STOP)
    late = [joined(again, 0), joined(again, 1)]
    again.stop_after_step(STOP)
    assert [lines.last_steps for lines in late] == [[chosen], [chosen]]


def test_a_step_is_chosen_only_when_somebody_hears_it(tmp_path: Path) -> None:
    agents(tmp_path, 0).stop_after_step(STOP)
    port = agents(tmp_path, 40)
    lines = joined(port, 0)
    port.stop_after_step(STOP)
    assert lines.last_steps == [47]


def test_what_cannot_be_noted_is_not_ordered(tmp_path: Path) -> None:
    (tmp_path / "001").touch()  # where the folder of the attempt should be: a disk that takes nothing says the same
    port = agents(tmp_path, 40)
    lines = joined(port, 0)
    port.offered(o.Store(host="h", port=1))
    start = actions.StartWorld(attempt=1, world=3, candidates=(), skips=())
    port.start_world(start)
    port.stop_after_step(STOP)
    assert lines == []
    (tmp_path / "001").unlink()
    port.start_world(start)
    assert json.loads(lines[0])["is"] == "StartWorld", "the offer is still there"


def test_the_interval_between_saves_goes_with_the_order_to_start_and_may_change_later(tmp_path: Path) -> None:
    port = agents(tmp_path, 40)
    lines = joined(port, 0)
    port.offered(o.Store(host="h", port=1))
    port.start_world(actions.StartWorld(attempt=1, world=4, candidates=(), skips=(), save_every=10))
    for _ in range(2):
        port.save_every(actions.SaveEvery(attempt=1, world=4, steps=120, why="it is worth it"))
    start, *told = [json.loads(line) for line in lines]
    assert (start["is"], start["save_every"]) == ("StartWorld", 10)
    assert told == [{"is": "SaveEvery", "world": 4, "steps": 120}] * 2


def test_a_probe_is_ordered_of_the_node_that_has_the_device(tmp_path: Path) -> None:
    port = agents(tmp_path, 40)
    lines = [joined(port, node) for node in range(2)]
    port.probe(ProbeWanted(world=3, node=1, device="GPU-7", about="GPU-3"))
    port.probe(ProbeWanted(world=3, node=5, device=None, about="node 5"))  # is not there: asked again later
    assert [[json.loads(line) for line in each] for each in lines] == [
        [],
        [{"is": "Probe", "world": 3, "device": "GPU-7", "about": "GPU-3"}],
    ]


def kept(node: int, *held: tuple[int, int, int]) -> o.Keeper:
    """The keeper of a node."""
    holds = tuple(o.Kept(rank=rank, world=world, step=step) for rank, world, step in held)
    return o.Keeper(node=node, host=f"h{node}", port=1000 + node, holds=holds)


def greeted(port: ConnectedAgents, node: int, *keepers: o.Keeper) -> list[dict[str, object]]:
    """What a node is sent from its hello on."""
    sent: list[dict[str, object]] = []
    hello = o.Hello(
        token="", run="one", attempt=2, node=node, host=f"h{node}", pid=1, started_at=0.0, world=0, alive=False,
        keepers=keepers,
    )  # fmt: skip
    port.connect(hello, lambda line: sent.append(json.loads(line)), 0.0)
    port.pair()
    return sent


def test_nodes_are_told_where_to_send_copies_once_all_are_there(tmp_path: Path) -> None:
    port = ConnectedAgents(tmp_path, "/c", pace=lambda: (0, None), step_of=lambda _: 0, nodes=3)
    first = greeted(port, 0, kept(0))
    second = greeted(port, 1, kept(1))
    assert first == second == []
    greeted(port, 2)
    assert first == [{"is": "SendCopies", "host": "h1", "port": 1001}]
    assert second == [{"is": "SendCopies", "host": "h0", "port": 1000}], "one node has no keeper"
    port.pair()
    assert len(first) == 1
    greeted(port, 1, o.Keeper(node=1, host="h1", port=7))
    assert first[1:] == [{"is": "SendCopies", "host": "h1", "port": 7}], "another keeper"


def test_copies_are_fetched_before_the_first_world_of_an_attempt_and_no_other(tmp_path: Path) -> None:
    port = ConnectedAgents(tmp_path, "/c", pace=lambda: (0, None), step_of=lambda _: 0, nodes=2)
    nodes = [greeted(port, 0, kept(0, (0, 1, 5), (1, 1, 5))), greeted(port, 1, kept(1))]
    for world in (2, 3):
        port.offered(o.Store(host="h", port=1))
        start = actions.StartWorld(attempt=2, world=world, candidates=(), skips=(), memory_since=1)
        port.start_world(start)
        port.start_world(start)
    fetches = [[body.get("fetch") for body in sent if body["is"] == "StartWorld"] for sent in nodes]
    source = {"rank": 1, "host": "h0", "port": 1000}
    assert [[one or [] for one in each] for each in fetches] == [[[]] * 4, [[source], [source], [], []]]
