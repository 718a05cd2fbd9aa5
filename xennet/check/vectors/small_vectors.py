"""Vectors without a ring page: structures and their bytes, and the arithmetic of indices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xennet.abi import netif
from xennet.abi.codec import Codec
from xennet.abi.grant_table import GRANT_ENTRY_V1
from xennet.abi.ring import NETIF_CTRL_RING_SIZE, NETIF_TX_RING_SIZE, SRING_HEADER
from xennet.ring import MASK32, must_notify, overflows

#: Structures with a name of the headers, and the rule that says how they lie in memory.
_STRUCTURES: tuple[tuple[str, str, Codec], ...] = (
    ("netif_tx_request", "netif.tx.layout", netif.TX_REQUEST),
    ("netif_tx_response", "netif.tx.layout", netif.TX_RESPONSE),
    ("netif_rx_request", "netif.rx.layout", netif.RX_REQUEST),
    ("netif_rx_response", "netif.rx.layout", netif.RX_RESPONSE),
    ("netif_extra_info: gso", "netif.tx.gso", netif.EXTRA_GSO),
    ("netif_extra_info: mcast", "netif.tx.mcast-request", netif.EXTRA_MCAST),
    ("netif_extra_info: hash", "netif.tx.extra-known", netif.EXTRA_HASH),
    ("xen_netif_ctrl_request", "netif.ctrl.layout", netif.CTRL_REQUEST),
    ("xen_netif_ctrl_response", "netif.ctrl.layout", netif.CTRL_RESPONSE),
    ("xen_netif_gref", "netif.ctrl.gref-mapping", netif.GREF),
    ("sring_header", "ring.size", SRING_HEADER),
    ("grant_entry_v1", "grant.entry-version", GRANT_ENTRY_V1),
)


def layouts() -> Iterator[dict[str, Any]]:
    """Of each structure two contents: bytes that count up from 1, and bytes that count down from
    0xff. A signed field has a negative value in the second."""
    for name, rule, codec in _STRUCTURES:
        for content, raw in (
            ("up", bytes((i + 1) & 0xFF for i in range(codec.size))),
            ("down", bytes((0xFF - i) & 0xFF for i in range(codec.size))),
        ):
            values = zip(codec.fields, codec.unpack_from(raw), strict=True)
            yield {
                "name": f"{name.replace(': ', '-')}-{content}",
                "rule": rule,
                "structure": name,
                "bytes": raw.hex(),
                "fields": {
                    field: value.hex() if isinstance(value, bytes) else value
                    for field, value in values
                },
            }


#: How many are pushed, and how far ahead of the old index an event is wanted.
_PUSHES = ((1, 0), (1, 1), (1, 2), (3, 3), (3, 4), (256, 256), (256, 257), (5, -1))
_EDGES = (0, 1, 255, 256, 0x7FFFFFFF, 0x80000000, 0xFFFFFF00, 0xFFFFFFFE, 0xFFFFFFFF)


def notifications() -> Iterator[dict[str, Any]]:
    """RING_PUSH_*_AND_CHECK_NOTIFY: whether a push from ``old`` to ``new`` notifies a peer that
    wrote ``event``."""
    for old in _EDGES:
        for pushed, ahead in _PUSHES:
            new, event = (old + pushed) & MASK32, (old + ahead) & MASK32
            yield {
                "name": f"push-{old:x}-{pushed}-event-{ahead}",
                "rule": "ring.response-notify",
                "old": old,
                "new": new,
                "event": event,
                "notify": must_notify(old, new, event),
            }


def index_bounds() -> Iterator[dict[str, Any]]:
    """RING_REQUEST_PROD_OVERFLOW: whether ``prod`` is further from ``cons`` than a ring is
    large."""
    for cons in _EDGES:
        for ahead in (0, 1, 128, 129, 256, 257, 1 << 31, -1):
            for slots in (NETIF_TX_RING_SIZE, NETIF_CTRL_RING_SIZE):
                prod = (cons + ahead) & MASK32
                yield {
                    "name": f"prod-{prod:x}-cons-{cons:x}-of-{slots}",
                    "rule": "ring.request-overflow",
                    "slots": slots,
                    "cons": cons,
                    "prod": prod,
                    "overflow": overflows(prod, cons, slots),
                }
