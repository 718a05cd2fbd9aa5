"""netisr, the queues of incoming frames between the two sides: one queue for each CPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from errno import EINVAL, ENOBUFS

from xennet.frames import FrameBatch
from xennet.ifnet import IFQ_MAXLEN, Interface
from xennet.runloop import Delivery, RunLoop

#: Frames that a CPU's queue holds: 42 x ifqmaxlen, "42 shall be the number" in the seed's words.
MAXQLEN = 42 * IFQ_MAXLEN
#: The domid that the queues' deliveries count for.
_HOST = 0


class Netisr:
    """``cpus`` queues of at most ``limit`` frames each. A queue with frames is delivered by
    ``run_loop``: all its frames are handed to the interfaces' ``input`` in order, and ``drained``
    is called with the CPU.

    ``limit`` is net.link.epair.netisr_maxqlen.
    """

    def __init__(
        self, run_loop: RunLoop, cpus: int = 1, drained: Callable[[int], None] = lambda cpu: None
    ) -> None:
        self.limit = MAXQLEN
        self.drained = drained
        self._run_loop = run_loop
        self._queues: list[deque[tuple[Interface, FrameBatch]]] = [deque() for _ in range(cpus)]
        self._lengths = [0] * cpus

    def cpu_of(self, interface: Interface) -> int:
        """The CPU on which frames for ``interface`` wait (netisr_get_cpuid)."""
        return interface.index % len(self._queues)

    def set_limit(self, limit: int) -> int:
        """Set the limit of every queue. Returns 0, or EINVAL for a limit below 1."""
        if limit < 1:
            return EINVAL
        self.limit = limit
        return 0

    def room(self, interface: Interface) -> int:
        """The number of frames for ``interface`` that its CPU's queue can take now."""
        return max(0, self.limit - self._lengths[self.cpu_of(interface)])

    def queue(self, interface: Interface, batch: FrameBatch) -> int:
        """Queue the whole ``batch`` for delivery at ``interface``. Returns 0, or ENOBUFS without
        room for all of it."""
        if batch.count > self.room(interface):
            return ENOBUFS
        cpu = self.cpu_of(interface)
        self._queues[cpu].append((interface, batch))
        self._lengths[cpu] += batch.count
        self._run_loop.post(Delivery("netisr", _HOST, cpu), self._run)
        return 0

    def forget(self, interface: Interface) -> None:
        """Free the frames that wait for ``interface``, which is going away."""
        for cpu, queue in enumerate(self._queues):
            kept = [entry for entry in queue if entry[0] is not interface]
            self._queues[cpu] = deque(kept)
            self._lengths[cpu] = sum(batch.count for _, batch in kept)

    def _run(self, delivery: Delivery) -> None:
        cpu = delivery.ident
        # All of it is taken at once, so that there is room for what the inputs cause.
        queue, self._queues[cpu] = self._queues[cpu], deque()
        self._lengths[cpu] = 0
        try:
            while queue:
                interface, batch = queue.popleft()
                interface.input(batch)
        finally:
            if queue:  # one has raised: the others have their frames next
                self._queues[cpu].extendleft(reversed(queue))
                self._lengths[cpu] += sum(batch.count for _, batch in queue)
                self._run_loop.post(delivery, self._run)
            else:
                self.drained(cpu)
