"""`python -P -m jobs.agent --home HOME --run RUN --attempt N --node K`: what TorchX launches, one a node."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import sys
from pathlib import Path

from jobs.agent.agent import Agent
from jobs.agent.place import Place
from jobs.spec import Spec
from monitors import logbook


def main() -> int:
    """Serve one node of one attempt until it is over; a second agent of the same place ends at once."""
    parser = argparse.ArgumentParser(prog="python -P -m jobs.agent")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--node", type=int, required=True)
    args = parser.parse_args()
    place = Place(home=args.home.absolute(), run=args.run, attempt=args.attempt, node=args.node)
    place.folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(place.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"another agent holds {place.folder}: nothing to do", file=sys.stderr)
        return 0
    where: dict[str, str | int] = {"run": place.run, "attempt": place.attempt, "node": place.node}
    logbook.begin("lastgood-agent", file=place.folder / "agent.log", **where)
    spec = Spec.model_validate_json((place.run_folder / "spec.json").read_bytes())
    asyncio.run(Agent(place, spec).run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
