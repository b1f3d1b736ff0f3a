"""What is a dashboard's server made of?"""

from __future__ import annotations

from dataclasses import dataclass

from monitors.clock import Clock
from orchestrator.api.desk import Desk
from orchestrator.api.files import Files
from orchestrator.api.guard import Access
from orchestrator.api.live import Live
from orchestrator.api.ranks import Ranks
from orchestrator.api.throttle import Throttle
from orchestrator.api.tokens import Tokens
from orchestrator.home import Home


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Its parts."""

    home: Home
    clock: Clock
    access: Access
    tokens: Tokens
    throttle: Throttle
    desk: Desk
    live: Live
    ranks: Ranks
    files: Files


def made(home: Home, clock: Clock, access: Access) -> Server:
    """All parts of the server of a state folder."""
    desk, ranks = Desk(home, clock), Ranks(home, clock)
    return Server(
        home=home,
        clock=clock,
        access=access,
        tokens=Tokens(home.root),
        throttle=Throttle(),
        desk=desk,
        live=Live(home, clock, desk, ranks),
        ranks=ranks,
        files=Files(),
    )
