"""Event channels alone: three domains with real shared-info pages, and a list of upcalls."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import define, field

from xennet.evtchn import EventChannels, GuestPages, TwoLevelBits
from xennet.interface import HypercallError
from xennet.memory import Memory, PageRun


@define
class Bench:
    """Domain 0 is privileged with 4 vCPUs, domains 1 and 2 are not and have 2.

    With ``abi`` "fifo" every vCPU has its control block, at byte 128 of a page, and ports
    0..1023 have event words. No port is masked.
    """

    abi: str = "2l"
    memory: Memory = field(factory=lambda: Memory(64))
    upcalls: list[tuple[int, int]] = field(factory=list)
    unmapped: list[int] = field(factory=list)
    channels: EventChannels = field(init=False)
    pages: dict[int, PageRun] = field(factory=dict)
    controls: dict[tuple[int, int], PageRun] = field(factory=dict)
    words: dict[int, list[memoryview]] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.channels = EventChannels(
            lambda domid, port: self.upcalls.append((domid, port)),
            pages=GuestPages(self.find, self.unmapped.append),
        )
        for domid, vcpus in ((0, 4), (1, 2), (2, 2)):
            self.add_domain(domid, vcpus)

    @property
    def nr_ports(self) -> int:
        """Ports that a domain can have, port 0 included."""
        return {"2l": 4096, "fifo": 131072}[self.abi]

    def find(self, domid: int, gfn: int) -> PageRun | None:
        mine = 0 <= gfn < self.memory.nr_frames and self.memory.owner[gfn] == domid
        return self.memory.run(gfn) if mine else None

    def page(self, domid: int) -> PageRun:
        """A fresh page of a domain's own."""
        return self.memory.run(self.memory.alloc(domid))

    def add_domain(self, domid: int, vcpus: int) -> None:
        page = self.pages[domid] = self.page(domid)
        bits = TwoLevelBits(page, vcpus)
        self.channels.add_domain(domid, bits, vcpus, privileged=domid == 0)
        if self.abi == "fifo":
            for vcpu in range(vcpus):
                self.init_control(domid, vcpu)
            self.expand(domid)

    def init_control(self, domid: int, vcpu: int) -> None:
        page = self.controls[domid, vcpu] = self.page(domid)
        assert self.channels.init_control(domid, page.first, 128, vcpu) == 17

    def expand(self, domid: int) -> None:
        page = self.page(domid)
        self.words.setdefault(domid, []).append(page.u32)
        self.channels.expand_array(domid, page.first)

    def connect(self, local: int = 1, remote: int = 2) -> tuple[int, int]:
        """An interdomain channel with no event pending: (port of local, port of remote)."""
        remote_port = self.channels.alloc_unbound(remote, remote, local)
        local_port = self.channels.bind_interdomain(local, remote, remote_port)
        assert self.channels.bits(local).take(local_port)
        self.upcalls.clear()
        return local_port, remote_port


def refused(call: Callable[..., object], *args: int) -> int:
    """The errno with which a hypercall is refused."""
    with pytest.raises(HypercallError) as refusal:
        call(*args)
    return -refusal.value.status
