"""struct xnb_pkt: one packet as it lies in a ring, in either direction."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from attrs import define, field

#: Most packets need none.
_NONE: Mapping[int, Any] = MappingProxyType({})


@define
class Extra:
    """The GSO view of a netif_extra_info.

    ``type`` is XEN_NETIF_EXTRA_TYPE_*, ``gso_size`` bytes of one segment, ``gso_type``
    XEN_NETIF_GSO_TYPE_*.
    """

    type: int = 0
    flags: int = 0
    gso_size: int = 0
    gso_type: int = 0
    gso_pad: int = 0
    gso_features: int = 0


@define
class Pkt:
    """A packet, named by the slots that carry it (struct xnb_pkt).

    ``car``       ring index (32 bits) of the first data slot
    ``cdr``       ring index of the second data slot; from there on they are consecutive. With one
                  data slot it is only the index after it (and after its extra info)
    ``extra``     the extra info, if ``flags`` has *_extra_info
    ``size``      bytes of the whole packet, 16 bits
    ``car_size``  bytes in the first data slot: ``size`` minus all later slots, modulo 2^16
    ``flags``     NETTXF_* without more_data, or NETRXF_*: the bits differ between tx and rx
    ``list_len``  data slots, extra info not counted. 0 means that there was no packet; a packet
                  that is in error keeps its count (defect A21)
    ``error``     the packet must not be used

    What follows is no part of the struct; only fixed defects (xennet.netback.xnb.known) use it.

    ``extras``    extra infos behind the first data slot (0) and behind later ones
    ``adds_up``   the later slots hold no more than ``size``
    ``oversize``  a slot is longer than a page, and ``adds_up``
    ``amends``    the request amends the multicast list and carries no packet
    ``gso``       ``extra`` has GSO data that counts
    ``slots``     data slots of a packet in error whose list_len is 0
    ``copies``    ring index -> the slot as it was when it was first read
    """

    car: int = 0
    cdr: int = 0
    extra: Extra = field(factory=Extra)
    size: int = 0
    car_size: int = 0
    flags: int = 0
    list_len: int = 0
    error: bool = False
    extras: Mapping[int, int] = field(default=_NONE, eq=False)
    adds_up: bool = field(default=True, eq=False)
    oversize: bool = field(default=False, eq=False)
    amends: bool = field(default=False, eq=False)
    gso: bool = field(default=False, eq=False)
    slots: int = field(default=0, eq=False)
    copies: Mapping[int, bytes] = field(default=_NONE, eq=False, repr=False)

    def initialize(self) -> None:
        """All fields zero, which is a valid packet of no slots (xnb_pkt_initialize)."""
        self.car = self.cdr = self.size = self.car_size = self.flags = self.list_len = 0
        self.extra = Extra()
        self.error = False
        self.extras = self.copies = _NONE
        self.adds_up, self.slots = True, 0
        self.oversize = self.amends = self.gso = False

    def validate(self) -> None:
        """xnb_pkt_validate."""
        self.error = False

    def invalidate(self) -> None:
        """xnb_pkt_invalidate."""
        self.error = True

    @property
    def is_valid(self) -> bool:
        """xnb_pkt_is_valid."""
        return not self.error
