"""Nodes that nobody hears."""

from __future__ import annotations

from monitors.detect.unseen import Unseen, UnseenConfig
from monitors.incidents import Kind
from monitors.signals import NodeSeen, WorldStopped


def seen(node: int, at: float) -> NodeSeen:
    return NodeSeen(at=at, node=node, world=1)


def test_each_silence_is_told_once() -> None:
    unseen = Unseen(UnseenConfig(silence_s=30), nodes=2)
    assert unseen.deadline is None
    unseen.world_began(1, 100.0)
    assert unseen.deadline == 130.0
    unseen.see(seen(0, 120.0))
    assert unseen.silent(129.9) == []
    (incident,) = unseen.silent(131.0)
    assert (incident.kind, incident.subject.node, incident.onset) == (Kind.NODE_UNSEEN, 1, 100.0)
    assert unseen.silent(131.0) == []
    assert unseen.deadline == 150.0
    unseen.see(seen(1, 140.0))
    unseen.see(seen(0, 141.0))
    assert [i.subject.node for i in unseen.silent(180.0)] == [1, 0]


def test_a_node_whose_world_is_over_owes_no_sign_of_life() -> None:
    unseen = Unseen(UnseenConfig(silence_s=30), nodes=1)
    unseen.world_began(1, 0.0)
    unseen.see(WorldStopped(at=5.0, node=0, world=1))
    unseen.see(seen(0, 6.0))
    assert unseen.deadline is None
    assert unseen.silent(999.0) == []
    unseen.world_began(2, 1000.0)
    assert unseen.deadline == 1030.0
