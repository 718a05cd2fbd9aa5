"""A backend device and its whole neighbourhood on the minimal machine: the store as a toolstack
leaves it, the xenbus engine, and a guest of which the test writes every key by hand."""

from __future__ import annotations

from typing import Any

import pytest
from vif_peers import GUEST, HOST, Stack

from xennet.netback.device import Vif
from xennet.netback.policy import LINUX, BackendPolicy, VifOptions
from xennet.testing.minimal_hypervisor import MinimalMachine, MinimalStore
from xennet.testing.raw_frontend import RawFrontend
from xennet.xenbus.backend import Backend
from xennet.xenstore.errors import XsError

#: In the stash of a test that passes only if it fails, because of this.
MUST_FAIL = pytest.StashKey[str]()

BE = f"/local/domain/{HOST}/backend/vif/{GUEST}/0"
FE = f"/local/domain/{GUEST}/device/vif/0"
NODENAME = f"backend/vif/{GUEST}/0"


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
    """One queue of a guest whose frontend is driven by hand."""

    def __init__(self, front: RawFrontend, number: int) -> None:
        self.front, self.number = front, number
        made = front.queues[number]
        self.tx_ring, self.tx_ref, self.rx_ref = made.tx, made.tx_ref, made.rx_ref
        self.tx_port, self.rx_port = made.tx_port, made.rx_port
        self.payload = front.data_page.run

    def tx(self, size: int = 60, flags: int = 0) -> None:
        ident = self.tx_ring.req_prod_pvt & 0xFF
        self.front.tx(size, flags, ident, queue=self.number)

    def publish(self) -> None:
        """Publish the tx requests, with an event if the backend wants one."""
        self.front.push_tx(self.number)

    def send(self, size: int = 60, flags: int = 0) -> None:
        """One request, published; then everything settles."""
        self.tx(size, flags)
        self.publish()
        self.front.settle()

    def statuses(self) -> list[int]:
        return [one.status for one in self.front.responses(self.number, arm=False)]


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
        front = RawFrontend(self.guest, settle=self.run)
        front.allocate(queues=queues, split=split)
        self.queues = [GuestQueue(front, number) for number in range(queues)]
        front.publish({"multi-queue-num-queues": queues})

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

    def add_ctrl_ring(self) -> RawFrontend:
        """A frontend that has a control ring, published, and nothing else."""
        front = RawFrontend(self.guest, settle=self.run)
        front.allocate(queues=0, ctrl=True)
        self.publish(ctrl_ring_ref=str(front.ctrl_ref), event_channel_ctrl=str(front.ctrl_port))
        return front

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
