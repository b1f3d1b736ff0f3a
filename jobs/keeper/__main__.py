"""`python -P -m jobs.keeper --home HOME --run RUN --node K --host HOST`: keeps a node's copies in memory.

It ends when the run is over, or when no agent has been there for a while; it carries no mark, so that whatever ends an
attempt leaves it alone.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from jobs.keeper import door
from jobs.keeper.keeper import Keeper
from monitors import logbook
from monitors.clock import SystemClock

ALONE_S = 600.0
"""a new attempt is launched within this, or not at once: memory is given back"""
LOOK_EVERY_S = 1.0
BACKLOG = 64

log = logging.getLogger(__name__)


def main() -> int:
    """Serve until it is over; 0 at once when the place has a keeper already."""
    parser = argparse.ArgumentParser(prog="python -P -m jobs.keeper")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--node", type=int, required=True)
    parser.add_argument("--host", required=True, help="under which other nodes reach it; 127.0.0.1: there are none")
    parser.add_argument("--alone-s", type=float, default=ALONE_S)
    args = parser.parse_args()
    logbook.begin("lastgood-keeper", run=args.run, node=args.node)
    try:
        local = door.listener(door.name(args.home, args.run, args.node))
    except OSError as error:
        print(f"no keeper is needed here: {error}", file=sys.stderr)
        return 0
    keeper = Keeper(args.home, args.run, SystemClock())
    remote = socket.create_server(("127.0.0.1" if args.host == "127.0.0.1" else "", 0), backlog=BACKLOG)
    keeper.where = args.host, remote.getsockname()[1]
    _accepting(local, lambda connection: keeper.serve(connection) if door.is_ours(connection) else connection.close())
    _accepting(remote, keeper.admit)
    log.info("keeps node %d of %s, listens at %s:%d", args.node, args.run, *keeper.where)
    while not keeper.leaving.wait(min(LOOK_EVERY_S, args.alone_s / 4)) and keeper.alone_s() < args.alone_s:
        pass
    log.info("ends: %s", "the run is over" if keeper.leaving.is_set() else "no agent came")
    logging.shutdown()
    os._exit(0)  # threads wait in calls that nothing ends


def _accepting(server: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    """A thread for each connection."""

    def accept() -> None:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
