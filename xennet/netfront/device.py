"""The frontend's end of a vif: what a netfront driver does around its rings.

A :class:`Netfront` is the driver of one frontend directory: it reads the backend's features, makes
its :class:`~xennet.netfront.queues.Queues`, publishes its keys and posts its buffers.
xennet.xenbus.frontend decides when; the kind (xennet.netfront.kinds) decides what it publishes.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Protocol, cast

from xennet.abi.netif import XEN_NETIF_EXTRA_TYPE_MCAST_ADD, XEN_NETIF_EXTRA_TYPE_MCAST_DEL
from xennet.flow.hash_config import HashConfig
from xennet.flow.steering import Steering
from xennet.frames import ETHERNET_HEADER, DrivesRings, Endpoint
from xennet.interface import Hypervisor
from xennet.netfront.backend_features import BackendFeatures, prefix_types, read_backend_features
from xennet.netfront.buffers import GrantedPages
from xennet.netfront.control_ring import ControlClient
from xennet.netfront.counters import NetfrontCounters
from xennet.netfront.driven import DrivenRings
from xennet.netfront.keys import FrontendKeys, stale
from xennet.netfront.kinds import LINUX, FrontendKind
from xennet.netfront.multicast import MulticastChange
from xennet.netfront.negotiated import Negotiated
from xennet.netfront.options import DEFAULTS, MAX_XDP_HEADROOM, NetfrontOptions
from xennet.netfront.queue import Queue
from xennet.netfront.queues import Queues
from xennet.netfront.rss import ask_for_hashes
from xennet.netfront.verdict import BackendError
from xennet.vif.ring_events import tell_given_up
from xennet.xenbus.device import DeviceWatch, StoreValue, XenbusDevice, raise_later
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.nodes import NodeDirectory
from xennet.xenbus.paths import VifDirectories, vif_name
from xennet.xenstore.errors import XsError

_MAC = re.compile(rb"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
DEFAULT_MTU = 1500
#: Least and largest mtu that is no garbage: that of IPv4, and what a packet can carry.
MIN_MTU, MAX_MTU = 68, 65535 - ETHERNET_HEADER
#: ns after which pages are tried again that the backend had not let go of (Linux 6.1
#: drivers/xen/grant-table.c, gnttab_handle_deferred: HZ, for ever).
HELD_PERIOD = 1_000_000_000


class Reconfigurable(Protocol):
    """What :meth:`Netfront.set_xdp_headroom` needs of xennet.xenbus.frontend.Frontend."""

    def reconfigure(
        self,
        nodes: Iterable[tuple[str, StoreValue]],
        on_done: Callable[[bool], None] | None = None,
    ) -> None: ...


class Netfront:
    """A frontend vif.

    ``guest`` is the network stack's side: it gives packets to send and takes those that came; a new
    ``guest`` counts from the next connection on. ``carrier``: packets can flow. ``error``: how the
    backend broke the protocol, None if it did not. ``counters`` run over all connections and
    queues. ``mac``, ``mtu`` (bytes, without the Ethernet header) and ``xdp_headroom`` (bytes) are
    those of the last connection. ``control`` is the control ring, if both ends know of it;
    ``hashing`` is how frames to be sent are hashed. ``multicast`` are the group addresses that the
    guest wants.
    """

    def __init__(
        self,
        hv: Hypervisor,
        guest: Endpoint,
        kind: FrontendKind = LINUX,
        options: NetfrontOptions = DEFAULTS,
    ) -> None:
        self.hv = hv
        self.guest = guest
        self.kind = kind
        self.options = options
        self.counters = NetfrontCounters()
        self.mac = b""
        self.mtu = DEFAULT_MTU
        self.xdp_headroom = options.xdp_headroom
        self.error: BackendError | None = None
        self.hashing = HashConfig()
        self.control: ControlClient | None = None
        self.multicast: list[bytes] = []
        self._queues: Queues | None = None
        self._lent_to: DrivesRings | None = None
        self._features: BackendFeatures | None = None
        self._headroom = False
        self._connected = False
        self._link_up = True
        self._carrier_watch: DeviceWatch | None = None
        # Pages that a backend still used when it said that it had closed.
        self._held: list[GrantedPages] = []
        self._cancel_retry: Callable[[], None] = _nothing

    def __repr__(self) -> str:
        return f"<Netfront {len(self.queues)} queues, carrier {'on' if self.carrier else 'off'}>"

    @property
    def carrier(self) -> bool:
        """Whether both ends are connected, the link is up and nothing is broken."""
        return self._connected and self._link_up and self.error is None

    @property
    def link_up(self) -> bool:
        """The backend's carrier as it was read last; True while not connected, and without the
        node."""
        return self._link_up

    @property
    def steering(self) -> Steering | None:
        """What gives the queues of the present connection the guest's frames, if anything does."""
        return self._queues.steering if self._queues is not None else None

    @property
    def queues(self) -> Sequence[Queue]:
        """The queues of the present connection; none without one."""
        return self._queues.all if self._queues is not None else ()

    @property
    def queue(self) -> Queue | None:
        """The first queue of the present connection; None without one."""
        return self.queues[0] if self.queues else None

    @property
    def held_pages(self) -> int:
        """Number of pages that cannot be freed because the backend still uses a grant of theirs."""
        return sum(granted.pages.count for granted in self._held)

    # -- a connection (xennet.xenbus.frontend.FrontendDriver) --------------------------------------

    def setup(self, dev: XenbusDevice) -> Sequence[tuple[str, StoreValue]] | XenbusError:
        kind, options, own = self.kind, self.options, dev.own
        if kind.needs_rx_copy and (useless := declined(dev.otherend)) is not None:
            return useless
        self._free_held()
        trusted = options.trusted
        if trusted is None:
            trusted = own.optional_unsigned("trusted", 1) != 0
        features = read_backend_features(dev.otherend, kind)
        self.mac = read_mac(own)
        self._headroom = kind.xdp and dev.otherend.optional_unsigned("feature-xdp-headroom") != 0
        self.mtu = read_mtu(own)
        self.error = None
        offload = features.offload(options, self.mtu)
        negotiated = Negotiated(
            otherend_id=dev.otherend_id,
            can_sg=offload.sg,
            gso_types=offload.gso_types,
            hashes=features.control_ring,
            gso_prefix_types=prefix_types(options, kind),
            checksum_setup=kind.checksum_setup,
            split=features.splits(kind, options),
            late_eoi=kind.late_eoi,
            bounce=not trusted,
            vif=vif_name(self.hv.domid, dev.nodename),
        )
        self._features = features
        queues = self._queues = Queues(
            self.hv,
            features.queues(options),
            negotiated,
            guest=self.guest,
            counters=self.counters,
            hashing=self.hashing,
            on_broken=self._broken,
        )
        control = None
        if negotiated.hashes:
            client = self.control = ControlClient(
                self.hv, dev.otherend_id, self._broken, negotiated.vif
            )
            control = client.ring_ref, client.port
        count = features.max_queues is not None
        keys = FrontendKeys(kind, options, queues.all, count, control).keys()
        kept = [("xdp-headroom", 0)] if self._headroom else []
        for name in stale(own, [*keys, *kept]):
            dev.store.rm(own.node(name))
        if self._headroom:
            dev.write("xdp-headroom", self.xdp_headroom)
        self.hashing.reset()
        self.guest.negotiated(offload)
        return keys

    def ready(self, dev: XenbusDevice) -> None:
        self._the_queues().ready()

    def connected(self, dev: XenbusDevice) -> None:
        self._connected = True
        queues = self._the_queues()
        for mac in self.multicast:
            self._amend(XEN_NETIF_EXTRA_TYPE_MCAST_ADD, mac)
        if self.control is not None:
            ask_for_hashes(self.control, len(queues.all), self.hashing)
        self._watch_carrier(dev)
        queues.start()
        self._lend(queues.all)

    def disconnect(self, dev: XenbusDevice) -> None:
        self._lend([])
        self._connected = False
        if self._carrier_watch is not None:
            self._carrier_watch.cancel()
        if self._queues is not None:
            self._held += self._queues.disconnect()
        if self.control is not None:
            self._held += self.control.disconnect()
        self._forget()
        self._free_held()

    def moved(self, hv: Hypervisor) -> None:
        """Go on as a driver of ``hv``; everything that was shared stays behind in the old
        domain."""
        self.hv = hv
        self._lend([])
        if self._queues is not None:
            self._queues.stop()
            self._queues.drop_waiting()
        self._held.clear()
        self._forget()

    # -- what is told of it (xennet.vif.end.VifEnd) ------------------------------------------------

    def reasons(self, seen: VifDirectories) -> Iterator[str]:
        if self._link_up:
            return
        node, value = seen.backend.node("carrier"), seen.backend.optional_text("carrier")
        if seen.backend.optional_unsigned("carrier", 1) == 0:
            yield f"the backend has no carrier: {node} = {value}"
        else:
            yield f'the frontend has not heard yet that there is a carrier: {node} = "{value}"'

    def remarks(self) -> Iterator[str]:
        if self.counters.unvalidated:
            yield (
                f"GSO packets that came without data_validated: {self.counters.unvalidated}; "
                f"{self.kind.unvalidated}"
            )

    # -- what the guest does -----------------------------------------------------------------------

    def kick(self) -> None:
        """Kick all queues: the guest may have packets to send, or room for more that came."""
        if self._queues is not None:
            for queue in self._queues.all:
                queue.kick()

    def set_xdp_headroom(
        self,
        frontend: Reconfigurable,
        headroom: int,
        on_done: Callable[[bool], None] | None = None,
    ) -> None:
        """Have the backend leave ``headroom`` bytes free before each packet, 0 to 32767.

        Needs a connection, which is reconfigured through Reconfiguring and Reconfigured;
        ``on_done(success)`` is called at the end. Raises XenbusError EOPNOTSUPP if either end knows
        no headroom, or as Frontend.reconfigure does; ValueError for a headroom out of range.
        """
        if not 0 <= headroom <= MAX_XDP_HEADROOM:
            raise ValueError(f"an XDP headroom of {headroom} bytes is not in 0..{MAX_XDP_HEADROOM}")
        if not self._headroom:
            raise XenbusError(errno.EOPNOTSUPP, "XDP headroom was not negotiated")

        def done(success: bool) -> None:
            if success:
                self.xdp_headroom = headroom
            if on_done is not None:
                on_done(success)

        frontend.reconfigure([("xdp-headroom", headroom)], done)

    def multicast_add(self, mac: bytes) -> MulticastChange | None:
        """Have frames to the group address ``mac`` delivered, in this connection and later ones.

        Returns the change, or None while there is no backend that keeps a list.
        """
        if len(mac) != 6 or not mac[0] & 1:
            raise ValueError(f"{mac.hex(':')} is not a multicast address")
        self.multicast.append(mac)
        return self._amend(XEN_NETIF_EXTRA_TYPE_MCAST_ADD, mac)

    def multicast_del(self, mac: bytes) -> MulticastChange | None:
        """Take back one :meth:`multicast_add`. Raises ValueError if there was none."""
        self.multicast.remove(mac)
        return self._amend(XEN_NETIF_EXTRA_TYPE_MCAST_DEL, mac)

    # -- the rest ----------------------------------------------------------------------------------

    def _lend(self, queues: Sequence[Queue]) -> None:
        """Show the guest the rings of the connection, if it may drive some itself; none: it is over
        for whom was shown some."""
        if queues:
            # isinstance of DrivesRings takes ten times as long.
            drives = hasattr(self.guest, "rings")
            self._lent_to = cast(DrivesRings, self.guest) if drives else None
        if self._lent_to is not None:
            try:
                self._lent_to.rings([DrivenRings(queue) for queue in queues])
            except Exception as error:
                raise_later(self.hv, error)
        if not queues:
            self._lent_to = None

    def _amend(self, kind: int, mac: bytes) -> MulticastChange | None:
        if self._queues is None or not self._connected or not self._takes_multicast_requests():
            return None
        change = MulticastChange(kind, mac)
        queue = self._queues.all[0]
        queue.multicast.add(change)
        queue.kick()
        return change

    def _takes_multicast_requests(self) -> bool:
        return self._features is not None and self._features.multicast_control

    def _watch_carrier(self, dev: XenbusDevice) -> None:
        """Read and watch the carrier; without the node the link is up (xen/io/netif.h, "Link
        state").

        Linux's netfront never looks for it, so a node that does not exist yet is watched only if
        that is wanted.
        """
        if not self.options.carrier and not dev.otherend.optional_text("carrier"):
            return
        self._carrier(dev)
        with suppress(XsError):  # a store that refuses the watch: what was just read holds
            self._carrier_watch = dev.watch_otherend("carrier", lambda: self._carrier(dev))

    def _carrier(self, dev: XenbusDevice) -> None:
        up = dev.otherend.optional_unsigned("carrier", 1) != 0
        if self._queues is not None and up != self._link_up:
            self._link_up = up
            self._queues.set_link(up)

    def _forget(self) -> None:
        self._connected = False
        self._link_up = True
        self._carrier_watch = None
        self._queues = None
        self._features = None
        self._headroom = False
        self.control = None

    def _free_held(self) -> None:
        """Free the pages that the backend has let go of, and try the others later.

        The device may be gone by then (gnttab_handle_deferred).
        """
        self._held = [granted for granted in self._held if not granted.end()]
        self._cancel_retry()
        if self._held:
            self._cancel_retry = self.hv.call_after(HELD_PERIOD, self._free_held, background=True)

    def _the_queues(self) -> Queues:
        if self._queues is None:
            raise XenbusError(errno.ENODEV, "no queue was set up")
        return self._queues

    def _broken(self, error: BackendError) -> None:
        self.error = error
        raw = (error.word,)
        tell_given_up(self.hv, "backend", error.ring, error.index, raw, error.rule, error.text)
        if self._queues is not None:
            self._queues.stop()


def _nothing() -> None:
    """Do nothing: there is no timer to cancel."""


def declined(keys: NodeDirectory) -> XenbusError | None:
    """Why a backend that does not copy to the guest cannot be used: its node as it was found.

    It may be a backend that shows InitWait before its features are there (QEMU's xen-net-device).
    Linux ("backend does not support copying receive path") and FreeBSD then wait for the next
    change of its state, which never comes.
    """
    try:
        if keys.unsigned("feature-rx-copy"):
            return None
    except XenbusError as missing:
        return missing
    return XenbusError(
        errno.ENODEV, "offers no copies", path=keys.node("feature-rx-copy"), value=b"0"
    )


def read_mac(own: NodeDirectory) -> bytes:
    """The guest's address. Raises XenbusError if the node is missing or holds none."""
    text = own.raw("mac")
    if not _MAC.fullmatch(text):
        raise XenbusError(errno.EINVAL, "is not a MAC address", path=own.node("mac"), value=text)
    return bytes.fromhex(text.decode().replace(":", ""))


def read_mtu(own: NodeDirectory) -> int:
    """The ``mtu`` node; 1500 if it is missing or garbage (field bug 10)."""
    mtu = own.optional_unsigned("mtu", DEFAULT_MTU)
    return mtu if MIN_MTU <= mtu <= MAX_MTU else DEFAULT_MTU
