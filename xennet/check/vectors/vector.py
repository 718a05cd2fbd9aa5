"""A vector of a ring page, and what is to come out."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from attrs import field, frozen

from xennet.frames import CSUM_BLANK, DATA_VALIDATED


class Result(Enum):
    """What becomes of the packet that a vector is about."""

    TAKEN = "taken"  # it is delivered (a request that is no packet: obeyed), its slots are OKAY
    DROPPED = "dropped"  # a backend: its slots are OKAY, it is not delivered; a frontend: the same
    REFUSED = "refused"  # a backend: its data slots are answered ERROR
    WAITS = "waits"  # nothing is consumed until more slots come
    GIVEN_UP = "given-up"  # the connection: nothing is answered or read from that packet on


@frozen
class Packet:
    """A packet that is delivered: its ``data``, flags of xennet.frames, GSO size and type."""

    data: bytes
    flags: int = 0
    gso_size: int = 0
    gso_type: int = 0

    def to_json(self) -> dict[str, Any]:
        """Bytes as their number and their CRC-32 (of IEEE 802.3, as in zlib)."""
        return {
            "length": len(self.data),
            "crc32": zlib.crc32(self.data),
            "csum_blank": bool(self.flags & CSUM_BLANK),
            "data_validated": bool(self.flags & DATA_VALIDATED),
            "gso_size": self.gso_size,
            "gso_type": self.gso_type,
        }


@frozen
class Response:
    """A response of a backend: in the slot of ring ``index``; ``id`` is None for a slot that has
    none (an extra info's). ``or_error``: the packet is not delivered, so this status may as well be
    NETIF_RSP_ERROR or NETIF_RSP_OKAY, if one of the packet's is ERROR or Linux has none."""

    index: int
    id: int | None
    status: int
    or_error: bool = False


@frozen(kw_only=True)
class Vector:
    """One ring page and what its reader makes of it.

    ``rule`` is a rule of the suite, ``what`` says what the page holds. ``start``: the reader's
    consumer index when it looks. ``grants``: references that grant something else than usual, by
    number: the page and whether it is read-only, or None for nothing.

    ``results``: what may become of the packet in question; the first is what Linux does, and
    ``packets``, ``responses`` and ``consumed`` (slots) are as after that. Whatever becomes of it,
    what comes before it is ``settled``: so many packets, so many slots. ``notify``: whether the
    reader notifies its peer, None if it publishes nothing; ``event``: the event index that it
    leaves, by which it asks to be told of more.
    """

    name: str
    rule: str
    what: str
    page: bytes = field(repr=False)
    start: int
    grants: Mapping[int, tuple[int, bool] | None]
    results: Sequence[Result]
    packets: Sequence[Packet]
    responses: Sequence[Response]
    consumed: int
    settled: tuple[int, int]
    notify: bool | None
    event: int
