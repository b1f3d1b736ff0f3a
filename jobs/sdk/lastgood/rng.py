"""Which random numbers come next on this rank? Taken with a checkpoint and put back, so that a resumed run draws
the same dropout masks and shuffles as one that was never interrupted.

Python's `random`, torch's CPU generator, the current CUDA device's, and NumPy's global one when the program uses NumPy.
"""

from __future__ import annotations

import pickle
import random
import sys
from typing import Any

import torch
import xxhash


def take() -> bytes:
    """The state of every generator of this process."""
    state: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if torch.cuda.is_initialized():  # a world on the CPU must not make a context for this
        state["cuda"] = torch.cuda.get_rng_state()
    if "numpy" in sys.modules:
        state["numpy"] = sys.modules["numpy"].random.get_state()
    return pickle.dumps(state)


def put_back(taken: bytes) -> None:
    """Set the generators as they were; one that was not there then, or is not here now, is left alone."""
    state = pickle.loads(taken)
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(state["cuda"])
    if "numpy" in state and "numpy" in sys.modules:
        sys.modules["numpy"].random.set_state(state["numpy"])


def derive(checkpoint: str, rank: int) -> None:
    """Seed the generators of a rank that did not exist when the checkpoint was saved.

    The seed is the hash of checkpoint and rank: the same on every restore, different for each rank, and unlike any
    generator that was saved (which a copy of another rank's state would repeat).
    """
    seed = xxhash.xxh3_64_intdigest(f"{checkpoint}:{rank}".encode())
    random.seed(seed)
    torch.manual_seed(seed)  # CUDA's generators too
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
