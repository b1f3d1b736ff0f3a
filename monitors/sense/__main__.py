"""`python -P -m monitors.sense`: what do the senses of this node see? On stdout, a line for each signal.

With `--json`, in the form of `monitors.wire`, and an empty line now and then as a sign of life; without, for people.
With `--orders`, stdin is read: `Station.obey` says what may come, and the end of it is the end of this process.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import sys
from collections.abc import Callable
from functools import partial

from monitors import wire
from monitors.clock import Clock, SystemClock
from monitors.sense.ending import Ending
from monitors.sense.lifeline import end_with
from monitors.sense.station import Choice, Station, senses
from monitors.signals import Signal

ALIVE_EVERY_S = 5.0
WAIT_MOST_S = 1.0
"""a request to end waits no longer"""


def main() -> int:
    """Look until told to end."""
    args = _arguments()
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if args.parent is not None and not end_with(args.parent):
        return 1
    ending = Ending(signal.SIGINT, signal.SIGTERM)
    choice = Choice(
        node=args.node,
        nvml=args.nvml == "auto",
        kernel=args.kernel,
        overrides=args.overrides,
        host=args.host == "auto",
        paths=tuple(args.path),
    )
    try:
        _serve(choice, ending, as_json=args.json, orders=args.orders)
    except (KeyboardInterrupt, BrokenPipeError):
        # Whoever listened has left; what Python would flush at its end has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -P -m monitors.sense")
    parser.add_argument("--node", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--orders", action="store_true")
    parser.add_argument("--parent", type=int)
    parser.add_argument("--nvml", choices=("auto", "off"), default="auto")
    parser.add_argument("--kernel", default="auto")
    parser.add_argument("--overrides")
    parser.add_argument("--host", choices=("auto", "off"), default="auto")
    parser.add_argument("--path", action="append", default=[])
    return parser.parse_args()


def _serve(choice: Choice, ending: Ending, *, as_json: bool, orders: bool) -> None:
    clock, out = SystemClock(), own_stdout()
    say = _as_json(out) if as_json else _for_people(out)
    station = Station(senses(choice), node=choice.node, clock=clock, tell=say)
    try:
        alive = partial(_write, out, b"\n" * as_json)
        run(station, clock, ending, orders=sys.stdin.fileno() if orders else None, alive=alive)
    finally:
        station.close()


def own_stdout() -> int:
    """Stdout for signals alone: what a library prints goes to stderr from now on."""
    sys.stdout.flush()
    out = os.dup(1)
    os.dup2(2, 1)
    return out


def run(station: Station, clock: Clock, ending: Ending, *, orders: int | None, alive: Callable[[], None]) -> None:
    """Look and obey until asked to end, or `orders` (a file descriptor) ends; `alive`: called every ALIVE_EVERY_S."""
    said_at, rest = float("-inf"), b""
    while not ending.asked:
        wait_s = station.turn()
        if clock.now() - said_at >= ALIVE_EVERY_S:
            said_at = clock.now()
            alive()
        readable, _, _ = select.select([] if orders is None else [orders], [], [], min(wait_s, WAIT_MOST_S))
        if not readable or orders is None:
            continue
        chunk = os.read(orders, 1 << 16)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        for line in filter(None, lines):
            station.obey(line)


def _as_json(out: int) -> Callable[[Signal], None]:
    return lambda seen: _write(out, wire.dumps(seen).encode() + b"\n")


def _for_people(out: int) -> Callable[[Signal], None]:
    from monitors.sense.sentences import sentence

    return lambda seen: _write(out, f"{sentence(seen)}\n".encode())


def _write(out: int, line: bytes) -> None:
    while line:
        line = line[os.write(out, line) :]


if __name__ == "__main__":
    sys.exit(main())
