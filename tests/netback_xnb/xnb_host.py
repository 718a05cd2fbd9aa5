"""A host of the emulator with the seed's backend, and a guest of which the test writes every key
and every slot by hand."""

from __future__ import annotations

from vif_peers import Stack

from xennet.abi.netif import EXTRA_GSO, RX_REQUEST
from xennet.abi.xen import PAGE_SIZE
from xennet.host.host import Host
from xennet.netback.policies import policy
from xennet.ring import FrontRing
from xennet.testing.raw_frontend import RawFrontend, RxResponse
from xennet.xenbus.nodes import NodeDirectory


class XnbHost:
    """The vif waits in InitWait; ``stack`` is the host's side of it, ``front`` the guest's."""

    def __init__(self) -> None:
        self.host = Host()
        self.stack = Stack()
        self.host.dom0.load()
        self.plugged = self.host.plug(
            self.host.add_guest(), 0, Stack(), self.stack, policy=policy("xnb")
        )
        self.guest = self.plugged.guest.kernel
        self.front = RawFrontend(self.guest, settle=self.host.settle)
        self.payload = self.front.data
        self.host.settle()

    # What a frontend does

    def prepare(self, start: int = 0, **changes: str | None) -> None:
        """Rings whose indices are all ``start``, a channel, and the keys for them."""
        self.front.allocate(start=start)
        keys = {name.replace("_", "-"): value for name, value in changes.items()}
        self.front.publish({"feature-no-csum-offload": "0", **keys})

    def state(self, number: int) -> None:
        """The guest writes its state."""
        self.front.set_state(number)
        self.host.settle()

    def connect(self, start: int = 0, **changes: str | None) -> XnbHost:
        self.prepare(start, **changes)
        self.state(4)
        return self

    def put_and_push(self, *slots: list[int] | bytes) -> bool:
        """Push tx slots [size, flags, gref, offset] or raw extras; send an event if one is asked
        for, and say so."""
        for slot in slots:
            if isinstance(slot, bytes):
                self.front.slot(slot)
            else:
                size, flags, gref, offset = (*slot, *(0, 0, None, 0)[len(slot) :])
                self.front.tx(size, flags, gref=gref, offset=offset)
        asked = self.front.push_tx()
        self.host.settle()
        return asked

    def post(self, *grefs: int) -> None:
        """Push rx buffers."""
        for gref in grefs:
            self.front.slot(RX_REQUEST.pack(self.rx.req_prod_pvt & 0xFFFF, 0xAAAA, gref), ring="rx")
        self.front.push_rx()
        self.host.settle()

    def buffer(self) -> int:
        """A granted page."""
        return self.front.page().gref

    # What a host does

    def send(self, *lengths: int, gso: int = 0) -> None:
        self.stack.gso = (gso, 1 if gso else 0)
        self.stack.to_send += [self.payload * (length // PAGE_SIZE + 1) for length in lengths]
        self.stack.to_send = [
            frame[:length] for frame, length in zip(self.stack.to_send, lengths, strict=True)
        ]
        self.plugged.kick_host()
        self.host.settle()

    # What a test looks at

    @property
    def tx(self) -> FrontRing:
        return self.front.ring("tx")

    @property
    def rx(self) -> FrontRing:
        return self.front.ring("rx")

    @property
    def vif(self):
        return self.plugged.netback

    def own(self, name: str) -> str:
        """A node of the backend, empty if there is none."""
        return NodeDirectory(self.host.store, self.plugged.paths.backend).optional_text(name)

    @property
    def said(self) -> str:
        return self.host.states(self.plugged)

    def statuses(self) -> list[int]:
        """All new tx responses."""
        return [response.status for response in self.front.responses(arm=False)]

    def rx_responses(self) -> list[RxResponse]:
        """All new rx responses."""
        return self.front.rx_responses(arm=False)


def gso_extra(kind: int = 1, flags: int = 0) -> bytes:
    return EXTRA_GSO.pack(kind, flags, 1448, 1, 0, 0)
