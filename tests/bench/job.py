"""What do all launchers run? A GPT of 2.6 million parameters, sharded over the ranks, that tells each step in a line.

    job.py --out FOLDER --by lastgood      with the SDK
    job.py --out FOLDER                    as scripts for torchrun do it: goes on from the newest whole checkpoint
    job.py --out FOLDER --by heartbeats    that, and a heartbeat for NVRx after each step
    job.py --out FOLDER --by inprocess     that, wrapped by NVRx: the function is entered again in the same process

It stands alone: the peers' environments hold nothing of ours. A rank's batch depends on its step alone, so that every
launcher must end with the same losses and weights, bit for bit. `FOLDER/lines.jsonl` gets one JSON object a line
(`figures.py` reads them); `FOLDER/fault.RANK`, put there by the referee, makes that rank raise or spin.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

VOCABULARY, DIM, LAYERS, HEADS, SEQ, BATCH = 2048, 192, 4, 4, 64, 2
RANKS = 2
SAVE_EVERY = 10


class GPT(nn.Module):
    """Predicts the next token."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(VOCABULARY, DIM), nn.Embedding(SEQ, DIM)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(DIM, HEADS, 4 * DIM, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(LAYERS)
        )
        self.norm, self.head = nn.LayerNorm(DIM), nn.Linear(DIM, VOCABULARY, bias=False)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(SEQ), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """[batch, seq] -> logits [batch, seq, vocabulary]."""
        x = self.token(tokens) + self.position.weight
        for block in self.blocks:
            x = block(x, src_mask=self.mask, is_causal=True)
        return self.head(self.norm(x))


def build(world_size: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The model, the same on every rank, sharded, and its optimizer."""
    torch.manual_seed(0)
    model = GPT()
    mesh = init_device_mesh("cpu", (world_size,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> float:
    """One step; the loss averaged over the ranks."""
    seed = torch.Generator().manual_seed(step << 10 | dist.get_rank())
    tokens = torch.randint(VOCABULARY, (BATCH, SEQ + 1), generator=seed)
    loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    mean = loss.detach() / dist.get_world_size()
    dist.all_reduce(mean)
    return mean.item()


def digest(model: nn.Module) -> str:
    """Of the full weights; every rank must call it."""
    hashed = hashlib.blake2b(digest_size=16)
    for name, value in sorted(model.state_dict().items()):
        whole = (value.full_tensor() if isinstance(value, DTensor) else value).contiguous()
        hashed.update(name.encode() + ctypes.string_at(whole.data_ptr(), whole.nbytes))
    return hashed.hexdigest()


class Lines:
    """What this rank tells, from one entry into the training function to the next."""

    lives = itertools.count()

    def __init__(self, out: Path, rank: int, size: int) -> None:
        self._file = os.open(out / "lines.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._who = {"rank": rank, "size": size, "pid": os.getpid(), "life": f"{os.getpid()}.{next(self.lives)}"}
        self._fault = out / f"fault.{rank}"
        self.say("entered")

    def say(self, event: str, **more: Any) -> None:
        """Add one line, in one write: ranks share the file."""
        line = {"at": time.time(), "event": event, **self._who, **more}
        os.write(self._file, (json.dumps(line) + "\n").encode())

    def break_down_if_told(self) -> None:
        """Raise, or never come back, when the referee has asked for it: once."""
        if not self._fault.exists():
            return
        fault = self._fault.read_text()
        self._fault.unlink()
        self.say("fault", fault=fault)
        if fault == "exception":
            raise RuntimeError("a fault on purpose")
        while True:
            sum(range(1000))


def train(
    steps: Iterable[int],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    lines: Lines,
    after: Callable[[float], object],
) -> None:
    """The loop: the same under every launcher."""
    for step in steps:
        lines.break_down_if_told()
        loss = learn(model, optimizer, step)
        lines.say("step", step=step, loss=loss.hex())
        after(loss)
    lines.say("done", weights=digest(model))


def plain_steps(model: nn.Module, optimizer: torch.optim.Optimizer, saves: Path, until: int) -> Iterator[int]:
    """Go on from the newest whole checkpoint, save every ten steps: what a careful script does by itself."""
    step = restored(model, optimizer, saves)
    while step < until:
        step += 1
        yield step
        if step % SAVE_EVERY == 0:
            weights, moments = get_state_dict(model, optimizer)
            dcp.save({"model": weights, "optimizer": moments}, checkpoint_id=saves / f"{step:08}")


def restored(model: nn.Module, optimizer: torch.optim.Optimizer, saves: Path) -> int:
    """The step that the state is now at; a checkpoint is whole once it has its `.metadata`, which is written last."""
    newest = max(saves.glob("*/.metadata"), default=None)
    if newest is None:
        return 0
    weights, moments = get_state_dict(model, optimizer)
    state = {"model": weights, "optimizer": moments}
    dcp.load(state, checkpoint_id=newest.parent)
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    return int(newest.parent.name)


def plain(options: argparse.Namespace, store: dist.Store | None = None) -> None:
    """Train as one of the ranks that the environment tells of."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    lines = Lines(options.out, rank, size)
    met = {} if store is None else {"store": store, "rank": rank, "world_size": size}
    dist.init_process_group("gloo", timeout=timedelta(seconds=options.timeout_s), **met)
    after = heartbeats() if options.by == "heartbeats" else lambda _: None
    model, optimizer = build(size)
    train(plain_steps(model, optimizer, options.out / "saves", options.until), model, optimizer, lines, after)
    dist.destroy_process_group()


def heartbeats() -> Callable[[float], object]:
    """Tells NVRx's monitor of this rank that it lives."""
    from nvidia_resiliency_ext.fault_tolerance import RankMonitorClient

    monitor = RankMonitorClient()
    monitor.init_workload_monitoring()
    return lambda _: monitor.send_heartbeat()


def inprocess(options: argparse.Namespace) -> None:
    """NVRx calls the function again, in every rank that is left, with a store of its own for each call."""
    from nvidia_resiliency_ext import inprocess as nvrx

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    base = dist.TCPStore(host, port + 1, is_master=os.environ["RANK"] == "0", wait_for_workers=False)
    tuned = dict.fromkeys(("monitor_thread_interval", "monitor_process_interval", "heartbeat_interval"), 0.1)
    tuned |= {"progress_watchdog_interval": 0.1, "last_call_wait": 0.1, "termination_grace_time": 1.0}
    tuned |= {"soft_timeout": 3.0, "hard_timeout": 8.0, "heartbeat_timeout": 3.0}
    tuned |= {"barrier_timeout": 30.0, "completion_timeout": 30.0}

    def call(wrapper: nvrx.CallWrapper | None = None) -> None:
        plain(options, dist.PrefixStore(f"call{wrapper.iteration}", base))

    call.__annotations__["wrapper"] = nvrx.CallWrapper  # by which it finds where to hand itself in
    nvrx.Wrapper(
        store_kwargs={"port": port},
        abort=nvrx.abort.AbortTorchDistributed(),
        **{name: timedelta(seconds=value) for name, value in tuned.items()},
    )(call)()


def supervised(options: argparse.Namespace, run: Any) -> None:
    """Train under lastgood."""
    lines = Lines(options.out, run.rank, run.world_size)
    model, optimizer = build(run.world_size)
    steps = run.steps({"model": model, "optimizer": optimizer}, until=options.until)
    if options.block:
        steps = between_bare_blocks(steps, options, run, lambda step: learn(model, optimizer, step), lines)
    train(steps, model, optimizer, lines, lambda loss: run.report(loss=loss))


def between_bare_blocks(
    steps: Iterable[int], options: argparse.Namespace, run: Any, learn: Callable[[int], float], lines: Lines
) -> Iterator[int]:
    """After every two blocks, do one inside a step, without the SDK and with all that is around the ranks frozen."""
    for step in steps:
        yield step
        if step % (2 * options.block):
            continue
        with run.phase("eval"):
            signalled(options.out, run.rank, signal.SIGSTOP)
            for number in range(options.block):
                learn(step)
                lines.say("bare_step", step=number)
            signalled(options.out, run.rank, signal.SIGCONT)


def signalled(out: Path, rank: int, number: int) -> None:
    """By rank 0, to the processes that the referee names."""
    named = out / "around"
    if rank == 0 and named.exists():
        for pid in named.read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), number)


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description="The job of `make bench`.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--until", type=int, required=True, help="the last step")
    parser.add_argument("--by", choices=("plain", "heartbeats", "inprocess", "lastgood"), default="plain")
    parser.add_argument("--timeout-s", type=float, default=1800.0, help="of a collective")
    parser.add_argument(
        "--block", type=int, default=0, help="steps without supervision after twice as many with; 0: none"
    )
    return parser.parse_args()


def main() -> None:
    """Train under whatever launched this."""
    options = parse()
    torch.set_num_threads(1)
    if options.by == "lastgood":
        import lastgood

        lastgood.main(lambda run: supervised(options, run))
    elif options.by == "inprocess":
        inprocess(options)
    else:
        plain(options)


if __name__ == "__main__":
    main()
