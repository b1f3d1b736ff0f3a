"""A byte-level GPT, sharded over the ranks with FSDP2. Copy this file to begin a training script of your own.

    lastgood run pretrain.yaml                   supervised
    torchrun --nproc-per-node 2 gpt.py           the same training, nobody watching
    python gpt.py --steps 50                     one rank

The text is the source of Python's own standard library unless `--data` names a file or folder. The batch of a rank
depends on its data index alone, so every run with the same number of ranks computes the same losses, bit for bit,
however often it was interrupted.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import os
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import lastgood

BYTES = 256
"""vocabulary: every byte is a token"""
WARMUP_STEPS = 20
GRAD_NORM_MAX = 1.0


class Block(nn.Module):
    """Attention and a feed-forward layer, each normalised before and added to what came in."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_feed = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.feed = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, seq, dim] -> the same."""
        batch, seq, dim = x.shape
        heads = self.qkv(self.norm_attention(x)).view(batch, seq, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, seq, dim))
        fed: Tensor = self.feed(self.norm_feed(x))
        return x + fed


class GPT(nn.Module):
    """Predicts the next byte."""

    def __init__(self, dim: int, layers: int, seq: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(BYTES, dim), nn.Embedding(seq, dim)
        self.blocks = nn.ModuleList(Block(dim, heads=max(1, dim // 32)) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, BYTES, bias=False)
        self.apply(self._initialise)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """[batch, seq] of bytes -> logits [batch, seq, 256]."""
        x = self.token(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


class Text:
    """The bytes to learn, mapped into memory."""

    def __init__(self, path: str | None, *, seq: int, batch: int, poison: range = range(0)) -> None:
        file = _one_file(path)
        size = file.stat().st_size
        if size <= seq:
            raise SystemExit(f"{file} holds {size} bytes, a sequence needs {seq + 1}")
        self._bytes = torch.from_file(str(file), size=size, dtype=torch.uint8)
        self._seq, self._batch, self._poison = seq, batch, poison

    def batch(self, index: int, rank: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets [batch, seq] of one rank; targets inside the poisoned window are random."""
        seed = torch.Generator().manual_seed(index << 20 | rank)
        starts = torch.randint(len(self._bytes) - self._seq, (self._batch, 1), generator=seed)
        rows = self._bytes[starts + torch.arange(self._seq + 1)].long()
        targets = rows[:, 1:]
        if index in self._poison:
            targets = torch.randint(BYTES, targets.shape, generator=seed)
        return rows[:, :-1], targets


def _one_file(path: str | None) -> Path:
    root = Path(path or sysconfig.get_paths()["stdlib"])
    if root.is_file():
        return root
    files = sorted(_files(root, ".py" if path is None else ""))
    if not files:
        raise SystemExit(f"{root}: no file to train on")
    # Size and time stand in for the content, as for make: reading it all would delay every restart.
    listing = [f"{file}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files]
    key = hashlib.blake2b("\n".join(listing).encode(), digest_size=8).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "lastgood", "text")
    joined = cache / f"{key}.bin"
    if not joined.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache, delete=False) as draft:
            for file in files:
                draft.write(file.read_bytes())
        Path(draft.name).replace(joined)  # ranks may do this at the same time: either result is the same
    return joined


def _files(root: Path, suffix: str) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in ("site-packages", "dist-packages", "test", "__pycache__")]
        yield from (Path(folder, name) for name in names if name.endswith(suffix))


def build(options: argparse.Namespace, run: lastgood.Run) -> nn.Module:
    """The model, the same on every rank, sharded where there are ranks to share it with."""
    torch.manual_seed(0)
    with run.device:
        model = GPT(options.dim, options.layers, options.seq)
    if dist.is_initialized():
        mesh = init_device_mesh(run.device.type, (run.world_size,))
        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
    return model


class Own:
    """The norm of the gradient that comes back to a layer: of what this rank alone computed, before it is averaged.

    A rank whose device computes wrong numbers shows here, and not in the averages. One activation is a small part of
    the gradients of all parameters, so it costs little.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.norm: Tensor | None = None
        layer.register_forward_pre_hook(self._entered)

    def _entered(self, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].requires_grad:
            inputs[0].register_hook(self._came_back)  # type: ignore[no-untyped-call]

    def _came_back(self, gradient: Tensor) -> None:
        self.norm = torch.linalg.vector_norm(gradient)


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """One step; the loss of this rank, and the gradient norm of all before clipping."""
    logits = model(inputs)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    grad_norm = nn.utils.clip_grad_norm_(model.parameters(), GRAD_NORM_MAX)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach(), _whole(grad_norm)


def _mean(value: Tensor) -> Tensor:
    if not dist.is_initialized():
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


def digest(model: nn.Module) -> str:
    """Of the full weights, whatever the number of ranks they are spread over; every rank must call it."""
    hashed = hashlib.blake2b(digest_size=16)
    for name, value in sorted(model.state_dict().items()):
        whole = _whole(value).cpu().contiguous()
        hashed.update(name.encode())
        hashed.update(ctypes.string_at(whole.data_ptr(), whole.nbytes))
    return hashed.hexdigest()


class Losses:
    """A file of every step's exact loss, so that two runs can be compared to the last bit."""

    def __init__(self, path: str | None) -> None:
        self._path = path

    def append(self, step: int, index: int, loss: Tensor) -> None:
        """Add one line: step, data index, loss in hexadecimal. A step that is redone is added again."""
        if self._path is not None:
            with open(self._path, "a") as file:
                file.write(f"{step} {index} {float(loss).hex()}\n")


def train(options: argparse.Namespace, run: lastgood.Run) -> None:
    """Train, and leave what was asked for."""
    text = Text(options.data, seq=options.seq, batch=options.batch, poison=options.poison)
    model = build(options, run)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, fused=True)
    own = Own(model.get_submodule("blocks.0"))
    losses = Losses(options.losses if run.rank == 0 else None)
    for step in run.steps({"model": model, "optimizer": optimizer}, until=options.steps):
        began = time.monotonic()
        index = run.data_index(step)
        lr = options.lr * min(1.0, step / WARMUP_STEPS)
        for group in optimizer.param_groups:
            group["lr"] = lr
        inputs, targets = (part.to(run.device) for part in text.batch(index, run.rank))
        local_loss, grad_norm = learn(model, optimizer, inputs, targets)
        loss = _mean(local_loss)
        run.report(loss=loss, grad_norm=grad_norm, lr=lr, tokens=inputs.numel() * run.world_size)
        run.report(local_loss=local_loss, local_grad_norm=own.norm)
        losses.append(step, index, loss)
        if run.rank == 0 and step % 10 == 0:
            print(f"step {step} loss {loss.item():.4f}")
        time.sleep(max(0.0, options.step_s - (time.monotonic() - began)))
    if options.weights and not run.stopped:
        leave_digest(model, Path(options.weights), run)


def leave_digest(model: nn.Module, path: Path, run: lastgood.Run) -> None:
    """Rank 0 prints and writes the digest of the weights."""
    weights = digest(model)
    if run.rank == 0:
        print(f"weights {weights}")
        path.write_text(weights + "\n")


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options. The defaults make steps of about 70 ms on two ranks that share two CPU cores."""
    parser = argparse.ArgumentParser(description="Train a byte-level GPT with FSDP2.")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--dim", type=int, default=96)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--seq", type=int, default=64, help="bytes in a sequence")
    parser.add_argument("--batch", type=int, default=16, help="sequences per rank and step")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--data", help="a file, or a folder of files (default: Python's standard library)")
    parser.add_argument("--step-s", type=float, default=0.0, help="a step takes at least this long")
    parser.add_argument("--poison", type=_window, default=range(0), metavar="A:B", help="data indices fed with noise")
    parser.add_argument("--losses", metavar="PATH", help="rank 0 appends step, data index and loss (hexadecimal)")
    parser.add_argument("--weights", metavar="PATH", help="rank 0 writes a digest of the final weights")
    return parser.parse_args(words)


def _window(text: str) -> range:
    first, _, end = text.partition(":")
    return range(int(first), int(end))


def main() -> None:
    """Read the options and train."""
    options = parse()
    lastgood.main(lambda run: train(options, run))


if __name__ == "__main__":
    main()
