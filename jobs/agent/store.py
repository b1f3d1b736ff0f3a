"""Who keeps the rendezvous stores? A child of node 0's agent, because the agent itself does without torch.

The agent binds the port, so that it can be offered at once, and hands the listening socket over; ranks may connect
before torch is imported here, the kernel keeps them in the backlog. Messages are JSON datagrams on a socket pair:
{"keep": port} with the socket attached, {"drop": port}. The end of the agent is the end of this process.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

from monitors.sense.lifeline import end_with


def main(channel_fd: int, agent_pid: int) -> int:
    """Serve until the agent closes the channel."""
    if not end_with(agent_pid):
        return 1  # it died before we could ask to die with it
    channel = socket.socket(fileno=channel_fd)
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    stores: dict[int, Any] = {}
    while True:
        body, fds, _, _ = socket.recv_fds(channel, 4096, 1)
        if not body:
            return 0
        message = json.loads(body)
        if "drop" in message:
            stores.pop(message["drop"], None)
            continue
        port = message["keep"]
        # 127.0.0.1 is for the server's own client; the socket listens where the agent bound it.
        stores[port] = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=fds[0])


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
