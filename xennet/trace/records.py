"""Records of link type LINKTYPE_USER0: one structure of the protocol each, behind a header.

docs/wireshark.md describes the layout. A record is ``record_header``, the rule's name, the
sentence, and the structure that ``kind`` says (:data:`STRUCTURES`); nothing of the structures is
written down here but where xennet.abi has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from functools import cache
from types import ModuleType

from attrs import field, frozen
from construct import Construct, Int8ul, Int16ul, Int32ul, Int64ul, Struct

from xennet.abi import event_channel, grant_table, netif, ring, xs_wire
from xennet.abi.codec import Codec, derive

VERSION = 1
#: ``domid`` of a record that is of no domain.
NO_DOMAIN = 0xFFFF

record_header = "record_header" / Struct(
    "version" / Int8ul,
    "kind" / Int8ul,
    "domid" / Int16ul,
    "sequence" / Int64ul,
    "cause" / Int64ul,
    "delivery" / Int32ul,
    "index" / Int32ul,
    "role" / Int8ul,
    "rule_length" / Int8ul,
    "text_length" / Int16ul,
)
HEADER = derive(record_header)


class Kind(IntEnum):
    """What a record holds."""

    TEXT = 0
    RING_HEADER = 1
    TX_REQUEST = 2
    TX_RESPONSE = 3
    RX_REQUEST = 4
    RX_RESPONSE = 5
    EXTRA_INFO = 6
    CTRL_REQUEST = 7
    CTRL_RESPONSE = 8
    GRANT_ENTRY_V1 = 9
    GRANT_ENTRY_V2 = 10
    GRANT_COPY = 11
    EVENT_SEND = 12
    XENSTORE = 13


class Role(IntEnum):
    """``role``: which way a XenStore message goes, or where in its packet a slot stands."""

    NONE = 0
    TO_STORE = 1
    FROM_STORE = 2
    FIRST_SLOT = 3
    LATER_SLOT = 4


@frozen
class Structure:
    """The structure of a kind of record.

    ``filter``: its fields are ``xennet.<filter>.<name>`` in display filters. ``definition`` is the
    name of a Construct definition in ``module``. ``bits`` and ``values``: field -> prefix of the
    constants that name its bits or values. Where it has a union, the bits ``mask`` of the field
    ``selector`` choose among ``variants``, by default ``otherwise``. ``payload``: the field that
    says how many bytes follow.
    """

    filter: str
    module: ModuleType
    definition: str
    bits: Mapping[str, str] = field(factory=dict)
    values: Mapping[str, str] = field(factory=dict)
    variants: Mapping[int, Mapping[str, str]] = field(factory=dict)
    otherwise: Mapping[str, str] = field(factory=dict)
    selector: str = ""
    mask: int = 0xFFFF
    payload: str = ""

    def codec(self, union: Mapping[str, str]) -> Codec:
        """The codec of the definition as it is now, with its unions read that way."""
        return _derived(getattr(self.module, self.definition), tuple(union.items()))

    def unions(self) -> dict[int, Mapping[str, str]]:
        """All ways to read it: value of the selector (-1: any other) -> choice of union members."""
        return {-1: self.otherwise, **self.variants}


@cache
def _derived(definition: Construct, union: tuple[tuple[str, str], ...]) -> Codec:
    return derive(definition, union=dict(union))


def _extra(member: str) -> Mapping[str, str]:
    return {"u": member}


_GRANT_BITS = "GTF_"
#: Kind -> structure behind the header; a TEXT has none.
STRUCTURES: Mapping[Kind, Structure] = {
    Kind.RING_HEADER: Structure("ring", ring, "sring_header", otherwise={"pvt": "pvt_pad"}),
    Kind.TX_REQUEST: Structure("tx", netif, "netif_tx_request", bits={"flags": "NETTXF_"}),
    Kind.TX_RESPONSE: Structure(
        "tx_response", netif, "netif_tx_response", values={"status": "NETIF_RSP_"}
    ),
    Kind.RX_REQUEST: Structure("rx_request", netif, "netif_rx_request"),
    Kind.RX_RESPONSE: Structure("rx", netif, "netif_rx_response", bits={"flags": "NETRXF_"}),
    Kind.EXTRA_INFO: Structure(
        "extra",
        netif,
        "netif_extra_info",
        bits={"flags": "XEN_NETIF_EXTRA_FLAG_"},
        values={"type": "XEN_NETIF_EXTRA_TYPE_", "gso.type": "XEN_NETIF_GSO_TYPE_"},
        variants={
            netif.XEN_NETIF_EXTRA_TYPE_GSO: _extra("gso"),
            netif.XEN_NETIF_EXTRA_TYPE_MCAST_ADD: _extra("mcast"),
            netif.XEN_NETIF_EXTRA_TYPE_MCAST_DEL: _extra("mcast"),
            netif.XEN_NETIF_EXTRA_TYPE_HASH: _extra("hash"),
            netif.XEN_NETIF_EXTRA_TYPE_XDP: _extra("xdp"),
        },
        otherwise=_extra("pad"),
        selector="type",
    ),
    Kind.CTRL_REQUEST: Structure(
        "ctrl", netif, "xen_netif_ctrl_request", values={"type": "XEN_NETIF_CTRL_TYPE_"}
    ),
    Kind.CTRL_RESPONSE: Structure(
        "ctrl_response",
        netif,
        "xen_netif_ctrl_response",
        values={"type": "XEN_NETIF_CTRL_TYPE_", "status": "XEN_NETIF_CTRL_STATUS_"},
    ),
    Kind.GRANT_ENTRY_V1: Structure(
        "grant", grant_table, "grant_entry_v1", bits={"flags": _GRANT_BITS}
    ),
    Kind.GRANT_ENTRY_V2: Structure(
        "grant2",
        grant_table,
        "grant_entry_v2",
        bits={
            f"{member}.hdr.flags": _GRANT_BITS for member in ("full_page", "sub_page", "transitive")
        },
        variants={
            grant_table.GTF_permit_access | grant_table.GTF_sub_page: {"": "sub_page"},
            grant_table.GTF_transitive: {"": "transitive"},
        },
        otherwise={"": "full_page"},
        selector="full_page.hdr.flags",
        mask=grant_table.GTF_type_mask | grant_table.GTF_sub_page,
    ),
    Kind.GRANT_COPY: Structure(
        "copy",
        grant_table,
        "gnttab_copy",
        bits={"flags": "GNTCOPY_"},
        values={"status": "GNTST_"},
        variants={
            flags: {
                "source.u": "ref" if flags & grant_table.GNTCOPY_source_gref else "gmfn",
                "dest.u": "ref" if flags & grant_table.GNTCOPY_dest_gref else "gmfn",
            }
            for flags in range(4)
        },
        otherwise={"source.u": "gmfn", "dest.u": "gmfn"},
        selector="flags",
        mask=grant_table.GNTCOPY_source_gref | grant_table.GNTCOPY_dest_gref,
    ),
    Kind.EVENT_SEND: Structure("event", event_channel, "evtchn_send"),
    Kind.XENSTORE: Structure("xs", xs_wire, "xsd_sockmsg", values={"type": "XS_"}, payload="len"),
}


def constants(module: ModuleType, prefix: str) -> dict[int, str]:
    """The header's constants that begin with ``prefix``, by value, without limits and masks."""
    found: dict[int, str] = {}
    for name, value in vars(module).items():
        rest = name.removeprefix(prefix)
        if (
            rest != name
            and isinstance(value, int)
            and not re.search("MAX|COUNT|INVALID$|mask", rest)
        ):
            found.setdefault(value, rest)
    return found


def bit_names(module: ModuleType, prefix: str) -> dict[int, str]:
    """The single bits among those constants, with names in small letters."""
    named = constants(module, prefix)
    return {value: name.lower() for value, name in named.items() if value.bit_count() == 1}


def clean(path: str) -> str:
    """A field's name in filters: its path without the unions that the header calls ``u``."""
    return ".".join(part.lstrip("_") or part for part in path.split(".") if part != "u")


@cache
def codes(codec: Codec) -> Mapping[str, str]:
    """The struct format of each field of a codec: H, h, I, 6s ..."""
    found = re.findall(r"\d*[a-wyzA-Z]", codec.format.lstrip("<"))
    flat = [code for one in found for code in _single(one)]
    return dict(zip(codec.fields, flat, strict=True))


def _single(code: str) -> list[str]:
    return [code] if code.endswith("s") or len(code) == 1 else [code[-1]] * int(code[:-1])


def encode(
    kind: Kind,
    body: bytes = b"",
    *,
    domid: int | None = None,
    sequence: int = 0,
    cause: int = 0,
    delivery: int = 0,
    index: int = 0,
    role: int = Role.NONE,
    rule: str = "",
    text: str = "",
) -> bytes:
    """The bytes of a record. A rule is cut behind 255 bytes and a sentence behind 65535."""
    rule_bytes = rule.encode("ascii", "backslashreplace")[:0xFF]
    text_bytes = text.encode("ascii", "backslashreplace")[:0xFFFF]
    head = HEADER.pack(
        VERSION,
        kind,
        NO_DOMAIN if domid is None else domid,
        sequence,
        cause,
        delivery,
        index & 0xFFFF_FFFF,
        role,
        len(rule_bytes),
        len(text_bytes),
    )
    return head + rule_bytes + text_bytes + body
