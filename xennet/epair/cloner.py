"""Creating and destroying epairs by name, as ``ifconfig epair create`` does (if_clone(4)).

The cloner takes the names ``epair`` and ``epair<digits>``, and makes ``epair<n>a`` and
``epair<n>b``.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from errno import EEXIST, EINVAL, ENOSPC
from itertools import count

from attrs import frozen

from xennet.epair.driver import Driver
from xennet.ifnet import IFNAMSIZ, DrvFlags, Interface, Interfaces, LinkState

_NAME = "epair"
_MATCH = re.compile(r"epair[0-9]*")
#: Highest unit: an int in the kernel, of which if_clone takes no more than this (IF_MAXUNIT).
MAX_UNIT = 0x7FFF
_MASK32 = 0xFFFFFFFF


class CloneError(OSError):
    """A name or unit that the cloner refuses: the seed's errno, and a message that names it."""

    def __init__(self, errno: int, what: str) -> None:
        super().__init__(errno, f"{os.strerror(errno)}: {what}")


def jenkins_hash32(key: tuple[int, ...], init: int) -> int:
    """Bob Jenkins' lookup3 ``hashword`` of 32-bit words (sys/libkern/jenkins_hash.c)."""
    a = b = c = (0xDEADBEEF + (len(key) << 2) + init) & _MASK32
    words = list(key)
    while len(words) > 3:
        a, b, c = _mix(*(((x + word) & _MASK32) for x, word in zip((a, b, c), words, strict=False)))
        del words[:3]
    if not words:
        return c
    words += [0] * (3 - len(words))
    return _final(*(((x + word) & _MASK32) for x, word in zip((a, b, c), words, strict=True)))


def _rot(x: int, bits: int) -> int:
    return (x << bits | x >> 32 - bits) & _MASK32


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for bits in (4, 6, 8, 16, 19, 4):
        a = (a - c & _MASK32) ^ _rot(c, bits)
        c = c + b & _MASK32
        a, b, c = b, c, a
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = (c ^ b) - _rot(b, bits) & _MASK32
        a, b, c = b, c, a
    # The last step changed what is now called b.
    return b


def pair_macs(index: int, hostid: int) -> tuple[bytes, bytes]:
    """The MAC addresses of both sides: byte 02, the hash of ``index`` and ``hostid`` (64 bits) in
    the byte order of the machine, and byte 0a or 0b."""
    hashed = jenkins_hash32((index & _MASK32, hostid & _MASK32, hostid >> 32 & _MASK32), 0)
    middle = b"\x02" + hashed.to_bytes(4, sys.byteorder)
    return middle + b"\x0a", middle + b"\x0b"


@frozen
class Epair:
    """Both sides of a pair of interfaces."""

    unit: int
    a: Interface
    b: Interface


class Cloner:
    """Makes epairs among the ``interfaces`` of one machine; ``driver`` carries their frames.

    ``hostid`` (64 bits) makes the addresses unique; with 0 they are random for each pair.
    ``leaks_units``: a name that exists costs its unit for ever, as in the seed; later generations
    give the unit back.
    """

    def __init__(
        self,
        interfaces: Interfaces,
        driver: Driver,
        *,
        hostid: int = 0,
        leaks_units: bool = True,
        random_bits: Callable[[], int] = lambda: int.from_bytes(os.urandom(8)),
    ) -> None:
        self.interfaces = interfaces
        self.driver = driver
        self.units: set[int] = set()
        self.hostid = hostid
        self._leaks_units = leaks_units
        self._random_bits = random_bits
        self._next_index = 0
        self._pairs: dict[str, Epair] = {}

    def match(self, name: str) -> bool:
        """Whether the cloner makes pairs of this ``name``. Names with the final a or b do not
        match."""
        return _MATCH.fullmatch(name) is not None

    def create(self, name: str = _NAME) -> Epair:
        """Make a pair: running, link up, not yet brought up by the administrator.

        Raises CloneError: EINVAL for a name that does not match, ENOSPC if the name leaves no room
        for the final letter or no unit is free, EEXIST if the unit is taken or either interface
        exists.
        """
        if not self.match(name):
            raise CloneError(EINVAL, f"{name!r} is no name for a new epair")
        digits = name[len(_NAME) :]
        unit = self._take_unit(digits)
        full = name if digits else f"{_NAME}{unit}"
        if len(full) + 1 >= IFNAMSIZ:
            self.units.discard(unit)
            raise CloneError(ENOSPC, f"{full} leaves no place for a letter behind it")
        for letter in "ba":
            if full + letter in self.interfaces:
                if not self._leaks_units:
                    self.units.discard(unit)
                raise CloneError(EEXIST, f"there is an interface {full}{letter}")
        a, b = (self.interfaces.add(full + letter) for letter in "ab")
        # Not the interface's index, which is used again once it has moved to another vnet.
        self._next_index = max(a.index, self._next_index + 1)
        a.mac, b.mac = pair_macs(self._next_index, self.hostid or self._random_bits())
        for one, other in ((a, b), (b, a)):
            self.driver.attach(one, other)
            one.baudrate = 10_000_000_000
            one.drv_flags |= DrvFlags.RUNNING
            one.link_state = LinkState.UP
        pair = self._pairs[a.name] = Epair(unit, a, b)
        return pair

    def destroy(self, interface: Interface) -> None:
        """Destroy the pair of which ``interface`` is a side; nothing happens if the interface is
        gone.

        Frames on their way are freed. (The seed relies on there being none.)
        """
        name = interface.name[:-1] + "a"
        pair = self._pairs.get(name)
        if pair is None or interface not in (pair.a, pair.b):
            return
        del self._pairs[name]
        for side in (pair.a, pair.b):
            side.link_state = LinkState.DOWN
            side.drv_flags &= ~DrvFlags.RUNNING
        for side in (pair.b, pair.a):
            self.driver.qflush(side)
            self.driver.detach(side)
            self.interfaces.remove(side)
        self.units.discard(pair.unit)

    def _take_unit(self, digits: str) -> int:
        if not digits:
            unit = next(unit for unit in count() if unit not in self.units)
        elif len(digits) > 1 and digits[0] == "0":
            raise CloneError(EINVAL, f"unit {digits} begins with a 0")
        else:
            unit = int(digits)
        if unit > MAX_UNIT:
            raise CloneError(ENOSPC if not digits else EINVAL, f"unit {unit} is above {MAX_UNIT}")
        if unit in self.units:
            raise CloneError(EEXIST, f"unit {unit} is taken")
        self.units.add(unit)
        return unit
