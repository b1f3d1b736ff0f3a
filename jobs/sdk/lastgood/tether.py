"""Who hears that a process ends before the kernel has taken its memory down?

A pidfd speaks when a process is gone, its peers hear of it when its files are closed, and both come after its memory:
half a second for each gigabyte of small pages. What the kernel looks at first are the robust locks that a thread holds
(get_robust_list(2)). So the main thread of a rank holds one for life, in a page that it shares with its agent: the
kernel marks it within milliseconds, however large the process is.

The lock is a mutex of the C library; its first word is what futex(2) describes:

    0                      nobody holds it yet
    thread id | WAITERS    the rank lives
    ... | OWNER_DIED       its main thread has begun to end, or became another program
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
from collections.abc import MutableMapping

VARIABLE = "LASTGOOD_TETHER"
"""descriptor of the page, in the environment of a process that is to hold it"""
WAITERS, OWNER_DIED = 1 << 31, 1 << 30  # linux/futex.h
_WAIT, _WAKE = 0, 1
_MUTEX_BYTES = 64
"""glibc's takes 40 (x86-64) or 48 (aarch64)"""
_SHARED, _ROBUST = 1, 1
_SYSCALL = {"x86_64": 202, "aarch64": 98, "ppc64le": 221, "s390x": 238, "riscv64": 98}.get(platform.machine())

_libc = ctypes.CDLL(None, use_errno=True)
_held: list[mmap.mmap] = []
"""never unmapped: the C library's list of locks runs through it"""


def hold(env: MutableMapping[str, str]) -> None:
    """Hold the page that the environment names from now on, with this thread; without one, nothing."""
    descriptor = env.pop(VARIABLE, None)
    if descriptor is None:
        return
    memory = mmap.mmap(int(descriptor), mmap.PAGESIZE)
    os.close(int(descriptor))
    mutex = (ctypes.c_char * _MUTEX_BYTES).from_buffer(memory)
    kind = ctypes.create_string_buffer(_MUTEX_BYTES)
    _libc.pthread_mutexattr_init(kind)
    _libc.pthread_mutexattr_setpshared(kind, _SHARED)
    _libc.pthread_mutexattr_setrobust(kind, _ROBUST)
    if _libc.pthread_mutex_init(mutex, kind) == 0 and _libc.pthread_mutex_lock(mutex) == 0:
        _held.append(memory)
        word = word_of(memory)
        word.value |= WAITERS  # the kernel wakes nobody where this is not set, and whoever waits writes nothing
        wake(word)


def word_of(memory: mmap.mmap) -> ctypes.c_uint32:
    """The word that tells."""
    return ctypes.c_uint32.from_buffer(memory)


def wait_while(word: ctypes.c_uint32, value: int) -> bool:
    """Sleep as long as the word has this value, or a little less; False where this kernel has no such sleep."""
    if _SYSCALL is None:
        return False
    ended = _libc.syscall(_SYSCALL, ctypes.byref(word), _WAIT, ctypes.c_uint32(value), None)
    return ended == 0 or ctypes.get_errno() in (errno.EAGAIN, errno.EINTR)


def wake(word: ctypes.c_uint32) -> None:
    """Whoever sleeps looks at the word again."""
    if _SYSCALL is not None:
        _libc.syscall(_SYSCALL, ctypes.byref(word), _WAKE, 1)
