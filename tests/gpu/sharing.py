"""The recipe's training with all ranks of a world on one GPU.

NCCL refuses that within a host: each rank says that it is one of its own, and they talk through sockets, by the same
kernels, watchdogs and recorders as between real hosts.
"""

from __future__ import annotations

import os

os.environ["NCCL_HOSTID"] = f"rank{os.environ['RANK']}"
os.environ["NCCL_SOCKET_IFNAME"] = "lo"

from jobs.recipes.gpt import main

if __name__ == "__main__":
    main()
