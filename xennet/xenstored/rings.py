"""The ring pages of domains in the machine: domain 0's end of them, and the guests' own.

xenstored maps a domain's page through the reserved grant reference and binds the port that
XS_INTRODUCE names. A guest's request is synchronous: the guest writes it into the page, domain 0
serves this one ring at once, and the answer is in the page when the request returns, as if domain 0
were always quicker than the guest. Where nobody looks on, it is answered in one step, which leaves
the page and the event bits as all the events would have left them. A watch event, which answers no
request, makes an upcall through the run loop.

With ``deliveries`` a request is a delivery of its own: domain 0 is notified, and while the guest
waits for the answer other domains go on, in the order that the run loop's ``meanwhile`` picks. So a
toolstack, or the other end of a vif, can act between two requests of one driver.
"""

from __future__ import annotations

from contextlib import suppress

from xennet.abi.grant_table import GNTTAB_RESERVED_XENSTORE, GNTMAP_host_map
from xennet.abi.xs_numbers import XENSTORE_RING_SIZE
from xennet.engine.choice import shared
from xennet.hypervisor import Domain, Machine, RoundTrip, StoreRing
from xennet.interface import HypercallError
from xennet.xenstore import Store, WireConnection, XsConnectionError, XsError
from xennet.xenstore.handlers import Server
from xennet.xenstore.ring_client import RingChannel, reconnect
from xennet.xenstore.ring_page import RingPage
from xennet.xenstore.ring_server import RingServer
from xennet.xenstore.session import Session
from xennet.xenstore.tapped_session import open_session

#: Most deliveries of other domains while a request waits. Then domain 0 serves its ring at once, so
#: that no schedule starves it.
PATIENCE = 1000


class _ServedRing:
    """Domain 0's end of the ring of ``domain``: the mapped page, the bound port, the server.

    Raises HypercallError, with nothing held, if the page cannot be mapped or the port not be bound.
    """

    def __init__(
        self, dom0: Domain, domain: Domain, ring: StoreRing, port: int, deliveries: bool
    ) -> None:
        self._dom0 = dom0
        self._domain = domain
        self._domid = domid = domain.domid
        self._ring = ring
        self._trip: RoundTrip | None = None
        # With deliveries, output for a watch event must not handle a request that waits.
        self._output = self._flush if deliveries else self._handle
        self.name = ""
        self._server: RingServer | None = None
        self._tapped = False
        status, handle, page = dom0.map_grant_ref(domid, GNTTAB_RESERVED_XENSTORE, GNTMAP_host_map)
        if page is None:
            what = f"reference {GNTTAB_RESERVED_XENSTORE} of domain {domid}"
            raise HypercallError("GNTTABOP_map_grant_ref", status, what)
        self._page = RingPage.over(page, shared)
        ring.server_handle = handle
        try:
            self._bind(port)
        except HypercallError:
            self._unmap()
            raise

    def __repr__(self) -> str:
        return f"<the ring of domain {self._domid}, served>"

    def serve(self, server: Server) -> None:
        """Begin to answer the domain, which has been introduced."""

        def session() -> Session:
            self._tapped = server.tap is not None
            return open_session(server, self._domid, name=self.name, on_output=self._output)

        self._server = RingServer(
            self._page, session, self._notify, server.features_of(self._domid)
        )

    def introduce_again(self, port: int) -> None:
        """Use another port and begin anew. Raises HypercallError if the port cannot be bound."""
        self._unbind()
        self._bind(port)
        if self._server is not None:
            self._server.introduced_again()

    def rename(self, name: str) -> None:
        """Call the domain's connection ``name``, for observers."""
        self.name = name
        if self._server is not None and name:
            self._server.session.connection.name = name

    def run(self) -> bool:
        """Take a pending event of the port and serve the ring. Returns False if there was nothing
        to do."""
        dom0, port, server = self._dom0, self._ring.server_port, self._server
        if not dom0.running:
            return False
        if port is not None:
            dom0.poll(port)
        return server is not None and server.run()

    def answer(self, domain: Domain, port: int, request: bytes) -> bytes | None:
        """Answer ``request`` of ``domain`` in one step: it sends an event by its ``port``, which
        domain 0 takes, and takes that of the answer.

        None, with nothing done, unless that is the same, as far as anybody could see: nothing is on
        its way, only this process sees the event bits, and the page with them, and nobody observes.
        Empty: the answer is to be received, as always.
        """
        server, trip = self._server, self._trip
        if (
            server is None
            or trip is None
            or trip.port != port
            or domain is not self._domain
            or self._tapped
            or len(request) > XENSTORE_RING_SIZE
        ):
            return None
        return server.answer(request, trip.make)

    def close(self) -> None:
        """Release the page and the port: the domain is released or dead."""
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
        server_port = self._dom0.bind_interdomain(self._domid, port)
        self._ring.server_port = server_port
        self._trip = self._domain.round_trip(port, self._dom0, server_port)
        self._dom0.set_handler(server_port, self._handle)
        self._dom0.unmask(server_port)

    def _unbind(self) -> None:
        if self._ring.server_port is not None:
            self._dom0.close(self._ring.server_port)
            self._ring.server_port = self._trip = None

    def _unmap(self) -> None:
        if self._ring.server_handle is not None:
            self._dom0.unmap_grant_ref(self._ring.server_handle)
            self._ring.server_handle = None


class _GuestPort:
    """A guest's port to the store (a :class:`~xennet.xenstore.ring_client.StorePort`): domain 0
    serves the ring as soon as it is notified."""

    def __init__(self, rings: StoreRings, domain: Domain, port: int) -> None:
        self._rings = rings
        self._domain = domain
        self._port = port

    @property
    def up(self) -> bool:
        domain = self._domain
        return domain.running and not domain.own_kernel

    def notify(self) -> None:
        self.send_event()
        self.pump()

    def send_event(self) -> None:
        """EVTCHNOP_send; raises XsConnectionError if it is refused."""
        try:
            self._domain.send(self._port)
        except HypercallError as error:
            raise XsConnectionError("", str(error)) from error

    def pump(self) -> bool:
        ring = self._rings.served.get(self._domain.domid)
        return ring is not None and ring.run()

    def at_once(self, request: bytes) -> bytes | None:
        """The answer to ``request`` in one step, if that is the same (_ServedRing.answer)."""
        ring = self._rings.served.get(self._domain.domid)
        return None if ring is None else ring.answer(self._domain, self._port, request)

    def take_event(self) -> None:
        self._domain.poll(self._port)


class _QueuedPort(_GuestPort):
    """A guest's port to the store: domain 0 serves the ring when the loop delivers its event."""

    _patience = PATIENCE

    def notify(self) -> None:
        self.send_event()
        self._patience = PATIENCE

    def at_once(self, request: bytes) -> bytes | None:
        return None

    def pump(self) -> bool:
        domid = self._domain.domid
        if not self._rings.serving(domid):
            raise XsConnectionError("", f"domain 0 does not serve the ring of domain {domid}")
        self._patience -= 1
        if self._patience >= 0 and self._rings.step_meanwhile(domid):
            return True
        return super().pump()


class StoreRings:
    """All rings of ``machine``, answered by ``server`` (implements xennet.xenstore.store.RingHost).

    ``deliveries``: a guest's request is a delivery of its own.
    """

    def __init__(self, machine: Machine, server: Server, deliveries: bool = False) -> None:
        self._machine = machine
        self._server = server
        self._store: Store = server.store
        self._dom0 = machine.domain(0)
        #: Domain 0's ends of the rings, by their domains.
        self.served: dict[int, _ServedRing] = {}
        self._users: dict[int, WireConnection] = {}
        self._deliveries = deliveries
        self._store.rings = self

    def __repr__(self) -> str:
        return f"<StoreRings of domains {sorted(self.served)}>"

    # -- domain 0's end ----------------------------------------------------------------------------

    def introduce(self, domid: int, gfn: int, port: int) -> None:
        """XS_INTRODUCE: connect a domain's ring page. A second call means another port and a fresh
        start.

        As in C xenstored the page is that of grant reference 1, not ``gfn``. Raises XsError EINVAL
        if the page or the port cannot be used. Domain 0 has no ring: nothing happens.
        """
        if domid == 0:
            return
        try:
            self._introduce(domid, port)
        except HypercallError as error:
            raise XsError("EINVAL", str(domid), f"cannot be introduced: {error}") from error

    def forget(self, domid: int) -> None:
        """Release the page and the port of a domain that is released or dead."""
        self._users.pop(domid, None)
        ring = self.served.pop(domid, None)
        if ring is not None:
            ring.close()

    def serving(self, domid: int) -> bool:
        """Whether domain 0 runs and serves the ring of domain ``domid``."""
        return self._dom0.running and domid in self.served

    def step_meanwhile(self, domid: int) -> bool:
        """Make one delivery of another domain while ``domid`` waits. Returns False if there is
        none."""
        return self._machine.run_loop.step_meanwhile(domid) is not None

    def _introduce(self, domid: int, port: int) -> None:
        served = self.served.get(domid)
        if served is not None:
            served.introduce_again(port)
            return
        domain = next((d for d in self._machine.domains if d.domid == domid), None)
        if domain is None or domain.store_ring is None:
            raise XsError("EINVAL", str(domid), "no domain with a ring page")
        served = _ServedRing(self._dom0, domain, domain.store_ring, port, self._deliveries)
        self.served[domid] = served
        self._store.introduce(domid)
        served.serve(self._server)
        served.run()

    # -- the guest's end ---------------------------------------------------------------------------

    def connect(self, domain: Domain, name: str) -> WireConnection:
        """A connection of an introduced guest's kernel; ``name`` is for observers.

        It takes the ring over from an earlier connection, whose watches and transactions are
        dropped. Raises XsError ENOENT if the domain was not introduced with a ring.
        """
        ring, served = domain.store_ring, self.served.get(domain.domid)
        if ring is None or served is None:
            raise XsError("ENOENT", str(domain.domid), "not introduced with a ring page")
        kind = _QueuedPort if self._deliveries else _GuestPort
        page, port = RingPage.over(ring.page, shared), kind(self, domain, ring.port)
        served.rename(name)
        earlier = self._users.get(domain.domid)
        if earlier is not None:
            earlier.close()
            reconnect(page, port)
        connection = self._users[domain.domid] = WireConnection(
            RingChannel(page, port), name, at_once=port.at_once
        )

        def arrived() -> None:
            # A lost connection raises at the next request.
            with suppress(XsError):
                connection.arrived()

        domain.set_handler(ring.port, arrived)
        domain.unmask(ring.port)
        port.take_event()
        return connection
