"""All queues of one connection, and what spreads the guest's frames over them."""

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

    ``hashing`` says how frames are hashed on their way out. ``on_broken`` hears of a queue that the
    backend broke. ``all`` are the queues.
    """

    def __init__(
        self,
        hv: Hypervisor,
        count: int,
        terms: Negotiated,
        guest: Endpoint,
        counters: NetfrontCounters,
        hashing: HashConfig,
        on_broken: Callable[[BackendError], None],
    ) -> None:
        self.all: list[Queue] = []
        self._counters = counters
        self._steering: Steering | None = None
        ends = [guest]
        if count > 1 or terms.hashes:
            self._steering = Steering(guest, count, hashing, self._kick_one)
            ends = self._steering.ends
        batch = rx_batch()
        try:
            for end in ends:
                self.all.append(Queue(hv, terms, end, counters, on_broken, batch))
        except Exception:
            self.disconnect()
            raise

    def ready(self) -> None:
        """The keys are published: notify every channel once and post all buffers."""
        for queue in self.all:
            queue.ready()

    def start(self) -> None:
        """The backend is connected."""
        for queue in self.all:
            queue.start()

    def stop(self) -> None:
        """Do nothing more until all is torn down."""
        for queue in self.all:
            queue.stop()

    def kick(self) -> None:
        """The guest has frames or room, for or from any of them."""
        for queue in self.all:
            queue.kick()

    def set_link(self, up: bool) -> None:
        """The backend's carrier came or went."""
        for queue in self.all:
            queue.link_up = up
            queue.kick()

    def drop_waiting(self) -> None:
        """Forget the frames that the guest gave and that are on no ring; they are counted."""
        for queue in self.all:
            queue.drop_waiting()
        self._drop_unsteered()

    def disconnect(self) -> list[GrantedPages]:
        """Tear all down; the pages that the backend still holds."""
        self._drop_unsteered()
        return [held for queue in self.all for held in queue.disconnect()]

    def _drop_unsteered(self) -> None:
        if self._steering is not None:
            self._counters.lost += self._steering.drop_all()

    def _kick_one(self, number: int) -> None:
        self.all[number].kick()
