"""Which NCCL would ranks talk over? `python -P -m jobs.preflight_nccl` prints it as one line of JSON.

In a process of its own: importing torch takes seconds, and a broken library may take the importer along.
"""

from __future__ import annotations

import json

import torch


def main() -> None:
    """Print `{"torch", "cuda", "nccl"}`; null where this torch is built without."""
    nccl = None
    if torch.distributed.is_available() and torch.distributed.is_nccl_available():
        nccl = ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[no-untyped-call]
    print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "nccl": nccl}), flush=True)


if __name__ == "__main__":
    main()
