"""The ring pages of domains in the machine: domain 0's end of them, and the guests' own.

xenstored maps a domain's page through the reserved grant reference and binds the port that
XS_INTRODUCE names. A guest's request is synchronous: it goes into the page, domain 0 serves this
one ring at once, and the answer is in the page when the request returns, as if domain 0 were
quicker than the guest. What comes unasked, a watch event, makes an upcall through the run loop.

With ``deliveries`` a request is a delivery of its own: domain 0 is notified, and while the guest
waits for the answer other domains go on, in the order that the run loop's ``meanwhile`` picks. So a
toolstack, or the other end of a vif, can act between two requests of one driver.
"""

from __future__ import annotations

from contextlib import suppress

from xennet.abi.grant_table import GNTTAB_RESERVED_XENSTORE, GNTMAP_host_map
from xennet.hypervisor import Domain, Machine, StoreRing
from xennet.interface import HypercallError
from xennet.xenstore import Store, WireConnection, XsConnectionError, XsError
from xennet.xenstore.handlers import Server
from xennet.xenstore.ring_client import RingChannel, reconnect
from xennet.xenstore.ring_page import RingPage
from xennet.xenstore.ring_server import RingServer
from xennet.xenstore.session import Session

#: Deliveries that a request waits through, at most, before domain 0 serves its ring at once:
#: whoever picks them cannot starve it.
PATIENCE = 1000


class _ServedRing:
    """Domain 0's end of one domain's ring: the mapped page, the bound port, the server.

    HypercallError if the page cannot be mapped or the port not be bound; nothing is held then.
    """

    def __init__(
        self, dom0: Domain, domid: int, ring: StoreRing, port: int, deliveries: bool
    ) -> None:
        self._dom0 = dom0
        self._domid = domid
        self._ring = ring
        # A request that waits is for its own delivery, not for whoever causes a watch event.
        self._output = self._flush if deliveries else self._handle
        self.name = ""
        self._server: RingServer | None = None
        status, handle, page = dom0.map_grant_ref(domid, GNTTAB_RESERVED_XENSTORE, GNTMAP_host_map)
        if page is None:
            what = f"reference {GNTTAB_RESERVED_XENSTORE} of domain {domid}"
            raise HypercallError("GNTTABOP_map_grant_ref", status, what)
        self._page = RingPage.over(page)
        ring.server_handle = handle
        try:
            self._bind(port)
        except HypercallError:
            self._unmap()
            raise

    def serve(self, server: Server) -> None:
        """The domain is introduced: answer it from now on."""

        def session() -> Session:
            return Session(server, self._domid, name=self.name, on_output=self._output)

        self._server = RingServer(
            self._page, session, self._notify, server.features_of(self._domid)
        )

    def introduce_again(self, port: int) -> None:
        """Use another port (HypercallError if it cannot be bound) and start anew."""
        self._unbind()
        self._bind(port)
        if self._server is not None:
            self._server.introduced_again()

    def rename(self, name: str) -> None:
        """What observers see the domain's requests come from."""
        self.name = name
        if self._server is not None and name:
            self._server.session.connection.name = name

    def run(self) -> bool:
        """Take the event of the port, if there is one, and serve the ring; False if there was
        nothing to do."""
        if not self._dom0.running:
            return False
        if self._ring.server_port is not None:
            self._dom0.poll(self._ring.server_port)
        return self._server is not None and self._server.run()

    def close(self) -> None:
        """The domain is released or dead."""
        if self._server is not None:
            self._server.close()
        self._unbind()
        self._unmap()

    def _handle(self) -> None:
        self.run()

    def _flush(self) -> None:
        if self._dom0.running and self._server is not None:
            self._server.flush()

    def _notify(self) -> bool:
        port = self._ring.server_port
        if port is None:
            return False
        try:
            self._dom0.send(port)
        except HypercallError:
            return False
        return True

    def _bind(self, port: int) -> None:
        self._ring.server_port = self._dom0.bind_interdomain(self._domid, port)
        self._dom0.set_handler(self._ring.server_port, self._handle)
        self._dom0.unmask(self._ring.server_port)

    def _unbind(self) -> None:
        if self._ring.server_port is not None:
            self._dom0.close(self._ring.server_port)
            self._ring.server_port = None

    def _unmap(self) -> None:
        if self._ring.server_handle is not None:
            self._dom0.unmap_grant_ref(self._ring.server_handle)
            self._ring.server_handle = None


class _GuestLine:
    """A guest's port to the store (:class:`xennet.xenstore.ring_client.Line`): to notify is to be
    served at once."""

    def __init__(self, rings: StoreRings, domain: Domain, port: int) -> None:
        self._rings = rings
        self._domain = domain
        self._port = port

    @property
    def up(self) -> bool:
        return self._domain.running

    def notify(self) -> None:
        self.tell()
        self.pump()

    def tell(self) -> None:
        """Send the event."""
        try:
            self._domain.send(self._port)
        except HypercallError as error:
            raise XsConnectionError("", str(error)) from error

    def pump(self) -> bool:
        return self._rings.serve(self._domain.domid)

    def take_event(self) -> None:
        self._domain.poll(self._port)


class _DeliveredLine(_GuestLine):
    """A guest's port to the store where domain 0 is served its events in its turn."""

    _patience = PATIENCE

    def notify(self) -> None:
        self.tell()
        self._patience = PATIENCE

    def pump(self) -> bool:
        domid = self._domain.domid
        if not self._rings.serving(domid):
            raise XsConnectionError("", f"domain 0 does not serve the ring of domain {domid}")
        self._patience -= 1
        if self._patience >= 0 and self._rings.step_meanwhile(domid):
            return True
        return super().pump()


class StoreRings:
    """All rings of ``machine`` that ``server`` answers (xennet.xenstore.store.RingHost).

    ``deliveries``: a guest's request is a delivery of its own.
    """

    def __init__(self, machine: Machine, server: Server, deliveries: bool = False) -> None:
        self._machine = machine
        self._server = server
        self._store: Store = server.store
        self._dom0 = machine.domain(0)
        self._served: dict[int, _ServedRing] = {}
        self._users: dict[int, WireConnection] = {}
        self._deliveries = deliveries
        self._store.rings = self

    # -- domain 0's end ----------------------------------------------------------------------------

    def introduce(self, domid: int, gfn: int, port: int) -> None:
        """XS_INTRODUCE: connect a ring page. Again: another port, and a fresh start.

        Like C xenstored it takes the page from grant reference 1, not from ``gfn``. XsError EINVAL
        when that or the port is of no use. Nothing happens to domain 0, which has no ring.
        """
        if domid == 0:
            return
        try:
            self._introduce(domid, port)
        except HypercallError as error:
            raise XsError("EINVAL", str(domid), f"cannot be introduced: {error}") from error

    def forget(self, domid: int) -> None:
        """The domain is released or dead: let go of its page and port."""
        self._users.pop(domid, None)
        ring = self._served.pop(domid, None)
        if ring is not None:
            ring.close()

    def serve(self, domid: int) -> bool:
        """Let domain 0 work on the ring of one domain; False if there was nothing to do."""
        ring = self._served.get(domid)
        return ring is not None and ring.run()

    def serving(self, domid: int) -> bool:
        """Whether domain 0 runs, and answers the ring of this domain."""
        return self._dom0.running and domid in self._served

    def step_meanwhile(self, domid: int) -> bool:
        """Let another domain go on while this one waits; False if none can."""
        return self._machine.run_loop.step_meanwhile(domid) is not None

    def _introduce(self, domid: int, port: int) -> None:
        served = self._served.get(domid)
        if served is not None:
            served.introduce_again(port)
            return
        domain = next((d for d in self._machine.domains if d.domid == domid), None)
        if domain is None or domain.store_ring is None:
            raise XsError("EINVAL", str(domid), "no domain with a ring page")
        served = _ServedRing(self._dom0, domid, domain.store_ring, port, self._deliveries)
        self._served[domid] = served
        self._store.introduce(domid)
        served.serve(self._server)
        served.run()

    # -- the guest's end ---------------------------------------------------------------------------

    def connect(self, domain: Domain, name: str) -> WireConnection:
        """The connection of an introduced guest's kernel, which observers call ``name``.

        It takes the ring over from the one before, whose watches and transactions are dropped.
        XsError ENOENT if the domain was not introduced with a ring.
        """
        ring, served = domain.store_ring, self._served.get(domain.domid)
        if ring is None or served is None:
            raise XsError("ENOENT", str(domain.domid), "not introduced with a ring page")
        kind = _DeliveredLine if self._deliveries else _GuestLine
        page, line = RingPage.over(ring.page), kind(self, domain, ring.port)
        served.rename(name)
        earlier = self._users.get(domain.domid)
        if earlier is not None:
            earlier.close()
            reconnect(page, line)
        connection = self._users[domain.domid] = WireConnection(RingChannel(page, line), name)

        def arrived() -> None:
            # A connection that is lost says so to the next request.
            with suppress(XsError):
                connection.arrived()

        domain.set_handler(ring.port, arrived)
        domain.unmask(ring.port)
        line.take_event()
        return connection
