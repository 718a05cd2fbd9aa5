"""A domain of a real Xen as drivers see it: xennet.interface.Hypervisor for a Linux process.

The libraries of the Xen tools, the devices in /dev/xen and the store do what the hypervisor and the
kernel do for the emulated machine's guests. netback and netfront run on both, unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from xennet.interface import GrantMapping, PageRun, StoreClient
from xennet.observe import Interest, Observers
from xennet.pump import Pump
from xennet.xen.event_channels import EventChannels
from xennet.xen.foreign_pages import ForeignPage, Gntdev
from xennet.xen.granted_pages import GntallocGrants
from xennet.xen.own_pages import OwnPages
from xennet.xen.store_connection import StoreConnection


class XenHypervisor:
    """The domain in which this process runs; ``pump``, which needs a real clock, watches its
    descriptors.

    ``store_path`` is a socket or a device of XenStore (None: where libxenstore looks). Devices are
    opened when they are first needed: a backend needs no gntalloc, a frontend no gntdev. Raises
    XenError without a store. ``observers`` get what drivers emit.
    """

    def __init__(self, pump: Pump, store_path: str | None = None) -> None:
        loop = pump.run_loop
        self._loop = loop
        self._store = StoreConnection(loop, pump.watch, store_path)
        self._domid = self._store.domid
        self.observers = Observers(loop.keep)
        self.pages = OwnPages(self._domid)
        self._grants = GntallocGrants(self.pages)
        self.gntdev = Gntdev(self.pages)
        self.events = EventChannels(loop, self._domid, pump.watch)
        # What a driver does for every frame, without a step in between.
        self.notify = self.events.notify
        self.grant_copy = self.gntdev.copy
        self.emit = self.observers.emit
        self.interest: Callable[[type], Interest] = self.observers.interest

    @property
    def domid(self) -> int:
        """The domain's number."""
        return self._domid

    @property
    def grants(self) -> GntallocGrants:
        """The granting side: gntalloc."""
        return self._grants

    @property
    def store(self) -> StoreClient:
        """The domain's XenStore connection."""
        return self._store.client

    def alloc_pages(self, count: int) -> PageRun:
        """Allocate ``count`` consecutive zeroed pages of the process's own. Raises OutOfFramesError
        if there is no such run."""
        return self.pages.alloc(count)

    def free_pages(self, pages: PageRun) -> None:
        """Free a whole run of alloc_pages; its views end. Raises ValueError for any other run."""
        self.pages.free(pages)

    def map_grant(self, domid: int, gref: int, readonly: bool = False) -> ForeignPage:
        """xengnttab_map_grant_ref. Raises HypercallError on refusal."""
        return self.gntdev.map(domid, gref, readonly)

    def unmap_grant(self, mapping: GrantMapping) -> None:
        """xengnttab_unmap; the views of the page end."""
        self.gntdev.unmap(mapping)

    def alloc_unbound(self, remote_domid: int) -> int:
        """xenevtchn_bind_unbound_port: a port to which ``remote_domid`` can bind."""
        return self.events.bind_unbound(remote_domid)

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> int:
        """xenevtchn_bind_interdomain: a port bound to a remote one."""
        return self.events.bind_interdomain(remote_domid, remote_port)

    def on_event(self, port: int, handler: Callable[[], None]) -> None:
        """Run ``handler()`` when an event arrives at ``port``."""
        self.events.on_event(port, handler)

    def mask(self, port: int) -> None:
        """Hold events of ``port`` back."""
        self.events.mask(port)

    def unmask(self, port: int) -> None:
        """Let them through; one that came meanwhile arrives now."""
        self.events.unmask(port)

    def close_port(self, port: int) -> None:
        """xenevtchn_unbind; no event of the port is handled any more."""
        self.events.unbind(port)

    def defer(self, work: Callable[[], None]) -> None:
        """Run ``work()`` later, as a delivery of the run loop."""
        self._loop.defer(self._domid, work)

    @property
    def now(self) -> int:
        """The run loop's time in ns."""
        return self._loop.now

    def call_after(
        self, delay: int, work: Callable[[], None], *, background: bool = False
    ) -> Callable[[], None]:
        """Run ``work()`` in ``delay`` ns. Returns a function that prevents it."""
        timer = self._loop.call_after(delay, self._domid, work, background=background)

        def cancel() -> None:
            self._loop.cancel_timer(timer)

        return cancel

    def left(self) -> str:
        """What drivers have not given back, "" if that is nothing."""
        held = (
            (self.pages.used, "pages"),
            (len(self._grants), "grants"),
            (len(self.gntdev), "mapped pages"),
            (len(self.events), "event channels"),
        )
        return ", ".join(f"{count} {what}" for count, what in held if count)

    def close(self) -> None:
        """Give everything back and close all devices. May be repeated. Raises HypercallError if
        one refuses; all others are closed nevertheless."""
        with ExitStack() as rest:
            rest.callback(self._store.close)
            rest.callback(self.pages.close)
            rest.callback(self._grants.close)
            rest.callback(self.gntdev.close)
            rest.callback(self.events.close)
