"""Who can become a rank in milliseconds? A process that has imported everything, and forks itself when asked.

`python -P -m lastgood.zygote FD -- ARGV...`, started by the agent; FD is a socket of whole messages. It has no thread
and never touches a GPU: only then is a fork as good as a new process. It says

    {"ready": true, "took_s": 2.1, "modules": 1830}          or  {"ready": false, "why": "..."} and ends

and then answers each request, which comes with the files for stdout and stderr and a page to hold (`tether.py`), and
may bring the rank's end of a socket to the agent (`survivor.py`),

    {"argv": [...], "env": {...}, "cwd": "...", "agent": PID}   with   {"pid": 4711}   or   {"why": "..."}

A request with `"spare": {"device": LOCAL_RANK | null}` is for a process that nobody needs yet: it does what a rank does
slowly at first (its own pages, its device), in the background, and waits at its socket for the world that it will be a
rank of. Both, zygote and spare, learn meanwhile what DTensor works out slowly (`lessons.py`).

The rank is forked twice, so that it becomes the agent's own child (who has made itself a subreaper meanwhile): the
agent hears of its end as of any other's, and the zygote may die without any rank.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lastgood import background, imports, shown, survivor, tether, worker
from lastgood.lessons import Lessons

REQUEST_BYTES = 1 << 18
"""an environment and a command line; the kernel allows 2 MiB, a sane one has 10 KiB"""
ADOPTED_WITHIN_S = 5.0


def main(words: list[str]) -> None:
    """Prepare, then fork on request. Returns only in a forked rank, when its program has ended well."""
    worker.die_with_agent(os.environ)
    channel = socket.socket(fileno=int(words[0]))
    began = time.monotonic()
    with _uncollected():
        why = imports.prepare(words[2:])
    if why:
        _say(channel, {"ready": False, "why": why})
        return
    loaded, lessons = imports.Loaded(), Lessons(on_device=False)
    _say(channel, {"ready": True, "took_s": time.monotonic() - began, "modules": len(sys.modules)})
    while True:
        lessons.until_called(channel)
        message, files, _, _ = socket.recv_fds(channel, REQUEST_BYTES, 4)
        if not message:
            return
        if changed := loaded.changed():
            _say(channel, {"why": f"{changed} changed since it was imported"})
            return
        request = json.loads(message)
        if _forked(channel, request, files):
            if "spare" in request:
                request = _waited(request, loaded)
            become(request)
            return
        if "spare" not in request:
            lessons.begin(request["env"])


@contextmanager
def _uncollected() -> Iterator[None]:
    """Imports make hundreds of thousands of objects and next to no garbage, and looking for it takes 0.7 of 3.1 s.

    What is shared with the ranks stays shared: it is never looked at again, for that would touch, and so copy, every
    page. The threshold, not the switch, because a program may turn collection off as it is imported.
    """
    usual = gc.get_threshold()
    gc.set_threshold(0)
    yield
    gc.freeze()
    if gc.get_threshold()[0] == 0:
        gc.set_threshold(*usual)


def _say(channel: socket.socket, answer: Mapping[str, Any]) -> None:
    channel.send(json.dumps(answer).encode())


def _forked(channel: socket.socket, request: Mapping[str, Any], files: list[int]) -> bool:
    """True in the new rank, False here."""
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        if "spare" in request:
            background.begin()
        rank = os.fork()
        if rank:
            os.write(writing, str(rank).encode())
            os._exit(0)
        _settle(channel, request, files, (reading, writing))
        return True
    os.close(writing)
    for file in files:
        os.close(file)
    os.waitpid(between, 0)
    with os.fdopen(reading, "rb") as told:
        pid = told.read()
    _say(channel, {"pid": int(pid)} if pid else {"why": "the fork failed"})
    return False


def _settle(channel: socket.socket, request: Mapping[str, Any], files: list[int], pipe: tuple[int, int]) -> None:
    """Make this process what a started one would be: its session, its files, its environment, its parent."""
    if "spare" not in request:
        os.setsid()
    channel.close()
    for number, file in enumerate(files[:2], start=1):
        os.dup2(file, number)
    for end in (*files[:2], *pipe):
        os.close(end)
    os.environ.clear()
    os.environ.update(request["env"])
    os.environ[tether.VARIABLE] = str(files[2])
    for control in files[3:]:
        os.environ[survivor.CONTROL] = str(control)
    if "spare" not in request and not shown.show_world(request["env"]["LASTGOOD_WORLD"].encode()):
        os._exit(worker.TERMINATED)  # nobody could find what it leaves behind
    deadline = time.monotonic() + ADOPTED_WITHIN_S
    while os.getppid() != request["agent"]:
        if time.monotonic() > deadline:
            os._exit(worker.TERMINATED)
        time.sleep(0.0005)


def _waited(request: Mapping[str, Any], loaded: imports.Loaded) -> dict[str, Any]:
    """Until a world needs this process; what it is to be then."""
    control = socket.socket(fileno=int(os.environ[survivor.CONTROL]))
    control.setblocking(True)
    _own_pages()
    if (device := request["spare"]["device"]) is not None:
        _hold_device(int(device))
    survivor.say(control, {"ready": True})
    lessons = Lessons(on_device=device is not None)
    lessons.begin(os.environ)
    lessons.until_called(control)
    message, files = survivor.received(control)
    background.leave()
    if loaded.changed():
        os._exit(worker.TERMINATED)  # a new fork would be refused for it, too
    survivor.settle(control, message["enter"], files)
    control.detach()
    return {**request, "env": message["enter"]}


def _own_pages() -> None:
    """Objects of the zygote, which a rank touches one by one: each page is copied at its first touch."""
    gc.unfreeze()
    touched = gc.get_objects()
    del touched
    gc.freeze()


def _hold_device(local_rank: int) -> None:
    """The context of the GPU that this rank would have: half a second that no recovery should wait for."""
    import torch

    if torch.cuda.is_available() and torch.cuda.device_count() > local_rank:
        torch.cuda.set_device(local_rank)
        torch.empty(1, device="cuda")


def become(request: Mapping[str, Any]) -> None:
    """Be the rank. Returns when its program has ended well."""
    try:
        os.chdir(request["cwd"])
    except OSError as error:
        sys.exit(f"lastgood.zygote: {request['cwd']}: {error.strerror}")
    sys.argv = ["lastgood.worker", *request["argv"]]
    worker.main(request["argv"], os.environ)


if __name__ == "__main__":
    main(sys.argv[1:])
