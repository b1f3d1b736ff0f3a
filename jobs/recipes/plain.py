"""The same training as an ordinary torchrun script: DDP, a log line per step, its own torch.save. No lastgood in it.

lastgood run plain.yaml                          supervised, unmodified
torchrun --nproc-per-node 2 plain.py             nobody watching
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from jobs.recipes.gpt import GPT, Text


def train(options: argparse.Namespace, device: torch.device) -> None:
    """Train from the last save on, or from scratch."""
    rank = dist.get_rank()
    text = Text(options.data, seq=options.seq, batch=options.batch)
    torch.manual_seed(0)
    gpt = GPT(options.dim, options.layers, options.seq).to(device)
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=options.lr, fused=True)
    saved = Path(options.out, "plain.pt")
    done = load(saved, gpt, optimizer, device)
    model = DistributedDataParallel(gpt)
    for step in range(done + 1, options.steps + 1):
        began = time.monotonic()
        inputs, targets = (part.to(device) for part in text.batch(step - 1, rank))
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if rank == 0:
            print(f"step {step} loss {loss.item():.6f}", flush=True)
            if step % options.save_every == 0 or step == options.steps:
                save(saved, gpt, optimizer, step)
        time.sleep(max(0.0, options.step_s - (time.monotonic() - began)))


def save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Replace the one checkpoint; a reader finds the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".writing")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, draft)
    draft.replace(path)


def load(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> int:
    """The step of the checkpoint that was loaded, 0 when there is none."""
    if not path.exists():
        return 0
    held: dict[str, Any] = torch.load(path, map_location=device)
    model.load_state_dict(held["model"])
    optimizer.load_state_dict(held["optimizer"])
    return int(held["step"])


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; the model's are those of gpt.py."""
    parser = argparse.ArgumentParser(description="Train a byte-level GPT with DDP.")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--dim", type=int, default=96)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--seq", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--data", help="a file, or a folder of files (default: Python's standard library)")
    parser.add_argument("--step-s", type=float, default=0.0, help="a step takes at least this long")
    parser.add_argument("--save-every", type=int, default=50)
    parser.add_argument("--out", default="out", help="folder of the checkpoint")
    return parser.parse_args(words)


def main() -> None:
    """Join, train, part."""
    options = parse()
    device = torch.device("cpu")
    if torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"]):
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    train(options, device)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
