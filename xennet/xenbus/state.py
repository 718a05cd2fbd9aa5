"""The ``state`` node: what a XenbusState looks like in the store.

The toolstack creates it as decimal ASCII; readers use ``%d`` (xenbus_read_driver_state), so "4abc"
is Connected, while a node that is missing, unreadable or not a number is Unknown. Numbers that
enum xenbus_state (xen/io/xenbus.h) does not have are kept: a driver's answer to them is its own.
"""

from __future__ import annotations

from xennet.abi.xenbus import XenbusState
from xennet.interface import StoreTransaction
from xennet.xenbus.scan import scan_signed
from xennet.xenstore.errors import XsError

ALL_STATES: frozenset[XenbusState] = frozenset(XenbusState)


def parse_state(value: bytes, unreadable: int = XenbusState.Unknown) -> int:
    """The number that a ``state`` node holds; ``unreadable`` when it holds none."""
    number = scan_signed(value)
    return unreadable if number is None else number


def read_state(
    store: StoreTransaction, directory: str, unreadable: int = XenbusState.Unknown
) -> int:
    """The state of the device end in ``directory``, ``unreadable`` when it cannot be read at all.

    Linux's xenbus_read_driver_state says Unknown then, FreeBSD's says Closed.
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
