"""Both ends of a control ring: together, or one of them with a peer that is driven by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from vif_peers import BACKEND, FRONTEND

from xennet import testing
from xennet.abi.netif import CTRL_REQUEST, CTRL_RESPONSE
from xennet.flow.hash_config import HashConfig
from xennet.hypervisor import Machine
from xennet.hypervisor.guest_kernel import GuestKernel
from xennet.netback.control_ring import ControlRing
from xennet.netback.verdict import FrontendError
from xennet.netfront.control_ring import ControlClient, Reply
from xennet.netfront.verdict import BackendError
from xennet.testing.minimal_hypervisor import MinimalMachine
from xennet.vif.counters import BackendCounters
from xennet.xenstored.service import XenStoreService

SUCCESS, NOT_SUPPORTED, INVALID_PARAMETER, BUFFER_OVERFLOW = 0, 1, 2, 3


class Site(Protocol):
    """Two domains: ``host`` for the backend, ``guest`` for the frontend."""

    host: Any
    guest: Any

    def run(self) -> None: ...

    def held(self) -> list[str]:
        """What the two domains hold, one line for each thing; empty if nothing."""
        ...


class MinimalSite:
    def __init__(self) -> None:
        self.machine = MinimalMachine()
        self.host: Any = self.machine.domain(0)
        self.guest: Any = self.machine.domain(1)

    def run(self) -> None:
        self.machine.run()

    def held(self) -> list[str]:
        return self.machine.held()


class EmulatorSite:
    def __init__(self, grant_version: int = 1) -> None:
        self.machine = Machine(1024, max_grant_frames=4)
        dom0 = self.machine.create_domain(name="Domain-0")
        service = XenStoreService(self.machine)
        guest = self.machine.create_domain(name="guest", grant_version=grant_version)
        self.host: Any = GuestKernel(dom0, service.connect(dom0))
        self.guest: Any = GuestKernel(guest, service.connect(guest))
        self.run()
        self._references = self.guest.grants.held

    def run(self) -> None:
        self.machine.run_loop.run_until_idle()

    def held(self) -> list[str]:
        leaks = self.machine.leaks()
        lines = str(leaks).splitlines() if leaks else []
        if self.guest.grants.held != self._references:
            lines.append("grant references")
        return lines

    def close(self) -> None:
        self.machine.close()


class Ends:
    """A client and a ring that is connected to it."""

    def __init__(self, site: Site, *, queues: int = 4, static_grefs: int = 0) -> None:
        self.site = site
        self.broken: list[BackendError] = []
        self.fatal: list[FrontendError] = []
        self.config = HashConfig()
        self.client = ControlClient(site.guest, site.host.domid, self.broken.append)
        self.back = ControlRing(
            site.host,
            site.guest.domid,
            self.client.ring_ref,
            self.client.port,
            self.config,
            on_fatal=self.fatal.append,
            counters=BackendCounters(),
            queues=queues,
            static_grefs=static_grefs,
        )
        site.run()

    def ask(self, method: Callable[..., None], *args: Any, **more: Any) -> Reply:
        """The reply to one message."""
        replies: list[Reply] = []
        method(*args, **more, done=replies.append)
        self.site.run()
        (reply,) = replies
        return reply

    def request(self, kind: int, *data: int) -> tuple[int, int]:
        """Status and data of the reply to a request with these numbers."""
        reply = self.ask(self.client.request, kind, *data)
        return reply.status, reply.data

    def page(self, content: bytes = b"", *, readonly: bool = False) -> int:
        """A reference to a page of the guest's that starts with ``content``."""
        page = self.site.guest.alloc_pages(1)
        page.u8[: len(content)] = content
        self.last_page = page
        grants = self.site.guest.grants
        gref: int = grants.grant_access(self.site.host.domid, page.first, readonly)
        return gref

    def close(self) -> None:
        self.back.disconnect()
        assert self.client.disconnect() == []
        self.site.run()


class RawFrontend:
    """A guest that writes raw slots and indices for a real backend end, by a peer that is driven by
    hand."""

    def __init__(self, *, start: int = 0, queues: int = 4, static_grefs: int = 0) -> None:
        self.site = MinimalSite()
        guest = self.site.guest
        guest.store.write("device/vif/0/backend", BACKEND)
        guest.store.write("device/vif/0/backend-id", 0)
        self.peer = testing.RawFrontend(guest, settle=self.site.run)
        self.peer.allocate(queues=0, ctrl=True, start=start)
        self.ring = self.peer.ring("ctrl")
        self.ring_ref, self.port = self.peer.ctrl_ref, self.peer.ctrl_port
        self.fatal: list[FrontendError] = []
        self.counters = BackendCounters()
        self.config = HashConfig()
        self.options = {"queues": queues, "static_grefs": static_grefs}

    @property
    def events(self) -> int:
        return self.peer.ctrl_events

    def connect(self, **instead: int) -> ControlRing:
        """The backend connects, with what was published or something else ``instead``."""
        published = {"ring_ref": self.ring_ref, "event_channel": self.port} | instead
        self.back = ControlRing(
            self.site.host,
            1,
            config=self.config,
            on_fatal=self.fatal.append,
            counters=self.counters,
            **self.options,
            **published,
        )
        self.site.run()
        return self.back

    def put(self, raw: bytes) -> None:
        """A raw slot at the next request's place."""
        self.peer.slot(raw, ring="ctrl")

    def request(self, kind: int, *data: int, ident: int = 0) -> None:
        self.peer.ctrl(kind, *data, ident=ident)

    def publish(self) -> bool:
        """Publish the requests, with an event if the backend wants one; whether it does."""
        return self.peer.push_ctrl()

    def push(self) -> None:
        self.publish()
        self.site.run()

    def notify(self) -> None:
        """An event, whether or not it is wanted; then everything settles."""
        self.peer.notify("ctrl")
        self.site.run()

    def raw_responses(self) -> list[bytes]:
        """The new response slots, whole."""
        return [one.raw for one in self.peer.ctrl_responses(arm=False)]

    def responses(self) -> list[tuple[int, ...]]:
        """(id, type, status, data) of the new responses."""
        return [CTRL_RESPONSE.unpack_from(raw) for raw in self.raw_responses()]


class RawBackend:
    """A driver domain that answers a real client with raw slots, by a peer that is driven by
    hand."""

    def __init__(self) -> None:
        self.site = MinimalSite()
        self.broken: list[BackendError] = []
        self.client = ControlClient(self.site.guest, 0, self.broken.append)
        host = self.site.host
        for node, value in (
            (f"{FRONTEND}/multi-queue-num-queues", 0),
            (f"{FRONTEND}/ctrl-ring-ref", self.client.ring_ref),
            (f"{FRONTEND}/event-channel-ctrl", self.client.port),
            (f"{BACKEND}/frontend", FRONTEND),
            (f"{BACKEND}/frontend-id", 1),
        ):
            host.store.write(node, value)
        self.peer = testing.RawBackend(host, BACKEND, settle=self.site.run)
        self.peer.attach()
        self.ring, self.port = self.peer.ring("ctrl"), self.peer.ctrl_port
        (self.mapping,) = host.mappings
        self.site.run()
        self.peer.ctrl_events = 0

    @property
    def events(self) -> int:
        return self.peer.ctrl_events

    @events.setter
    def events(self, count: int) -> None:
        self.peer.ctrl_events = count

    def requests(self) -> list[tuple[int, ...]]:
        """(id, type, data 0, 1, 2) of the new requests, as many as a ring has, wherever req_prod
        is."""
        self.site.run()
        taken = []
        while self.ring.unconsumed_requests:
            taken.append(CTRL_REQUEST.unpack_from(self.ring.sring.copy_slot(self.ring.req_cons)))
            self.ring.req_cons += 1
        self.ring.final_check_for_requests()
        return taken

    def answer(self, ident: int, kind: int, status: int = 0, data: int = 0) -> None:
        self.peer.answer_ctrl(ident, kind, status, data)

    def publish(self) -> bool:
        """Publish the responses, with an event if the frontend wants one; whether it does."""
        return self.peer.push_ctrl()

    def push(self) -> None:
        self.publish()
        self.site.run()

    def notify(self) -> None:
        """An event, whether or not it is wanted; then everything settles."""
        self.peer.notify("ctrl")
        self.site.run()
