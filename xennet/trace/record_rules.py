"""Rules that one record shows to be broken, for the dissector and for the decoder in Python.

What only several records together show (a response that answers nothing, an id that is used twice)
is not among them. ``rule`` is an id of the rule book: that of the end that wrote the structure, if
both have one.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from xennet.abi import grant_table, netif, ring, xs_wire
from xennet.abi.codec import Codec
from xennet.abi.xen import PAGE_SIZE
from xennet.trace import records
from xennet.trace.records import Kind, Role

ETH_HLEN = 14
_WORD = 1 << 32


@frozen
class Number:
    """A number in a record: of its header or of its structure, ``size`` bytes at ``at``."""

    in_header: bool
    at: int
    size: int
    signed: bool

    def read(self, record: bytes, body: bytes) -> int | None:
        """Its value; None if the record is cut before its end."""
        raw = (record if self.in_header else body)[self.at : self.at + self.size]
        if len(raw) < self.size:
            return None
        return int.from_bytes(raw, "little", signed=self.signed)


@frozen
class When:
    """A condition: the bits ``mask`` of a field are ``value``."""

    field: str
    mask: int
    value: int


@frozen
class RecordRule:
    """``rule`` is broken if the sum of the fields ``plus``, without those of ``minus``, is not in
    ``low``..``high``, has a bit of ``bits``, or is none of ``among``, while all of ``when`` hold.

    With ``minus`` the sum is one modulo 2^32.
    """

    kind: Kind
    rule: str
    what: str
    plus: tuple[str, ...]
    minus: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None
    bits: int = 0
    among: frozenset[int] = frozenset()
    when: tuple[When, ...] = ()

    def number(self, field: str) -> Number:
        """Where a field is. Raises KeyError if the structure has none of that name."""
        if field in records.HEADER.fields:
            return _number(records.HEADER, field, in_header=True)
        structure = records.STRUCTURES[self.kind]
        for union in structure.unions().values():
            codec = structure.codec(union)
            for path in codec.fields:
                if records.clean(path) == field:
                    return _number(codec, path, in_header=False)
        raise KeyError(field)

    def broken(self, record: bytes, body: bytes) -> bool:
        """Whether ``record``, whose structure is ``body``, breaks it."""
        for one in self.when:
            value = self.number(one.field).read(record, body)
            if value is None or value & one.mask != one.value:
                return False
        total = 0
        for sign, fields in ((1, self.plus), (-1, self.minus)):
            for field in fields:
                value = self.number(field).read(record, body)
                if value is None:
                    return False
                total += sign * value
        total = total % _WORD if self.minus else total
        return (
            (self.low is not None and total < self.low)
            or (self.high is not None and total > self.high)
            or bool(total & self.bits)
            or bool(self.among and total not in self.among)
        )


def _number(codec: Codec, path: str, in_header: bool) -> Number:
    code = records.codes(codec)[path]
    return Number(in_header, codec.offsets[path], codec.sizes[path], code.islower() and code != "s")


def _unset(field: str, bits: int) -> When:
    return When(field, bits, 0)


def _role(role: Role) -> When:
    return When("role", 0xFF, role)


def _known(prefix: str, *, least: int = 0) -> frozenset[int]:
    """The values of the constants of netif.h that begin with ``prefix``, from ``least`` on."""
    return frozenset(value for value in records.constants(netif, prefix) if value >= least)


_TX_FLAGS = (
    netif.NETTXF_csum_blank
    | netif.NETTXF_data_validated
    | netif.NETTXF_more_data
    | netif.NETTXF_extra_info
)
_RX_FLAGS = sum(records.bit_names(netif, "NETRXF_"))
_GSO = When("type", 0xFF, netif.XEN_NETIF_EXTRA_TYPE_GSO)
_NEGATIVE = 0x8000
_BEYOND = "offset + size is beyond the page"
_TRANSFER = "GTF_accept_transfer: pages are not transferred"

RULES: tuple[RecordRule, ...] = (
    RecordRule(
        Kind.RING_HEADER,
        "ring.request-overflow",
        "req_prod - rsp_prod is more than a ring",
        ("req_prod",),
        ("rsp_prod",),
        high=ring.NETIF_TX_RING_SIZE,
    ),
    # The size of a first slot with more_data is that of the whole packet.
    RecordRule(
        Kind.TX_REQUEST,
        "netif.tx.slot-in-page",
        _BEYOND,
        ("offset", "size"),
        high=PAGE_SIZE,
        when=(_unset("flags", netif.NETTXF_more_data),),
    ),
    RecordRule(
        Kind.TX_REQUEST,
        "netif.tx.slot-in-page",
        _BEYOND,
        ("offset", "size"),
        high=PAGE_SIZE,
        when=(_role(Role.LATER_SLOT),),
    ),
    RecordRule(Kind.TX_REQUEST, "netif.tx.slot-in-page", _BEYOND, ("offset",), high=PAGE_SIZE),
    # A request with an extra info of a multicast address has no data.
    RecordRule(
        Kind.TX_REQUEST,
        "netif.tx.short-packet",
        f"a packet of less than {ETH_HLEN} bytes",
        ("size",),
        low=ETH_HLEN,
        when=(_role(Role.FIRST_SLOT), _unset("flags", netif.NETTXF_extra_info)),
    ),
    RecordRule(
        Kind.TX_REQUEST,
        "netif.front.tx.no-empty-slot",
        "a slot of size 0",
        ("size",),
        low=1,
        when=(_unset("flags", netif.NETTXF_extra_info),),
    ),
    RecordRule(
        Kind.TX_REQUEST,
        "netif.front.tx.flags",
        "a flag that there is not",
        ("flags",),
        bits=0xFFFF & ~_TX_FLAGS,
    ),
    RecordRule(
        Kind.TX_REQUEST,
        "netif.front.tx.flags",
        "a later slot with more than more_data",
        ("flags",),
        bits=0xFFFF & ~netif.NETTXF_more_data,
        when=(_role(Role.LATER_SLOT),),
    ),
    RecordRule(
        Kind.TX_RESPONSE,
        "netif.tx.status",
        "a status that is neither OKAY nor NULL nor negative",
        ("status",),
        high=netif.NETIF_RSP_NULL,
    ),
    RecordRule(Kind.RX_REQUEST, "netif.front.rx.request-pad", "the pad is not 0", ("pad",), high=0),
    RecordRule(
        Kind.RX_RESPONSE,
        "netif.rx.status-size",
        "offset + status is beyond the page",
        ("offset", "status"),
        high=PAGE_SIZE,
        when=(_unset("status", _NEGATIVE),),
    ),
    RecordRule(
        Kind.RX_RESPONSE,
        "netif.rx.every-byte",
        "a flag that there is not",
        ("flags",),
        bits=0xFFFF & ~_RX_FLAGS,
    ),
    RecordRule(
        Kind.EXTRA_INFO,
        "netif.tx.extra-type",
        "an extra info of type 0 or of an unknown type",
        ("type",),
        among=_known("XEN_NETIF_EXTRA_TYPE_", least=1),
    ),
    RecordRule(
        Kind.EXTRA_INFO,
        "netif.tx.gso-size",
        "segments of 0 bytes",
        ("gso.size",),
        low=1,
        when=(_GSO,),
    ),
    RecordRule(
        Kind.EXTRA_INFO,
        "netif.tx.gso-type",
        "a GSO type other than TCPV4 and TCPV6",
        ("gso.type",),
        among=_known("XEN_NETIF_GSO_TYPE_", least=1),
        when=(_GSO,),
    ),
    RecordRule(
        Kind.EXTRA_INFO,
        "netif.front.tx.gso-extra",
        "reserved fields that are not 0",
        ("gso.pad", "gso.features"),
        high=0,
        when=(_GSO,),
    ),
    RecordRule(
        Kind.CTRL_REQUEST,
        "netif.ctrl.unknown-type",
        "a request of type INVALID or of an unknown type",
        ("type",),
        among=_known("XEN_NETIF_CTRL_TYPE_", least=1),
    ),
    RecordRule(
        Kind.CTRL_RESPONSE,
        "netif.front.ctrl.response",
        "a status that there is not",
        ("status",),
        among=_known("XEN_NETIF_CTRL_STATUS_"),
    ),
    *(
        RecordRule(
            kind,
            "grant.no-transfer",
            _TRANSFER,
            (flags,),
            among=frozenset({0, grant_table.GTF_permit_access, grant_table.GTF_transitive}),
            when=(When(flags, grant_table.GTF_type_mask, grant_table.GTF_accept_transfer),),
        )
        for kind, flags in (
            (Kind.GRANT_ENTRY_V1, "flags"),
            (Kind.GRANT_ENTRY_V2, "full_page.hdr.flags"),
        )
    ),
    RecordRule(
        Kind.XENSTORE,
        "xs-wire.header",
        f"len is more than {xs_wire.XENSTORE_PAYLOAD_MAX}",
        ("len",),
        high=xs_wire.XENSTORE_PAYLOAD_MAX,
    ),
)


def broken(kind: Kind, record: bytes, body: bytes) -> Iterator[RecordRule]:
    """The rules that a record of ``kind`` breaks, each id once, in their order."""
    seen = set()
    for one in RULES:
        if one.kind is kind and one.rule not in seen and one.broken(record, body):
            seen.add(one.rule)
            yield one
