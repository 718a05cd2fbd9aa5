"""All queues of one connection, and the steering of the guest's frames to them."""

from __future__ import annotations

from collections.abc import Callable

from xennet.flow.hash_config import HashConfig
from xennet.flow.steering import Steering
from xennet.frames import Endpoint
from xennet.interface import Hypervisor
from xennet.netfront.buffers import GrantedPages
from xennet.netfront.counters import NetfrontCounters
from xennet.netfront.negotiated import Negotiated
from xennet.netfront.queue import Queue
from xennet.netfront.rx_pass import rx_batch
from xennet.netfront.verdict import BackendError


class Queues:
    """``count`` queues, set up in the constructor, which leaves nothing behind if it fails.

    ``hashing``: how frames to be sent are hashed. ``on_broken(error)`` is called when the backend
    breaks the protocol on a queue. ``all`` are the queues, ``steering`` what gives them the guest's
    frames, None if there is one that takes them itself.
    """

    def __init__(
        self,
        hv: Hypervisor,
        count: int,
        negotiated: Negotiated,
        guest: Endpoint,
        counters: NetfrontCounters,
        hashing: HashConfig,
        on_broken: Callable[[BackendError], None],
    ) -> None:
        self.all: list[Queue] = []
        self._counters = counters
        self.steering: Steering | None = None
        ends = [guest]
        if count > 1 or negotiated.hashes:
            self.steering = Steering(guest, count, hashing, self._kick_one)
            ends = self.steering.ends
        batch = rx_batch()
        try:
            for number, end in enumerate(ends):
                self.all.append(Queue(hv, negotiated, end, counters, on_broken, batch, number))
        except Exception:
            self.disconnect()
            raise

    def ready(self) -> None:
        """Notify every channel once and post all buffers: the keys are published."""
        for queue in self.all:
            queue.ready()

    def start(self) -> None:
        """Begin to send and receive: the backend is connected."""
        for queue in self.all:
            queue.start()

    def stop(self) -> None:
        """Stop all work until the queues are disconnected."""
        for queue in self.all:
            queue.stop()

    def set_link(self, up: bool) -> None:
        """Note that the backend's carrier came or went."""
        for queue in self.all:
            queue.link_up = up
            queue.kick()

    def drop_waiting(self) -> None:
        """Drop and count the frames that were taken from the guest and are on no ring."""
        for queue in self.all:
            queue.drop_waiting()
        self._drop_unsteered()

    def disconnect(self) -> list[GrantedPages]:
        """Disconnect all queues. Returns the pages that the backend still holds."""
        self._drop_unsteered()
        return [held for queue in self.all for held in queue.disconnect()]

    def _drop_unsteered(self) -> None:
        if self.steering is not None:
            self._counters.lost += self.steering.drop_all()

    def _kick_one(self, number: int) -> None:
        self.all[number].kick()
