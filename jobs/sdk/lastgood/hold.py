"""May a copy in memory be overwritten? Not while a saver has still to write it: the rank that made it says so in the
header before its first byte, and the agent takes it back when the save is over. A word for each copy, without torch."""

from __future__ import annotations

import os
import struct

AT = 120
"""in the header of a copy, behind the marks of `header.py`; nothing else of it is written here"""
WORD = struct.Struct("<Q")


def is_held(memory: memoryview | bytes) -> bool:
    """Of a copy that is mapped."""
    return bool(WORD.unpack_from(memory, AT)[0])


def is_held_in(fd: int) -> bool:
    """Of the copy in a file. Raises OSError."""
    return any(os.pread(fd, WORD.size, AT))


def release(path: str) -> None:
    """It may be overwritten from now on. Raises OSError when there is no such file; one without a copy stays empty."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_size >= AT + WORD.size:
            os.pwrite(fd, WORD.pack(0), AT)
    finally:
        os.close(fd)
