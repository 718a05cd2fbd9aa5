"""Event channels alone: three domains with real shared-info pages, and a list of upcalls."""

from __future__ import annotations

import pytest
from attrs import define, field

from xennet.evtchn import EventChannels, TwoLevelBits
from xennet.memory import Memory, PageRun


@define
class Bench:
    """Domain 0 is privileged with 4 vCPUs, domains 1 and 2 are not and have 2."""

    memory: Memory = field(factory=lambda: Memory(8))
    upcalls: list[tuple[int, int]] = field(factory=list)
    channels: EventChannels = field(init=False)
    pages: dict[int, PageRun] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.channels = EventChannels(lambda domid, port: self.upcalls.append((domid, port)))
        for domid, vcpus in ((0, 4), (1, 2), (2, 2)):
            page = self.pages[domid] = self.memory.run(self.memory.alloc(domid))
            bits = TwoLevelBits(page, vcpus)
            self.channels.add_domain(domid, bits, vcpus, privileged=domid == 0)

    def connect(self, local: int = 1, remote: int = 2) -> tuple[int, int]:
        """An interdomain channel with no event pending: (port of local, port of remote)."""
        remote_port = self.channels.alloc_unbound(remote, remote, local)
        local_port = self.channels.bind_interdomain(local, remote, remote_port)
        assert self.channels.bits(local).take(local_port)
        self.upcalls.clear()
        return local_port, remote_port


@pytest.fixture
def bench() -> Bench:
    return Bench()
