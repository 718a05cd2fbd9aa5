"""The event-channel hypercalls (xen/event_channel.h) over all domains of a machine.

Every refusal is a HypercallError with the negative errno that Xen 4.17 gives, after the same checks
in the same order (xen/common/event_channel.c).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Sequence

from attrs import define, field, frozen

from xennet.abi.event_channel import (
    EVTCHN_FIFO_LINK_BITS,
    EVTCHN_FIFO_PRIORITY_MAX,
    EVTCHN_FIFO_PRIORITY_MIN,
    EVTCHNSTAT_closed,
    EVTCHNSTAT_interdomain,
    EVTCHNSTAT_ipi,
    EVTCHNSTAT_unbound,
    EVTCHNSTAT_virq,
)
from xennet.abi.xen import DOMID_SELF, NR_VIRQS, VIRQS_GLOBAL
from xennet.evtchn.fifo import LAST_OFFSET, MAX_ARRAY_PAGES, FifoBits
from xennet.evtchn.pages import GuestPages
from xennet.evtchn.ports import Channel, PortBits, PortTable
from xennet.evtchn.two_level import TwoLevelBits
from xennet.interface import HypercallError
from xennet.memory import PageRun
from xennet.observe import EventSent, Interest, Observers, VirqRaised

#: Called with (domid, port) when a port became deliverable.
Upcall = Callable[[int, int], None]

#: A control block starts at a multiple of this many bytes.
_CONTROL_ALIGNMENT = 8

#: States from which EVTCHNOP_send may be made.
_CAN_SEND = frozenset({EVTCHNSTAT_unbound, EVTCHNSTAT_interdomain, EVTCHNSTAT_ipi})


@frozen
class ChannelStatus:
    """The answer of EVTCHNOP_status: ``status`` is EVTCHNSTAT_*; fields that it does not use are 0.

    ``dom`` is the domain that may bind (unbound) or the other end's domain, ``port`` the other
    end's port.
    """

    status: int
    vcpu: int = 0
    dom: int = 0
    port: int = 0
    virq: int = 0


#: State -> the fields of its status.
_STATUS_FIELDS: dict[int, Callable[[Channel], ChannelStatus]] = {
    EVTCHNSTAT_closed: lambda c: ChannelStatus(c.state, c.vcpu),
    EVTCHNSTAT_unbound: lambda c: ChannelStatus(c.state, c.vcpu, dom=c.remote_domid),
    EVTCHNSTAT_interdomain: lambda c: ChannelStatus(
        c.state, c.vcpu, dom=c.remote_domid, port=c.remote_port
    ),
    EVTCHNSTAT_virq: lambda c: ChannelStatus(c.state, c.vcpu, virq=c.virq),
    EVTCHNSTAT_ipi: lambda c: ChannelStatus(c.state, c.vcpu),
}


def _vcpu_can_move(channel: Channel) -> bool:
    """Whether EVTCHNOP_bind_vcpu may move a port; IPIs and per-vCPU VIRQs stay where they were
    bound."""
    return channel.state in (EVTCHNSTAT_unbound, EVTCHNSTAT_interdomain) or (
        channel.state == EVTCHNSTAT_virq and channel.virq in VIRQS_GLOBAL
    )


@define(eq=False, repr=False)
class EventChannels:
    """The port tables of all domains, and the hypercalls on them.

    ``caller`` is always the domid of the domain that makes the hypercall; it must exist. ``pages``
    finds the pages that guests give for the FIFO ABI. ``tables``, by domid, are to be looked at.
    """

    upcall: Upcall
    observers: Observers = field(factory=Observers)
    pages: GuestPages = field(factory=GuestPages)
    tables: dict[int, PortTable] = field(factory=dict, init=False)
    _sends: Interest = field(init=False)

    def __repr__(self) -> str:
        return f"<EventChannels of domains {sorted(self.tables)}>"

    @_sends.default
    def _interest_in_sends(self) -> Interest:
        return self.observers.interest(EventSent)

    def add_domain(
        self, domid: int, bits: TwoLevelBits, vcpus: int = 1, *, privileged: bool = False
    ) -> None:
        """Give a new domain an empty port table; ``bits`` is its ABI at first."""
        self.tables[domid] = PortTable(domid, vcpus, privileged, bits)

    def begin_dying(self, domid: int) -> None:
        """Close all ports of a domain and let none be opened there any more (evtchn_destroy)."""
        table = self.tables[domid]
        table.dying = True
        self._close_all(table)
        self._leave_fifo(table)

    def remove_domain(self, domid: int) -> None:
        """Forget a domain that is gone."""
        self.begin_dying(domid)
        del self.tables[domid]

    def bits(self, domid: int) -> PortBits:
        """The event bits of a domain, by the ABI that it uses."""
        return self.tables[domid].bits

    def use_two_level(self, domid: int) -> None:
        """Take a domain back to the 2-level ABI for a kernel that knows nothing of the one before:
        its ports stay open, the pages of the FIFO ABI are not used any more."""
        self._leave_fifo(self.tables[domid])

    def open_channels(self, domid: int) -> list[Channel]:
        """The ports of a domain that are in use, ascending. For reports: do not change them."""
        return self.tables[domid].open_channels()

    # The hypercalls

    def alloc_unbound(self, caller: int, dom: int, remote_dom: int) -> int:
        """Open a port of ``dom`` to which ``remote_dom`` can bind. Returns its number.

        -ESRCH no such ``dom``, -EINVAL it is dying, -ENOSPC no port left, -EPERM ``dom`` is another
        domain and the caller not privileged. ``remote_dom`` need not exist.
        """
        op = "EVTCHNOP_alloc_unbound"
        table = self._target(op, caller, dom)
        channel = table.next_free(op)
        self._require_control(op, caller, table)
        allowed = caller if remote_dom == DOMID_SELF else remote_dom
        table.occupy(channel, EVTCHNSTAT_unbound, remote_domid=allowed)
        return channel.port

    def bind_interdomain(self, caller: int, remote_dom: int, remote_port: int) -> int:
        """Connect a new port of the caller to an unbound one. Returns the local port.

        The local port is pending at once: an event that was sent before the binding is lost, so the
        caller has to look. -ESRCH no such domain, -ENOSPC, -EINVAL no such port or it does not wait
        for the caller.
        """
        op = "EVTCHNOP_bind_interdomain"
        table = self.tables[caller]
        remote_table = self._target(op, caller, remote_dom)
        channel = table.next_free(op)
        remote = remote_table.lookup(op, remote_port)
        if remote.state != EVTCHNSTAT_unbound or remote.remote_domid != caller:
            raise HypercallError(
                op,
                -errno.EINVAL,
                f"port {remote_port} of domain {remote_table.domid} does not wait for domain "
                f"{caller} (state {remote.state}, domain {remote.remote_domid})",
            )
        table.occupy(
            channel,
            EVTCHNSTAT_interdomain,
            remote_domid=remote_table.domid,
            remote_port=remote_port,
        )
        remote.state = EVTCHNSTAT_interdomain
        remote.remote_domid = caller
        remote.remote_port = channel.port
        self._set_pending(table, channel)
        return channel.port

    def bind_virq(self, caller: int, virq: int, vcpu: int) -> int:
        """Open a port for virtual interrupt ``virq``. Returns its number.

        -EINVAL no such VIRQ, or a global one on another vCPU than 0; -ENOENT no such vCPU; -EEXIST
        bound already; -ENOSPC.
        """
        op = "EVTCHNOP_bind_virq"
        table = self.tables[caller]
        if not 0 <= virq < NR_VIRQS:
            raise HypercallError(op, -errno.EINVAL, f"VIRQ {virq} is not in 0..{NR_VIRQS - 1}")
        if virq in VIRQS_GLOBAL and vcpu != 0:
            raise HypercallError(
                op, -errno.EINVAL, f"VIRQ {virq} is global: bind it on vCPU 0, not {vcpu}"
            )
        self._require_vcpu(op, table, vcpu)
        if (vcpu, virq) in table.virqs:
            raise HypercallError(
                op,
                -errno.EEXIST,
                f"VIRQ {virq} of vCPU {vcpu} is bound to port {table.virqs[vcpu, virq]}",
            )
        channel = table.next_free(op)
        table.occupy(channel, EVTCHNSTAT_virq, vcpu=vcpu, virq=virq)
        table.virqs[vcpu, virq] = channel.port
        return channel.port

    def bind_pirq(self, caller: int, pirq: int, flags: int) -> int:
        """Refused with -EINVAL: this machine has no physical interrupts (nr_pirqs is 0)."""
        raise HypercallError(
            "EVTCHNOP_bind_pirq",
            -errno.EINVAL,
            f"domain {caller} asks for PIRQ {pirq} (flags {flags:#x}); there are none",
        )

    def bind_ipi(self, caller: int, vcpu: int) -> int:
        """Open a port on which the caller sends to itself. -ENOENT no such vCPU, -ENOSPC."""
        op = "EVTCHNOP_bind_ipi"
        table = self.tables[caller]
        self._require_vcpu(op, table, vcpu)
        channel = table.next_free(op)
        table.occupy(
            channel, EVTCHNSTAT_ipi, vcpu=vcpu, remote_domid=caller, remote_port=channel.port
        )
        return channel.port

    def bind_vcpu(self, caller: int, port: int, vcpu: int) -> None:
        """Choose the vCPU that is notified.

        -ENOENT no such vCPU; -EINVAL no such port, or an IPI or per-vCPU VIRQ, whose binding is
        fixed.
        """
        op = "EVTCHNOP_bind_vcpu"
        table = self.tables[caller]
        self._require_vcpu(op, table, vcpu)
        channel = table.lookup(op, port)
        if not _vcpu_can_move(channel):
            raise HypercallError(
                op, -errno.EINVAL, f"port {port} (state {channel.state}) cannot change its vCPU"
            )
        channel.vcpu = vcpu

    def send(self, caller: int, port: int) -> None:
        """Make the other end of ``port`` pending.

        From an unbound port (the other end has closed, or has not bound yet) the event is dropped
        silently. -EINVAL for a port that is closed, bound to a VIRQ, or no port at all.
        """
        table = self.tables[caller]
        known = 0 <= port < len(table.channels)
        channel = table.channels[port] if known else table.lookup("EVTCHNOP_send", port)
        if channel.state not in _CAN_SEND:
            raise HypercallError(
                "EVTCHNOP_send",
                -errno.EINVAL,
                f"port {port} of domain {caller} cannot send (state {channel.state})",
            )
        delivered = False
        if channel.remote_port:
            table = self.tables[channel.remote_domid]
            # A port of the hypervisor's own record: there is one of that number.
            remote = table.channels[channel.remote_port]
            delivered = table.bits.set_pending(remote.port, remote.vcpu)
            if delivered or (table.awaited and table.is_awaited(remote.port)):
                self.upcall(table.domid, remote.port)
        if self._sends.any:
            self.observers.emit(
                EventSent(caller, port, channel.remote_domid, channel.remote_port, delivered)
            )

    def close(self, caller: int, port: int) -> None:
        """Close ``port``; the other end waits for the caller to bind again. -EINVAL not open."""
        op = "EVTCHNOP_close"
        table = self.tables[caller]
        channel = table.lookup(op, port)
        if not channel.open:
            raise HypercallError(op, -errno.EINVAL, f"port {port} of domain {caller} is not open")
        self._close(table, channel)

    def status(self, caller: int, dom: int, port: int) -> ChannelStatus:
        """The state of ``port`` of ``dom``. -ESRCH, -EINVAL no such port, -EPERM not the
        caller's."""
        op = "EVTCHNOP_status"
        table = self._target(op, caller, dom)
        channel = table.lookup(op, port)
        self._require_control(op, caller, table)
        return _STATUS_FIELDS[channel.state](channel)

    def unmask(self, caller: int, port: int) -> None:
        """Clear the mask bit, and deliver a pending event. Nothing happens for a closed port.

        -EINVAL no such port.
        """
        table = self.tables[caller]
        channel = table.lookup("EVTCHNOP_unmask", port)
        if channel.open and table.bits.unmask(port, channel.vcpu):
            self.upcall(caller, port)

    def reset(self, caller: int, dom: int) -> None:
        """Close all ports of ``dom``, which returns to the 2-level ABI.

        -ESRCH no such domain; -EPERM not the caller's; -EINVAL another domain's (Xen wants that one
        paused by its toolstack, and domains cannot be paused here).
        """
        op = "EVTCHNOP_reset"
        table = self._target(op, caller, dom)
        self._require_control(op, caller, table)
        if table.domid != caller:
            raise HypercallError(op, -errno.EINVAL, f"domain {table.domid} is not paused")
        self._close_all(table)
        self._leave_fifo(table)

    def init_control(self, caller: int, control_gfn: int, offset: int, vcpu: int) -> int:
        """Use byte ``offset`` of page ``control_gfn`` as a vCPU's control block. Returns link_bits.

        The first one changes the domain to the FIFO ABI: ports that are pending are made pending
        anew as they get event words. -ENOENT no such vCPU; -EINVAL the block crosses the page's
        end, is not 8-aligned, the vCPU has one already, or the domain has no such page.
        """
        op = "EVTCHNOP_init_control"
        table = self.tables[caller]
        self._require_vcpu(op, table, vcpu)
        if not 0 <= offset <= LAST_OFFSET:
            raise HypercallError(
                op, -errno.EINVAL, f"offset {offset} of a control block is not in 0..{LAST_OFFSET}"
            )
        if offset % _CONTROL_ALIGNMENT:
            raise HypercallError(
                op, -errno.EINVAL, f"offset {offset} of a control block is not 8-aligned"
            )
        fifo = table.fifo or FifoBits(table.two_level.page, table.vcpus)
        if fifo.has_control_block(vcpu):
            raise HypercallError(op, -errno.EINVAL, f"vCPU {vcpu} has a control block already")
        fifo.add_control_block(vcpu, self._map(op, caller, control_gfn), offset)
        if table.fifo is None:
            table.use_fifo(fifo)
        return EVTCHN_FIFO_LINK_BITS

    def expand_array(self, caller: int, array_gfn: int) -> None:
        """Use page ``array_gfn`` for the event words of the next 1024 ports.

        -EOPNOTSUPP before init_control, -ENOSPC there is a word for every port, -EINVAL the domain
        has no such page.
        """
        op = "EVTCHNOP_expand_array"
        table = self.tables[caller]
        fifo = table.fifo
        if fifo is None:
            raise HypercallError(op, -errno.EOPNOTSUPP, f"domain {caller} uses the 2-level ABI")
        if fifo.nr_array_pages >= MAX_ARRAY_PAGES:
            raise HypercallError(
                op, -errno.ENOSPC, f"domain {caller} has all {MAX_ARRAY_PAGES} event array pages"
            )
        for port in fifo.add_array_page(self._map(op, caller, array_gfn)):
            self._set_pending(table, table.lookup(op, port))

    def set_priority(self, caller: int, port: int, priority: int) -> None:
        """The queue for future events of ``port``: 0 is served first, 15 last, 7 is the default.

        -EINVAL no such port, -ENOSYS the domain uses the 2-level ABI, -EACCES the port is closed,
        -EINVAL no such priority.
        """
        op = "EVTCHNOP_set_priority"
        table = self.tables[caller]
        channel = table.lookup(op, port)
        if table.fifo is None:
            raise HypercallError(op, -errno.ENOSYS, f"domain {caller} uses the 2-level ABI")
        if not channel.open:
            raise HypercallError(op, -errno.EACCES, f"port {port} of domain {caller} is not open")
        if not EVTCHN_FIFO_PRIORITY_MAX <= priority <= EVTCHN_FIFO_PRIORITY_MIN:
            raise HypercallError(
                op, -errno.EINVAL, f"priority {priority} is not in 0..{EVTCHN_FIFO_PRIORITY_MIN}"
            )
        table.fifo.set_priority(port, priority)

    def poll(self, caller: int, port: int) -> bool:
        """Take a pending event of ``port``, masked or not. Returns whether there was one.

        This is SCHEDOP_poll of one port without blocking, and the guest's clearing of the pending
        bit. -EINVAL no such port. A closed port is never pending (xen/common/sched/core.c do_poll,
        evtchn_port_is_pending; Linux xen_poll_irq, xen_clear_irq_pending).
        """
        table = self.tables[caller]
        channel = table.lookup("SCHEDOP_poll", port)
        return channel.open and table.bits.take(port, masked=True)

    def await_ports(self, caller: int, ports: Collection[int]) -> bool:
        """SCHEDOP_poll without the sleep. Returns whether an event of any of ``ports`` is pending,
        masked or not; if not, the next event of one of them makes an upcall, masked or not, once
        (xen/common/sched/core.c do_poll, event_channel.c evtchn_check_pollers).

        -EINVAL if one of them is no port; the caller awaits none then.
        """
        table = self.tables[caller]
        table.awaited = frozenset()
        channels = [table.lookup("SCHEDOP_poll", port) for port in ports]
        if any(channel.open and table.bits.is_pending(channel.port) for channel in channels):
            return True
        table.awaited = frozenset(ports)
        return False

    # What the hypervisor itself does

    def settled(self, caller: int, port: int) -> tuple[int, int] | None:
        """(domid, port) of the other end of ``port``, if nothing is left there of events that are
        sent and taken (``is_settled``); else None."""
        channel = self.tables[caller].channels[port]
        if channel.state != EVTCHNSTAT_interdomain:
            return None
        table = self.tables[channel.remote_domid]
        remote = table.channels[channel.remote_port]
        settled = not table.awaited and table.bits.is_settled(remote.port, remote.vcpu)
        return (table.domid, remote.port) if settled else None

    def send_and_take(self, caller: int, port: int, remote_dom: int, remote_port: int) -> bool:
        """Send an event that the other end takes at once, and take one that comes back: two
        :meth:`send`, and :meth:`poll` of either end.

        Returns False where somebody could tell it from these: events are observed, polled for or
        prioritised, something is left of another one, the bits are not this process's alone, or
        ``remote_port`` of ``remote_dom`` is not the other end. Nothing is done then but what the
        first :meth:`send` and :meth:`poll` may repeat without a trace.
        """
        own = self.tables[caller]
        channel = own.channels[port]
        if channel.remote_port != remote_port or channel.remote_domid != remote_dom:
            return False
        table = self.tables[remote_dom]
        if self._sends.any or own.awaited or table.awaited:
            return False
        vcpu = table.channels[remote_port].vcpu
        return table.bits.pass_by(remote_port, vcpu) and own.bits.pass_by(port, channel.vcpu)

    def replay(
        self,
        domid: int,
        ports: Iterable[int],
        pending: Collection[int],
        last: tuple[int, int],
        sent: Sequence[int],
    ) -> None:
        """Make the event bits of a domain, of which nothing was left (:meth:`settled`), those that
        many sends and upcalls have left. Nobody is told.

        ``ports``: those to which events were sent; ``pending``: those of them whose events were not
        taken; ``sent``: those to which events were sent since the last upcall, in order; ``last``:
        the first and the last of those, or of those before.
        """
        table = self.tables[domid]
        bits = table.bits
        ends = tuple(dict.fromkeys(last))
        for each in ([port for port in ports if port not in ends], ends):
            for port in each:
                bits.set_pending(port, table.channels[port].vcpu)
            bits.take(-1)  # off the queues, but pending
            for port in each:
                if port in sent or port not in pending:
                    bits.take(port)
        for port in sent:
            bits.set_pending(port, table.channels[port].vcpu)

    def raise_virq(self, domid: int, virq: int, vcpu: int = 0) -> bool:
        """Send a virtual interrupt. Returns False if the domain is gone or has not bound it.

        A global VIRQ (``vcpu`` 0) arrives at the vCPU to which its port was moved.
        """
        table = self.tables.get(domid)
        port = table.virqs.get((vcpu, virq)) if table is not None else None
        if table is None or port is None:
            return False
        self._set_pending(table, table.lookup("VIRQ", port))
        if self.observers.wants(VirqRaised):
            self.observers.emit(VirqRaised(domid, virq, port))
        return True

    def _set_pending(self, table: PortTable, channel: Channel) -> None:
        deliverable = table.bits.set_pending(channel.port, channel.vcpu)
        if deliverable or (table.awaited and table.is_awaited(channel.port)):
            self.upcall(table.domid, channel.port)

    def _map(self, op: str, domid: int, gfn: int) -> PageRun:
        page = self.pages.map(domid, gfn)
        if page is None:
            raise HypercallError(
                op, -errno.EINVAL, f"domain {domid} has no page {gfn:#x} that it may offer"
            )
        return page

    def _leave_fifo(self, table: PortTable) -> None:
        for frame in table.leave_fifo():
            self.pages.unmap(frame)

    def _close_all(self, table: PortTable) -> None:
        for channel in table.open_channels():
            self._close(table, channel)

    def _close(self, table: PortTable, channel: Channel) -> None:
        if channel.state == EVTCHNSTAT_interdomain:
            remote = self.tables[channel.remote_domid].lookup("close", channel.remote_port)
            remote.state = EVTCHNSTAT_unbound
            remote.remote_domid = table.domid
            remote.remote_port = 0
        elif channel.state == EVTCHNSTAT_virq:
            table.virqs = {key: p for key, p in table.virqs.items() if p != channel.port}
        table.vacate(channel)

    def _target(self, op: str, caller: int, dom: int) -> PortTable:
        table = self.tables.get(caller if dom == DOMID_SELF else dom)
        if table is None:
            raise HypercallError(op, -errno.ESRCH, f"there is no domain {dom}")
        return table

    def _require_control(self, op: str, caller: int, table: PortTable) -> None:
        if table.domid != caller and not self.tables[caller].privileged:
            raise HypercallError(
                op, -errno.EPERM, f"domain {caller} may not do this to domain {table.domid}"
            )

    def _require_vcpu(self, op: str, table: PortTable, vcpu: int) -> None:
        if not 0 <= vcpu < table.vcpus:
            raise HypercallError(
                op, -errno.ENOENT, f"domain {table.domid} has {table.vcpus} vCPUs, not {vcpu}"
            )
