"""The result of a negotiation, for all queues of a vif during one connection."""

from __future__ import annotations

from attrs import field, frozen

from xennet.abi.xen import PAGE_SIZE


@frozen(eq=False, repr=False)
class Negotiated:
    """What holds during one connection.

    ``otherend_id``: the backend's domain. The backend takes: ``can_sg`` packets of several slots,
    ``gso_types`` (bit t for GSO type t), ``hashes`` hash extra info. It may announce packets of
    ``gso_prefix_types`` by a prefix slot. ``checksum_setup``: packets with csum_blank are checked,
    and GSO packets without it repaired. ``split``: a channel for each ring. ``late_eoi``: the
    backend's spurious events delay the next ones (xennet.vif.late_eoi). ``bounce``: the backend is
    not trusted, so no granted page may hold a byte that was not meant for it (XSA-403). ``vif``:
    the vif's name, for recordings.
    """

    otherend_id: int
    can_sg: bool = False
    gso_types: int = 0
    hashes: bool = False
    gso_prefix_types: int = 0
    checksum_setup: bool = True
    split: bool = False
    late_eoi: bool = True
    bounce: bool = False
    vif: str = "vif"
    #: A page of zeros with which kernels wipe pages; a single byte if they do not.
    zeros: memoryview = field(init=False, eq=False, repr=False)

    @zeros.default
    def _zeros(self) -> memoryview:
        return memoryview(bytearray(PAGE_SIZE if self.bounce else 1))
