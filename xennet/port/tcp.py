"""``tcp:SIZExCOUNT[/MSS]`` and ``tcp6:...`` make data frames of one TCP connection.

They look as a stack hands them to a device with checksum and segmentation offload: blank checksums,
and GSO where a frame has more payload than a segment.
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

_MSS = re.compile(r"[0-9]{1,5}", re.ASCII)
_MAX_MSS = 65535
#: A header with the time stamp option (RFC 7323), as data segments usually have it.
_TCP = Struct(">HHIIBBHHHHBBII")
_TCP_ACK = 0x10
_NOP_NOP = 0x0101
_TIMESTAMPS, _TIMESTAMPS_BYTES = 8, 10
_SEQUENCE_AT = 4
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


def _template(ethertype: int, ip: bytes, size: int) -> bytearray:
    """The connection's first frame: right IPv4 header checksum, blank TCP checksum."""
    tcp = _TCP.pack(
        *(49152, 5001, 0, 1, _TCP.size << 2, _TCP_ACK, 501, 0, 0),
        *(_NOP_NOP, _TIMESTAMPS, _TIMESTAMPS_BYTES, 1, 1),
    )
    header = DESTINATION + SOURCE + pack(">H", ethertype) + ip + tcp
    frame = bytearray(header + bytes(i & 0xFF for i in range(len(header), size)))
    u8 = memoryview(frame)
    u32 = u8[: size & ~3].cast("I")
    if ethertype == ETH_P_IP:
        total = ones_sum(u8, u32, ETHERNET_HEADER, ETHERNET_HEADER + IPV4_BYTES)
        store16(u8, ETHERNET_HEADER + 10, 0xFFFF - fold(total))
    blank(u8, u32, 0, size, array("q", bytes(8 * PLACES)))
    return frame


class TcpPort(GenPort):
    """``tcp:SIZExCOUNT[/MSS]``: SIZE is that of a frame with all headers, 66 to 65535 bytes.

    MSS (1 to 65535, default 1448): payload bytes of a segment; frames with more carry it as
    ``gso_size``. Frame i begins at sequence number i times its payload (i, when it has none); the
    payload is byte ``k & 0xff`` at frame offset ``k``. PortError when the argument is no good.
    """

    scheme: ClassVar[str] = "tcp"
    min_size: ClassVar[int] = ETHERNET_HEADER + IPV4_BYTES + _TCP.size
    gso_type: ClassVar[int] = XEN_NETIF_GSO_TYPE_TCPV4

    def __init__(self, argument: str) -> None:
        sizes, slash, mss = argument.partition("/")
        super().__init__(sizes)
        if slash and not (_MSS.fullmatch(mss) and 1 <= int(mss) <= _MAX_MSS):
            raise PortError(f"{self.scheme}: MSS must be 1 to {_MAX_MSS}, not {mss!r}")
        self.name = f"{self.scheme}:{argument}"
        size, payload = self._size, self._size - self.min_size
        segment = int(mss) if slash else _MTU - (self.min_size - ETHERNET_HEADER)
        self._gso = (segment, self.gso_type) if payload > segment else (0, 0)
        self._step = max(1, payload)
        self._sequence_at = self.min_size - _TCP.size + _SEQUENCE_AT
        frame = self._frame(size)
        self._template = memoryview(bytes(frame) * (len(self._template) // size))

    def _frame(self, size: int) -> bytearray:
        return _template(ETH_P_IP, _ipv4(size - ETHERNET_HEADER - IPV4_BYTES), size)

    def _numbers(self, first: int, count: int) -> array[int]:
        step = self._step
        return array("I", [i * step & MASK32 for i in range(first, first + count)])

    def pull(self, batch: FrameBatch) -> int:
        first = batch.count
        count = super().pull(batch)
        if not count:
            return 0
        flags = CSUM_BLANK | DATA_VALIDATED
        columns = (batch.flags, batch.gso_size, batch.gso_type)
        for column, value in zip(columns, (flags, *self._gso), strict=True):
            column[first : first + count] = array("I", (value,)) * count
        return count


class Tcp6Port(TcpPort):
    """``tcp6:SIZExCOUNT[/MSS]``: as ``tcp:`` over IPv6; SIZE from 86, default MSS 1428."""

    scheme: ClassVar[str] = "tcp6"
    min_size: ClassVar[int] = ETHERNET_HEADER + IPV6_BYTES + _TCP.size
    gso_type: ClassVar[int] = XEN_NETIF_GSO_TYPE_TCPV6

    def _frame(self, size: int) -> bytearray:
        return _template(ETH_P_IPV6, _ipv6(size - ETHERNET_HEADER - IPV6_BYTES), size)
