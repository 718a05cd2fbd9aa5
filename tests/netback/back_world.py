"""A backend device and its whole neighbourhood on the minimal machine: the store as a toolstack
leaves it, the xenbus engine, and a guest of which the test writes every key by hand."""

from __future__ import annotations

from typing import Any

import pytest
from vif_peers import GUEST, HOST, Stack, announce

from xennet.abi.netif import TX_REQUEST, TX_RESPONSE
from xennet.netback.device import Vif
from xennet.netback.policy import LINUX, BackendPolicy, VifOptions
from xennet.ring import FrontRing, ctrl_ring, rx_ring, tx_ring
from xennet.testing.minimal_hypervisor import MinimalMachine, MinimalStore
from xennet.xenbus.backend import Backend
from xennet.xenstore.errors import XsError

#: In the stash of a test that passes only if it fails, because of this.
MUST_FAIL = pytest.StashKey[str]()

BE = f"/local/domain/{HOST}/backend/vif/{GUEST}/0"
FE = f"/local/domain/{GUEST}/device/vif/0"
NODENAME = f"backend/vif/{GUEST}/0"

#: What a Linux frontend says besides rings and channels.
FEATURES = {
    "request-rx-copy": "1",
    "feature-rx-notify": "1",
    "feature-sg": "1",
    "feature-gso-tcpv4": "1",
    "feature-gso-tcpv6": "1",
    "feature-ipv6-csum-offload": "1",
}


class LoggedStore(MinimalStore):
    """A connection that remembers what changes the store: (operation, path, value)."""

    def __init__(self, machine: MinimalMachine, domid: int) -> None:
        super().__init__(machine, domid)
        self.log: list[tuple[str, str, str]] = []

    def write(self, path: str, value: bytes | str | int) -> None:
        super().write(path, value)
        self.log.append(("WRITE", path, value.decode() if isinstance(value, bytes) else str(value)))

    def rm(self, path: str) -> None:
        super().rm(path)
        self.log.append(("RM", path, ""))

    def watch(self, path: str, token: str, callback: Any) -> None:
        super().watch(path, token, callback)
        self.log.append(("WATCH", path, ""))

    def unwatch(self, path: str, token: str) -> None:
        super().unwatch(path, token)
        self.log.append(("UNWATCH", path, ""))


class GuestQueue:
    """Rings, granted pages and unbound channels of one queue, as a guest sets them up."""

    def __init__(self, world: BackWorld, *, split: bool) -> None:
        self.world = world
        guest = world.guest
        grant = guest.grants.grant_access
        pages = guest.alloc_pages(1), guest.alloc_pages(1)
        self.tx_ring = FrontRing.init(tx_ring(pages[0].u8, pages[0].u32))
        self.rx_ring = FrontRing.init(rx_ring(pages[1].u8, pages[1].u32))
        self.tx_ref, self.rx_ref = (grant(HOST, page.first) for page in pages)
        self.tx_port = self.rx_port = guest.alloc_unbound(HOST)
        if split:
            self.rx_port = guest.alloc_unbound(HOST)
        self.split = split
        self.payload = guest.alloc_pages(1)
        self.gref = grant(HOST, self.payload.first)

    def keys(self) -> dict[str, str]:
        found = {"tx-ring-ref": self.tx_ref, "rx-ring-ref": self.rx_ref}
        if self.split:
            found |= {"event-channel-tx": self.tx_port, "event-channel-rx": self.rx_port}
        else:
            found["event-channel"] = self.tx_port
        return {name: str(value) for name, value in found.items()}

    def tx(self, size: int = 60, flags: int = 0) -> None:
        raw = TX_REQUEST.pack(self.gref, 0, flags, self.tx_ring.req_prod_pvt & 0xFF, size)
        self.tx_ring.sring.write_slot(self.tx_ring.req_prod_pvt, raw)
        self.tx_ring.req_prod_pvt += 1

    def publish(self) -> None:
        """Publish the tx requests, with an event if the backend wants one."""
        wanted = self.tx_ring.push_requests_and_check_notify()
        announce(wanted, self.world.guest, self.tx_port)

    def send(self, size: int = 60, flags: int = 0) -> None:
        """One request, published; then everything settles."""
        self.tx(size, flags)
        self.publish()
        self.world.run()

    def statuses(self) -> list[int]:
        taken = []
        while self.tx_ring.unconsumed_responses:
            raw = self.tx_ring.sring.copy_slot(self.tx_ring.rsp_cons)
            taken.append(TX_RESPONSE.unpack_from(raw)[1])
            self.tx_ring.rsp_cons += 1
        return taken


class BackWorld:
    """The device has been probed and waits in InitWait; nothing of the guest is there yet."""

    def __init__(
        self,
        *,
        own: dict[str, str] | None = None,
        policy: BackendPolicy = LINUX,
        options: VifOptions | None = None,
    ) -> None:
        self.machine = MinimalMachine()
        self.guest, self.host = self.machine.domain(GUEST), self.machine.domain(HOST)
        self.log = self.host.store = LoggedStore(self.machine, HOST)
        self.nodes = MinimalStore(self.machine, HOST)
        directory = {
            "frontend": FE,
            "frontend-id": str(GUEST),
            "online": "1",
            "state": "1",
            "script": "/etc/xen/scripts/vif-bridge",
            "mac": "00:16:3e:00:00:01",
            "handle": "0",
            "hotplug-status": "connected",
        }
        for name, value in (directory | (own or {})).items():
            if value:
                self.nodes.write(f"{BE}/{name}", value)
        for name, value in (("backend", BE), ("backend-id", str(HOST)), ("state", "1")):
            self.nodes.write(f"{FE}/{name}", value)
        self.stack = Stack()
        self.vif = Vif(self.host, self.stack, policy, options)
        self.backend = Backend(self.host, NODENAME, self.vif, rules=policy.rules)
        self.backend.start()
        self.run()
        self.queues: list[GuestQueue] = []

    def run(self) -> None:
        self.machine.run()

    def advance(self, ns: int) -> None:
        self.machine.advance(ns)
        self.machine.run()

    def publish(self, **changes: str | None) -> None:
        """Change keys of the guest; underscores stand for dashes, double ones for slashes."""
        for name, value in changes.items():
            path = f"{FE}/{name.replace('__', '/').replace('_', '-')}"
            if value is None:
                self.guest.store.rm(path)
            else:
                self.guest.store.write(path, value)

    def prepare(self, queues: int = 1, *, split: bool = False) -> None:
        """Fresh rings and all keys of a Linux frontend for them."""
        self.queues = [GuestQueue(self, split=split) for _ in range(queues)]
        for name, value in FEATURES.items():
            self.guest.store.write(f"{FE}/{name}", value)
        self.guest.store.write(f"{FE}/multi-queue-num-queues", str(queues))
        for number, queue in enumerate(self.queues):
            below = f"{FE}/queue-{number}" if queues > 1 else FE
            for name, value in queue.keys().items():
                self.guest.store.write(f"{below}/{name}", value)

    def state(self, number: int) -> None:
        """The guest writes its state."""
        self.guest.store.write(f"{FE}/state", str(number))
        self.run()

    def connect(self, queues: int = 1, *, split: bool = False, **changes: str | None) -> None:
        """:meth:`prepare`, change some keys, and go to Connected."""
        self.prepare(queues, split=split)
        self.publish(**changes)
        self.state(4)

    def reconnect(self, queues: int = 1, *, split: bool = False) -> None:
        """The guest closes and starts again."""
        self.state(5)
        self.state(6)
        self.state(1)
        self.connect(queues, split=split)

    def add_ctrl_ring(self) -> tuple[FrontRing, int]:
        """A control ring, published; the ring and its port."""
        page = self.guest.alloc_pages(1)
        ring = FrontRing.init(ctrl_ring(page.u8, page.u32))
        port = self.guest.alloc_unbound(HOST)
        ref = self.guest.grants.grant_access(HOST, page.first)
        self.publish(ctrl_ring_ref=str(ref), event_channel_ctrl=str(port))
        return ring, port

    @property
    def own_state(self) -> str:
        return self.own("state")

    def own(self, name: str) -> str:
        """A node of the backend; empty if there is none."""
        try:
            return self.nodes.read(f"{BE}/{name}").decode()
        except XsError:
            return ""

    @property
    def error(self) -> str:
        """The device's error node; empty if there is none."""
        try:
            return self.nodes.read(f"error/{NODENAME}/error").decode()
        except XsError:
            return ""

    def held(self) -> tuple[int, int, int]:
        """Mappings, ports and frames of the backend."""
        frames = sum(frame.owner == HOST for frame in self.machine.frames.values())
        return len(self.host.mappings), len(self.host.ports), frames
