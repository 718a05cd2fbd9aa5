"""Changes of the backend's multicast list, requested with dummy tx requests."""

from __future__ import annotations

from collections import deque

from attrs import define, field

from xennet.netfront.tx_pass import TxPass


@define(eq=False)
class MulticastChange:
    """One change: ``kind`` XEN_NETIF_EXTRA_TYPE_MCAST_ADD or _DEL of ``mac`` (6 bytes).

    ``status`` is the backend's answer, NETIF_RSP_OKAY or _ERROR (the list is full), None until it
    comes.
    """

    kind: int
    mac: bytes
    status: int | None = None


@define(eq=False)
class MulticastRequests:
    """The changes that one queue has to request, and those that wait for their answer."""

    #: Whether there is anything to ask or to hear.
    busy: bool = field(init=False, default=False)
    _wanted: deque[MulticastChange] = field(init=False, factory=deque)
    _asked: dict[int, MulticastChange] = field(init=False, factory=dict)

    def add(self, change: MulticastChange) -> None:
        """Request ``change`` with the next pass."""
        self._wanted.append(change)
        self.busy = True

    def collect(self, tx: TxPass) -> None:
        """Take the answers of the last pass, before their ids are used again."""
        for ident, change in list(self._asked.items()):
            change.status = tx.outcome(ident)
            if change.status is not None:
                del self._asked[ident]
        self.busy = bool(self._wanted or self._asked)

    def ask(self, tx: TxPass) -> bool:
        """Put one request on the ring. Returns False if there is none, or no room for it."""
        if not self._wanted:
            return False
        change = self._wanted[0]
        ident = tx.put_multicast_request(change.kind, change.mac)
        if ident is None:
            return False
        self._asked[ident] = self._wanted.popleft()
        return True
