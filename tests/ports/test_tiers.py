"""Where does each node's copy go, and from where is it brought back?"""

from __future__ import annotations

import pytest

from jobs.agent.orders import Keeper, Kept, Source
from orchestrator.tiers import Site, missing, ring


def sites(*named: str) -> dict[int, Site]:
    """`host` or `host@domain`, by node."""
    parts = [name.partition("@") for name in named]
    return {node: Site(host=host, domain=domain) for node, (host, _, domain) in enumerate(parts)}


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("a", {}),
        ("a b", {0: 1, 1: 0}),
        ("a b c", {0: 1, 1: 2, 2: 0}),
        ("a a", {0: 1, 1: 0}),
        ("a a b b", {0: 2, 1: 3, 2: 0, 3: 1}),
        ("a@x b@x c@y d@y", {0: 2, 1: 3, 2: 0, 3: 1}),
        ("a@x b@x c@x d@x", {0: 1, 1: 2, 2: 3, 3: 0}),
        ("a@x b@y c@x d@y", {0: 1, 1: 2, 2: 3, 3: 0}),
        ("a a b", {0: 2, 1: 2, 2: 0}),
    ],
)
def test_the_ring(named: str, expected: dict[int, int]) -> None:
    assert ring(sites(*named.split())) == expected


def keeper(node: int, *held: tuple[int, int, int]) -> Keeper:
    holds = tuple(Kept(rank=rank, world=world, step=step) for rank, world, step in held)
    return Keeper(node=node, host=f"h{node}", port=node, holds=holds)


def test_a_node_is_brought_what_others_have_of_it_newer() -> None:
    told = {
        0: (keeper(0, (0, 1, 7), (1, 1, 7), (2, 1, 6), (2, 1, 7), (3, 1, 7)),),
        1: (keeper(1, (3, 1, 7)),),
    }
    assert missing(told, 2, 1) == {0: (), 1: (Source(rank=2, host="h0", port=0),)}
    assert missing(told, 2, 2) == {0: (), 1: ()}, "nobody may take these"
    assert missing(told, 2, None) == {}


def test_what_an_older_attempt_left_on_the_host_under_another_number_is_found() -> None:
    told = {0: (keeper(0), keeper(1, (1, 1, 5))), 1: (keeper(1, (0, 1, 5)),)}
    assert missing(told, 1, 1)[0] == (Source(rank=0, host="h1", port=1),)


def test_a_node_without_a_keeper_is_brought_nothing() -> None:
    assert missing({0: (keeper(0, (1, 1, 5)),), 1: ()}, 1, 1) == {0: ()}
