"""What does /proc show of a process that was not started as what it is? Its name, and the world that it entered.

The agent finds what a rank's children left behind by it. The kernel shows the memory that the process was started with,
which a changed environment does not touch; so a number is written over the one that stands there.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

WORLD = b"LASTGOOD_WORLD="
PR_SET_NAME = 15  # linux/prctl.h


def show_name(name: str) -> None:
    """As what `ps` and `top` show this process, in up to 15 bytes: a fork has the command line of what it came from."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def show_world(world: bytes) -> bool:
    """Show this world from now on; False where there is no room for its number, since nobody left any."""
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    start, end = int(fields[47]), int(fields[48])  # fields 50 and 51 of proc(5), counted from the third
    shown = ctypes.string_at(start, end - start)
    at = shown.find(WORLD)
    if at < 0:
        return False
    at += len(WORLD)
    room = _room(shown, at)
    if room < len(world):
        return False
    ctypes.memmove(start + at, world.ljust(room, b"\0"), room)
    return True


def _room(shown: bytes, at: int) -> int:
    """Up to the last of the zeros after the value: those of a shorter number that was written there before."""
    end = shown.index(b"\0", at)
    while shown[end + 1 : end + 2] == b"\0":
        end += 1
    return end - at
