"""Does a process come out of a world whatever it does there, and is it as good as a new one in the next?"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

WITHIN_S = 60.0
GLOO = """
    import time, torch, torch.distributed as dist
    def train(run):
        ones = torch.ones(4)
        dist.all_reduce(ones)
        print("all", int(ones.sum()), flush=True)
        time.sleep(float(os.environ["LATE"]))
        if os.environ["STUCK"]:
            group = dist.new_group()
            print("made", flush=True)
            dist.all_reduce(ones, group=group)
            dist.all_reduce(ones)
"""


class Rank:
    """A process with a line to it, as an agent has."""

    def __init__(self, folder: Path, train: str, **env: str) -> None:
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.settimeout(WITHIN_S)
        self.folder = folder
        script = folder / "script.py"
        before, after = "import os\nos.environ['LASTGOOD_WORLD'] = '9'\nimport lastgood", "print('end', flush=True)"
        script.write_text(f"{before}\n{textwrap.dedent(train)}\nlastgood.main(train)\n{after}")
        given = {"LASTGOOD_CONTROL": str(theirs.fileno()), "LASTGOOD_RANK_DIR": str(folder), **env}
        self.env = {**os.environ, **given, "LASTGOOD_WORLD": "9" + "-" * 8}  # room for longer ones
        argv = [sys.executable, "-P", str(script)]
        self.process = subprocess.Popen(argv, env=self.env, pass_fds=(theirs.fileno(),), stdout=subprocess.PIPE)
        theirs.close()
        assert self.hear() == {"ready": True}

    def hear(self) -> dict[str, Any]:
        """The next message; empty when the process hung up."""
        return dict(json.loads(self.ours.recv(1 << 16) or b"{}"))

    def leave(self, world: int = 9) -> None:
        self.ours.send(json.dumps({"leave": world}).encode())

    def enter(self, world: int, **env: str) -> Path:
        """Into another world; gives the file of its output."""
        given = {**self.env, "LASTGOOD_WORLD": str(world), **env}
        out = self.folder / f"out{world}"
        with out.open("wb") as file:
            message = json.dumps({"enter": given}).encode()
            socket.send_fds(self.ours, [message], [file.fileno(), file.fileno()])
        return out

    def says(self) -> str:
        """Its next line of output."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Rank]]:
    """`start(source of train, **environment)`: a rank in a folder of its own."""
    ranks: list[Rank] = []

    def one(train: str, **env: str) -> Rank:
        folder = tmp_path / str(len(ranks))
        folder.mkdir()
        ranks.append(Rank(folder, train, **env))
        return ranks[-1]

    yield one
    for rank in ranks:
        rank.process.kill()
        rank.process.communicate()
        rank.ours.close()


LOOPS = {
    "computes": "while True: sum(range(1000))",
    "catches every Exception": """
            while True:
                try: sum(range(1000))
                except Exception: pass""",
    "swallows whatever comes, twice": """
            for _ in range(2):
                try:
                    while True: sum(range(1000))
                except BaseException: pass
            while True: sum(range(1000))""",
}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS.keys())
def test_an_order_takes_a_rank_out_of_its_world_and_it_enters_the_next(start: Callable[..., Rank], loop: str) -> None:
    rank = start(f"""
        def train(run):
            print("in", os.environ["LASTGOOD_WORLD"], os.getpid(), flush=True)
            if os.environ["LASTGOOD_WORLD"] != "9": return
            {loop}
    """)
    assert rank.says() == f"in 9 {rank.process.pid}"
    rank.leave()
    assert rank.hear() == {"left": 9, "failed": False}
    out = rank.enter(1234)
    assert rank.process.wait(WITHIN_S) == 0
    assert out.read_text().splitlines() == [f"in 1234 {rank.process.pid}", "end"]
    assert not (rank.folder / "error.json").exists()


def test_one_that_raises_says_why_and_may_go_on(start: Callable[..., Rank]) -> None:
    rank = start("""
        import sys
        def train(run):
            if os.environ["LASTGOOD_WORLD"] == "9": raise KeyError("batch")
            print(sys.exc_info()[0], open("/proc/self/environ").read().split("LASTGOOD_WORLD=")[1].split(chr(0))[0])
    """)
    assert rank.hear() == {"left": 9, "failed": True}
    failure = json.loads((rank.folder / "error.json").read_text())
    assert (failure["kind"], failure["message"]) == ("KeyError", "'batch'")
    out = rank.enter(10)
    assert rank.process.wait(WITHIN_S) == 0
    assert out.read_text().splitlines() == ["None 10", "end"]


def test_one_that_wants_to_end_ends(start: Callable[..., Rank]) -> None:
    rank = start("def train(run): raise SystemExit(7)")
    assert rank.process.wait(WITHIN_S) == 7


def test_without_an_agent_nobody_waits_for_a_world(start: Callable[..., Rank]) -> None:
    rank = start("def train(run): raise KeyError('batch')")
    rank.hear()
    rank.ours.close()
    assert rank.process.wait(WITHIN_S) == 1


@pytest.mark.long
def test_gloo_ranks_come_out_of_what_nobody_will_answer(start: Callable[..., Rank]) -> None:
    ports = _free_ports(3)

    def place(rank: int, world: int, late_s: float = 0.0) -> dict[str, str]:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(ports[world - 9])}
        train = {"LATE": str(late_s), "STUCK": "" if world == 11 else "1"}
        return {"RANK": str(rank), "WORLD_SIZE": "3", **address, **train}

    living, last = [start(GLOO, **place(rank, 9)) for rank in range(2)], start(GLOO, **place(2, 9))
    assert [rank.says() for rank in (*living, last)] == ["all 12"] * 3
    # Alive, and it answers nobody: in a collective; then in its sleep, while the others make a group with it.
    assert last.says() == "made"
    last.process.send_signal(signal.SIGSTOP)
    _leave(living, 9)
    last.process.kill()
    last = start(GLOO, **place(2, 10, late_s=1.5))
    outs = [rank.enter(10, **place(number, 10)) for number, rank in enumerate(living)]
    assert last.says() == "all 12"
    last.process.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + WITHIN_S
    while any(out.read_text() != "all 12\n" for out in outs):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    _leave(living, 10)
    last.process.kill()
    last = start(GLOO, **place(2, 11))
    outs = [rank.enter(11, **place(number, 11)) for number, rank in enumerate(living)]
    assert [rank.process.wait(WITHIN_S) for rank in living] == [0, 0]
    assert [out.read_text().splitlines() for out in outs] == [["all 12", "end"]] * 2


def _leave(ranks: list[Rank], world: int) -> None:
    for rank in ranks:
        rank.leave(world)
        assert rank.hear()["left"] == world  # by itself, where rank 0, who keeps the store here, has left before


def _free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports
