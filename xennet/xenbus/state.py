"""The ``state`` node: how the store shows a XenbusState.

The toolstack creates it as decimal ASCII. Readers use ``%d`` (xenbus_read_driver_state), so "4abc"
is Connected, while a node that is missing, unreadable or no number is Unknown. Numbers that enum
xenbus_state (xen/io/xenbus.h) does not have are kept: each driver has its own answer to them.
"""

from __future__ import annotations

from xennet.abi.xenbus import XenbusState
from xennet.interface import StoreTransaction
from xennet.xenbus.scan import scan_signed
from xennet.xenstore.errors import XsError

ALL_STATES: frozenset[XenbusState] = frozenset(XenbusState)


def parse_state(value: bytes, unreadable: int = XenbusState.Unknown) -> int:
    """The number in the value of a ``state`` node; ``unreadable`` if there is none."""
    number = scan_signed(value)
    return unreadable if number is None else number


def read_state(
    store: StoreTransaction, directory: str, unreadable: int = XenbusState.Unknown
) -> int:
    """The state of the device end in ``directory``; ``unreadable`` if it cannot be read.

    Linux's xenbus_read_driver_state returns Unknown then, FreeBSD's Closed.
    """
    try:
        return parse_state(store.read(f"{directory}/state"), unreadable)
    except XsError:
        return unreadable


def state_name(state: int) -> str:
    """``"Connected (4)"``, or ``"9 (not a XenbusState)"``."""
    try:
        return f"{XenbusState(state).name} ({state})"
    except ValueError:
        return f"{state} (not a XenbusState)"
