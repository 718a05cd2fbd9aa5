"""Why a driver refuses a packet and goes on: codes for kernels, with rule and words for people.

The rules are those of docs/hardening.md. What ends a connection is in the verdicts of each driver
(xennet.netback.verdict, xennet.netfront.verdict).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

NOT_REFUSED = 0

# By a backend.
MANY_SLOTS = 1
SIZES_DO_NOT_ADD_UP = 2
TOO_SHORT = 3
LIST_FULL = 4
COPY_FAILED = 5
NO_HEADERS = 6
EXPIRED = 7
CONTROL_REFUSED = 8

# By a frontend.
NOT_OKAY = 9
DROP_STATUS = 10
DROP_RANGE = 11
DROP_NEED_SLOTS = 12
DROP_TOO_MANY_SLOTS = 13
DROP_MISSING_EXTRA = 14
DROP_EXTRA_TYPE = 15
DROP_PREFIX = 16
DROP_GSO = 17
DROP_HEADROOM = 18
DROP_SIZE = 19
DROP_HEADERS = 20


class Refusal(NamedTuple):
    """``rule``: the hardening rule (F3, B8 ...); ``text``: what is wrong with the packet."""

    rule: str
    text: str


#: Code -> refusal.
REFUSALS: Mapping[int, Refusal] = MappingProxyType(
    {
        NOT_REFUSED: Refusal("", ""),
        MANY_SLOTS: Refusal("F3", "19 or 20 additional slots in a packet"),
        SIZES_DO_NOT_ADD_UP: Refusal("F4", "later slots are larger than the first one's size"),
        TOO_SHORT: Refusal("F6", "the first slot is shorter than an Ethernet header"),
        LIST_FULL: Refusal("F11", "the multicast list is full"),
        COPY_FAILED: Refusal("F13", "a page could not be copied"),
        NO_HEADERS: Refusal("F17", "blank checksum, and no TCP or UDP header is found"),
        EXPIRED: Refusal("F18", "no receive buffers in time"),
        CONTROL_REFUSED: Refusal("F24", "a control message that cannot be obeyed"),
        NOT_OKAY: Refusal("B6", "the backend refused or dropped the packet"),
        DROP_STATUS: Refusal("B8", "negative status"),
        DROP_RANGE: Refusal("B8", "offset + status reach beyond the page"),
        DROP_NEED_SLOTS: Refusal("B10", "more_data, but no response behind it"),
        DROP_TOO_MANY_SLOTS: Refusal("B11", "too many slots in a packet"),
        DROP_MISSING_EXTRA: Refusal("B12", "extra_info, but no slot behind it"),
        DROP_EXTRA_TYPE: Refusal("B12", "extra info of type 0 or of an unknown type"),
        DROP_PREFIX: Refusal("B12", "gso_prefix that was not asked for, or with nothing behind it"),
        DROP_GSO: Refusal("B13", "GSO of size 0 or of neither TCPv4 nor TCPv6"),
        DROP_HEADROOM: Refusal("B14", "an XDP headroom beyond the status or the page"),
        DROP_SIZE: Refusal("B20", "packet shorter than 14 or longer than 65535 bytes"),
        DROP_HEADERS: Refusal("B21", "blank checksum, and no TCP or UDP header is found"),
    }
)
