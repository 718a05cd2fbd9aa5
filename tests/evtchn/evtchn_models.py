"""What events must look like in a guest's memory, in the plainest words: sets and lists."""

from __future__ import annotations

from itertools import pairwise

from attrs import define, field

VCPUS = 2


@define
class ModelPort:
    """``peer``: (domid, port) that a send reaches, None from where sends get lost."""

    state: str
    peer: tuple[int, int] | None = None
    allowed: int | None = None
    vcpu: int = 0
    owed: bool = False


@define
class ModelDomain:
    """A domain with the 2-level ABI."""

    ports: dict[int, ModelPort] = field(factory=dict)
    pending: set[int] = field(factory=set)
    masked: set[int] = field(factory=lambda: set(range(4096)))
    priorities: dict[int, int] = field(factory=dict)
    selected: list[set[int]] = field(factory=lambda: [set() for _ in range(VCPUS)])
    upcall: list[bool] = field(factory=lambda: [False] * VCPUS)
    runs: dict[int, int] = field(factory=dict)

    def lowest_free(self) -> int:
        return next(port for port in range(1, 4096) if port not in self.ports)

    def open(self, state: str, **binding: object) -> int:
        port = self.lowest_free()
        self.ports[port] = ModelPort(state, **binding)
        return port

    def select(self, port: int) -> None:
        self.selected[self.ports[port].vcpu].add(port // 64)
        self.upcall[self.ports[port].vcpu] = True

    def set_pending(self, port: int) -> None:
        if port not in self.pending:
            self.pending.add(port)
            if port not in self.masked:
                self.select(port)

    def unmask(self, port: int) -> None:
        if port in self.ports and port in self.masked:
            self.masked.remove(port)
            if port in self.pending:
                self.select(port)

    def upcall_for(self, port: int) -> bool:
        """What delivering ``port`` does; True when its handler runs."""
        taken = port in self.pending - self.masked
        if taken:
            self.pending.remove(port)
        if not any(other // 64 == port // 64 for other in self.pending - self.masked):
            for vcpu in range(VCPUS):
                self.selected[vcpu].discard(port // 64)
                self.upcall[vcpu] = self.upcall[vcpu] and bool(self.selected[vcpu])
        return taken

    def close(self, port: int) -> None:
        """The port is closed; its mask bit is the guest's affair."""
        self.pending.discard(port)
        self.priorities.pop(port, None)

    def reset(self) -> None:
        """All ports are closed and masked again, the 2-level ABI is back."""
        self.masked = set(range(4096))

    def pages(self) -> dict[str, bytes]:
        """What the domain sees: struct shared_info (xen/xen.h, LP64)."""
        page = bytearray(4096)
        for vcpu in range(VCPUS):
            page[64 * vcpu] = self.upcall[vcpu]
            selector = sum(1 << word for word in self.selected[vcpu])
            page[64 * vcpu + 8 : 64 * vcpu + 16] = selector.to_bytes(8, "little")
        for offset, bits in ((2048, self.pending), (2560, self.masked)):
            for bit in bits:
                page[offset + bit // 8] |= 1 << bit % 8
        return {"shared info": bytes(page)}


@define
class FifoModelDomain(ModelDomain):
    """A domain with the FIFO ABI. Ports are linked in ``queues[vcpu, priority]``; ``heads`` are
    what is left in the control blocks when a queue is empty."""

    masked: set[int] = field(factory=lambda: set(range(1024)))
    queues: dict[tuple[int, int], list[int]] = field(factory=dict)
    heads: dict[tuple[int, int], int] = field(factory=dict)

    @property
    def linked(self) -> set[int]:
        return {port for queue in self.queues.values() for port in queue}

    def lowest_free(self) -> int:
        busy = self.linked | self.ports.keys()
        return next(port for port in range(1, 1024) if port not in busy)

    def set_pending(self, port: int) -> None:
        self.pending.add(port)
        if port not in self.masked | self.linked:
            place = (self.ports[port].vcpu, self.priorities.get(port, 7))
            queue = self.queues.setdefault(place, [])
            if not queue:
                self.heads[place] = port
                self.upcall[place[0]] = True
            queue.append(port)

    def unmask(self, port: int) -> None:
        if port in self.ports:
            self.masked.discard(port)
            if port in self.pending:
                self.set_pending(port)

    def upcall_for(self, port: int) -> bool:
        """All queues are emptied, in whichever order; one port is handled."""
        for vcpu, _ in self.queues:
            self.upcall[vcpu] = False
        self.queues.clear()
        taken = port in self.pending - self.masked
        self.pending -= {port} if taken else set()
        return taken

    def reset(self) -> None:
        """The guest chooses the FIFO ABI again, with clean pages."""
        self.masked = set(range(1024))
        self.queues.clear()
        self.heads.clear()

    def pages(self) -> dict[str, bytes]:
        shared_info = bytearray(4096)
        shared_info[2560 : 2560 + 512] = b"\xff" * 512  # as it was before the FIFO ABI
        words = [0] * 1024
        for bit, ports in ((31, self.pending), (30, self.masked), (29, self.linked)):
            for port in ports:
                words[port] |= 1 << bit
        for queue in self.queues.values():
            for port, following in pairwise(queue):
                words[port] |= following
        pages = {"words": b"".join(word.to_bytes(4, "little") for word in words)}
        for vcpu in range(VCPUS):
            shared_info[64 * vcpu] = self.upcall[vcpu]
            ready = sum(1 << priority for on, priority in self.queues if on == vcpu)
            block = [ready, 0, *(self.heads.get((vcpu, priority), 0) for priority in range(16))]
            pages[f"control block {vcpu}"] = b"".join(w.to_bytes(4, "little") for w in block)
        return pages | {"shared info": bytes(shared_info)}
