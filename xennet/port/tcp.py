"""``tcp:SIZExCOUNT[/MSS][@FLOWS]`` and ``tcp6:...`` make data frames of TCP connections.

They are as a stack hands them to a device with checksum and segmentation offload: with blank
checksums, and GSO if a frame has more payload than a segment.
"""

from __future__ import annotations

import re
from array import array
from struct import Struct, pack
from typing import ClassVar

from xennet.abi.netif import XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
from xennet.frames import CSUM_BLANK, DATA_VALIDATED, ETHERNET_HEADER, FrameBatch
from xennet.offload.checksum import blank, fold, ones_sum
from xennet.offload.headers import (
    ETH_P_IP,
    ETH_P_IPV6,
    IPPROTO_TCP,
    IPV4_BYTES,
    IPV6_BYTES,
    PLACES,
    store16,
)
from xennet.port.base import PortError
from xennet.port.gen import DESTINATION, SOURCE, GenPort
from xennet.ring import MASK32

_NUMBER = re.compile(r"[0-9]{1,5}", re.ASCII)
_MAX_MSS = 65535
_MAX_FLOWS = 1024
#: Source port of the first connection (the first dynamic port, RFC 6335), and destination port.
_SOURCE_PORT, _DEST_PORT = 49152, 5001
#: A header with the time stamp option (RFC 7323), as data segments usually have it.
_TCP = Struct(">HHIIBBHHHHBBII")
_TCP_ACK = 0x10
_NOP_NOP = 0x0101
_TIMESTAMPS, _TIMESTAMPS_BYTES = 8, 10
_SEQUENCE_AT = 4
#: The flags of all frames.
_FLAGS = CSUM_BLANK | DATA_VALIDATED
#: IPv4's "do not fragment", and a hop limit.
_DONT_FRAGMENT, _HOPS = 0x4000, 64
#: Payload of a segment that fills an MTU of 1500.
_MTU = 1500


def _ipv4(l4_length: int) -> bytes:
    """An IPv4 header from 192.0.2.1 to 192.0.2.2 (RFC 5737), checksum 0."""
    total = IPV4_BYTES + l4_length
    addresses = bytes((192, 0, 2, 1, 192, 0, 2, 2))
    fields = pack(">BBHHHBBH", 0x45, 0, total, 0, _DONT_FRAGMENT, _HOPS, IPPROTO_TCP, 0)
    return fields + addresses


def _ipv6(l4_length: int) -> bytes:
    """An IPv6 header from 2001:db8::1 to 2001:db8::2 (RFC 3849)."""
    network = bytes.fromhex("20010db8") + bytes(11)
    addresses = network + b"\1" + network + b"\2"
    return pack(">IHBB", 6 << 28, l4_length, IPPROTO_TCP, _HOPS) + addresses


def _first(ethertype: int, ip: bytes, size: int) -> bytes:
    """The connection's first frame: right IPv4 header checksum, blank TCP checksum."""
    fields = (_SOURCE_PORT, _DEST_PORT, 0, 1, _TCP.size << 2, _TCP_ACK, 501, 0, 0)
    options = (_NOP_NOP, _TIMESTAMPS, _TIMESTAMPS_BYTES, 1, 1)
    tcp = _TCP.pack(*fields, *options)
    header = DESTINATION + SOURCE + pack(">H", ethertype) + ip + tcp
    frame = bytearray(header + bytes(i & 0xFF for i in range(len(header), size)))
    u8 = memoryview(frame)
    u32 = u8[: size & ~3].cast("I")
    if ethertype == ETH_P_IP:
        total = ones_sum(u8, u32, ETHERNET_HEADER, ETHERNET_HEADER + IPV4_BYTES)
        store16(u8, ETHERNET_HEADER + 10, 0xFFFF - fold(total))
    blank(u8, u32, 0, size, array("q", bytes(8 * PLACES)))
    return bytes(frame)


class TcpPort(GenPort):
    """``tcp:SIZExCOUNT[/MSS][@FLOWS]``: SIZE with all headers is 66 to 65535 bytes.

    MSS (1 to 65535, default 1448): payload bytes of a segment; frames with more carry it as
    ``gso_size``. FLOWS (1 to 1024, default 1): connections that take turns; they differ in the
    source port. Frame i of a connection begins at sequence number i times its payload (i, if it has
    none); the payload is byte ``k & 0xff`` at frame offset ``k``. Raises PortError for another
    argument.
    """

    scheme: ClassVar[str] = "tcp"
    min_size: ClassVar[int] = ETHERNET_HEADER + IPV4_BYTES + _TCP.size
    gso_type: ClassVar[int] = XEN_NETIF_GSO_TYPE_TCPV4

    def __init__(self, argument: str) -> None:
        rest, at, flows = argument.partition("@")
        sizes, slash, mss = rest.partition("/")
        super().__init__(sizes)
        self.name = f"{self.scheme}:{argument}"
        payload = self._size - self.min_size
        segment = _MTU - (self.min_size - ETHERNET_HEADER)
        if slash:
            segment = self._option("MSS", mss, _MAX_MSS)
        self._flows = self._option("FLOWS", flows, _MAX_FLOWS) if at else 1
        self._ports = array("H", range(_SOURCE_PORT, _SOURCE_PORT + self._flows))
        self._ports.byteswap()
        self._gso = (segment, self.gso_type) if payload > segment else (0, 0)
        self._step = max(1, payload)
        self._sequence_at = self.min_size - _TCP.size + _SEQUENCE_AT

    def _frame(self, size: int) -> bytes:
        return _first(ETH_P_IP, _ipv4(size - ETHERNET_HEADER - IPV4_BYTES), size)

    def _option(self, name: str, text: str, most: int) -> int:
        if not (_NUMBER.fullmatch(text) and 1 <= int(text) <= most):
            raise PortError(f"{self.scheme}: {name} must be 1 to {most}, not {text!r}")
        return int(text)

    def _numbers(self, first: int, count: int) -> array[int]:
        step, flows = self._step, self._flows
        if flows == 1 and (first + count) * step <= MASK32:
            return array("I", range(first * step, (first + count) * step, step))
        numbers = array("I")
        for turn in range(first // flows, (first + count - 1) // flows + 1):
            numbers += array("I", (turn * step & MASK32,)) * flows
        start = first % flows
        return numbers[start : start + count]

    def _number(self, data: memoryview, at: int, end: int, first: int, count: int) -> None:
        super()._number(data, at, end, first, count)
        flows = self._flows
        if flows > 1:
            start = first % flows
            ports = (self._ports * (count // flows + 2))[start : start + count]
            octets = memoryview(ports).cast("B")
            for i in range(2):
                data[at - _SEQUENCE_AT + i : end : self._size] = octets[i::2]

    def _spec(self) -> tuple[int, ...]:
        size, at, _, _, *_, interval = super()._spec()
        ports = (_SOURCE_PORT, _SEQUENCE_AT)
        return (size, at, self._step, self._flows, *ports, _FLAGS, *self._gso, interval)

    def _put(self, first: int, count: int, batch: FrameBatch) -> None:
        super()._put(first, count, batch)
        columns = (batch.flags, batch.gso_size, batch.gso_type)
        place = batch.count
        for column, value in zip(columns, (_FLAGS, *self._gso), strict=True):
            column[place : place + count] = array("I", (value,)) * count


class Tcp6Port(TcpPort):
    """``tcp6:SIZExCOUNT[/MSS][@FLOWS]``: as ``tcp:`` over IPv6; SIZE from 86, default MSS 1428."""

    scheme: ClassVar[str] = "tcp6"
    min_size: ClassVar[int] = ETHERNET_HEADER + IPV6_BYTES + _TCP.size
    gso_type: ClassVar[int] = XEN_NETIF_GSO_TYPE_TCPV6

    def _frame(self, size: int) -> bytes:
        return _first(ETH_P_IPV6, _ipv6(size - ETHERNET_HEADER - IPV6_BYTES), size)
