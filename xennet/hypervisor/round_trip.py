"""An event to the other end of a channel and one that comes back, in one step."""

from __future__ import annotations

from xennet.evtchn import EventChannels
from xennet.hypervisor.domain_record import DomainRecord
from xennet.observe import Interest
from xennet.runloop import RunLoop, new_delivery


class RoundTrip:
    """Events between ``port`` of the domain of ``record`` and ``remote_port`` of that of
    ``remote``, which either end takes as soon as it is sent.

    ``hypercalls`` is the interest of observers in them.
    """

    def __init__(
        self,
        record: DomainRecord,
        port: int,
        remote: DomainRecord,
        remote_port: int,
        channels: EventChannels,
        run_loop: RunLoop,
        hypercalls: Interest,
    ) -> None:
        self._record = record
        self._remote = remote
        #: The port of the domain that sends first.
        self.port = port
        domid, remote_dom = record.info.domid, remote.info.domid
        self._ends = domid, port, remote_dom, remote_port
        self._channels = channels
        self._run_loop = run_loop
        self._hypercalls = hypercalls
        upcalls = ("evtchn", remote_dom, remote_port), ("evtchn", domid, port)
        self._upcalls = tuple(map(new_delivery, upcalls))

    def __repr__(self) -> str:
        domid, port, remote_dom, remote_port = self._ends
        return f"<RoundTrip {domid}:{port} to {remote_dom}:{remote_port} and back>"

    def make(self) -> bool:
        """Send an event that the other end takes, and take one that comes back: what
        :meth:`Domain.send` and :meth:`Domain.poll` of either end do.

        Returns False, with nothing done that these do not repeat without a trace, where anybody
        could tell it from them, one of the domains does not run, a kernel of its own would send the
        first event, or the ports are not joined.
        """
        record, loop = self._record, self._run_loop
        if (
            not (record.running and self._remote.running)
            or record.upcall is not None
            or self._hypercalls.any
            or loop.watcher is not None
            or not self._channels.send_and_take(*self._ends)
        ):
            return False
        loop.cancel_all(self._upcalls)  # left of events that were taken otherwise
        return True
