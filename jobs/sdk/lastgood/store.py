"""Who keeps the rendezvous stores? One process of node 0, because the agent itself does without torch.

`python -P -m lastgood.store`, started by the agent or forked from its zygote. The agent binds the port, so that it can
be offered at once, and hands the listening socket over; ranks may connect before this process is there, the kernel
keeps them in the backlog. Standard output is a socket of whole messages in JSON, from the agent alone:
{"keep": port} with the listening socket attached, {"drop": port}.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from lastgood import shown, worker


def main() -> None:
    """Serve until the agent closes the channel."""
    worker.die_with_agent(os.environ)
    channel = worker.taken_channel()
    shown.show_name("lastgood-store")
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    stores: dict[int, Any] = {}
    while True:
        body, fds, _, _ = socket.recv_fds(channel, 4096, 1)
        if not body:
            return
        message = json.loads(body)
        if "drop" in message:
            stores.pop(message["drop"], None)
            continue
        port = message["keep"]
        # 127.0.0.1 is for the server's own client; the socket listens where the agent bound it.
        stores[port] = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=fds[0])


if __name__ == "__main__":
    main()
