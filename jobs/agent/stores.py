"""Where will the ranks of the next world meet? In a store of its own, whose port is known before anyone needs it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from jobs.agent import aide
from jobs.agent.child import Child, Exit
from jobs.agent.nursery import Nursery
from jobs.agent.orders import Store
from jobs.agent.place import Place
from jobs.spec import Spec

BACKLOG = 4096
"""every rank of a large world may connect before the first is accepted"""
RETRY_S = 1.0
"""before a store process that ended is started again: one that cannot start must not spin"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    store: Store
    listener: socket.socket


class Stores:
    """The agent's side: an offer for the next world, the store of the newest one, and the child that keeps both."""

    def __init__(
        self, host: str, place: Place, spec: Spec, *, nursery: Nursery | None, on_loss: Callable[[str], None]
    ) -> None:
        """`host` is the name that every node of the attempt can reach. `on_loss` hears why the stores are gone."""
        self._host = host
        self._nursery = nursery
        self._place, self._spec = place, spec
        self._on_loss = on_loss
        self._taken: Store | None = None
        self._child: Child | None = None
        self._closed = False
        self._open_channel()
        self.start()
        self._offer = self._bind()

    @property
    def offer(self) -> Store:
        """For the next world; it listens."""
        return self._offer.store

    def take(self, store: Store) -> bool:
        """The next world begins at the offer; the store of the world before it goes, and a new offer is made.

        False when `store` is not the offer: whoever went there would wait for ever.
        """
        if store.port != self._offer.store.port:
            return False
        if self._taken is not None:
            self._tell({"drop": self._taken.port})
        self._taken = self._offer.store
        # From now on only the child holds the port: with the child gone, a connection must be refused, not wait.
        self._offer.listener.close()
        self._offer = self._bind()
        return True

    def start(self) -> None:
        """Start the child, unless there is one, or it is not known yet whether it can be forked."""
        if self._closed or self._child is not None or (self._nursery is not None and self._nursery.preparing):
            return
        with self._theirs as theirs:
            self._child = aide.start(
                "store", self._ended, place=self._place, spec=self._spec, nursery=self._nursery, channel=theirs
            )

    def close(self) -> None:
        """End the child."""
        self._closed = True
        self._offer.listener.close()
        self._channel.close()
        self._theirs.close()

    def _bind(self) -> _Offer:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("127.0.0.1" if self._host == "127.0.0.1" else "", 0))
        listener.listen(BACKLOG)
        offer = _Offer(store=Store(host=self._host, port=listener.getsockname()[1]), listener=listener)
        self._hand_over(offer)
        return offer

    def _open_channel(self) -> None:
        # What is sent before the child runs waits in the socket.
        self._channel, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def _ended(self, end: Exit) -> None:
        if self._closed:
            return
        self._channel.close()
        self._open_channel()
        self._taken, self._child = None, None
        self._hand_over(self._offer)
        asyncio.get_running_loop().call_later(RETRY_S, self.start)
        self._on_loss(
            f"the rendezvous store ended (status {end.code}, signal {end.signal}), see {self._place.folder}/store.log"
        )

    def _hand_over(self, offer: _Offer) -> None:
        body = json.dumps({"keep": offer.store.port}).encode()
        with suppress(BrokenPipeError, ConnectionResetError):  # its end is seen, and answered, in _ended
            socket.send_fds(self._channel, [body], [offer.listener.fileno()])

    def _tell(self, message: dict[str, int]) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            self._channel.send(json.dumps(message).encode())
