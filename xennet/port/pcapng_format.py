"""pcapng: sections in either byte order, several interfaces, any timestamp resolution.

dpkt's block classes give the layouts and its constants the numbers. Its Reader is not used: it
knows one section and one interface only, makes floats of timestamps (53 bits cannot hold
nanoseconds since 1970), ignores Simple Packet Blocks, ends silently in a cut block, and its
option parser refuses comments that are not UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct

from attrs import frozen
from dpkt import pcapng

from xennet.port.capture import NANOSECONDS, Record, check_length, check_linktype
from xennet.port.window import Window

#: The type of a Section Header Block, a palindrome: it reads the same in both byte orders.
MAGIC = pcapng.PCAPNG_BT_SHB
#: Longest block that is looked into, as libpcap's MAX_BLOCKSIZE; other kinds are skipped unread.
_MAX_BLOCK = 16 << 20
_TRAILER = 4
_SMALLEST = 8 + _TRAILER
_DEFAULT_TICKS = 10**6
_TIMESTAMPS = range(-(1 << 63), 1 << 63)


def _fields(order: str, block: type) -> Struct:
    """The fixed fields of a dpkt ``block`` between its two lengths."""
    layout: str = block.__hdr_fmt__  # type: ignore[attr-defined]
    return Struct(order + layout[3:-1])


@frozen
class _Interface:
    """``snaplen`` bytes (0 = no limit), ``ticks`` per second, ``offset`` in seconds."""

    snaplen: int
    ticks: int
    offset: int

    def nanoseconds(self, timestamp: int) -> int:
        """Exact, or rounded down where ticks are shorter than a nanosecond."""
        return timestamp * NANOSECONDS // self.ticks + self.offset * NANOSECONDS


class _Section:
    """The byte order of a section ("<" or ">"), the layouts in it, and its interfaces so far."""

    def __init__(self, order: str) -> None:
        self.interfaces: list[_Interface] = []
        self.word = Struct(order + "I")
        self.option = Struct(order + "HH")
        self.tsoffset = Struct(order + "q")
        self.header = _fields(order, pcapng.SectionHeaderBlock)
        self.interface = _fields(order, pcapng.InterfaceDescriptionBlock)
        self.enhanced = _fields(order, pcapng.EnhancedPacketBlock)
        self.obsolete = _fields(order, pcapng.PacketBlock)


@frozen
class _Block:
    """The bytes between the two lengths of a block, the section it is in, where it starts."""

    window: Window
    section: _Section
    body: memoryview
    offset: int

    def unpack(self, layout: Struct) -> tuple[int, ...]:
        if len(self.body) < layout.size:
            message = f"block with {len(self.body)} bytes inside, needs {layout.size}"
            raise self.window.error(message, self.offset)
        return layout.unpack_from(self.body)

    def options(self, at: int) -> Iterator[tuple[int, memoryview]]:
        """(code, value) of the options that start at byte ``at`` of the body."""
        while at + 4 <= len(self.body):
            code, length = self.section.option.unpack_from(self.body, at)
            if code == pcapng.PCAPNG_OPT_ENDOFOPT:
                return
            value = self.body[at + 4 : at + 4 + length]
            if len(value) < length:
                message = f"option {code} of {length} bytes runs past its block"
                raise self.window.error(message, self.offset)
            yield code, value
            at += 4 + (length + 3 & ~3)

    def packet(
        self, interface: int, timestamp: int | None, captured: int, wire_length: int, at: int
    ) -> Record:
        """The record of ``captured`` bytes at byte ``at`` of the body; None: no timestamp."""
        check_length(self.window, captured, self.offset)
        data = self.body[at : at + captured]
        if len(data) < captured:
            message = f"packet of {captured} bytes runs past its block"
            raise self.window.error(message, self.offset)
        time = 0 if timestamp is None else self.described(interface).nanoseconds(timestamp)
        if time not in _TIMESTAMPS:
            raise self.window.error(f"timestamp of {time} ns is out of range", self.offset)
        return Record(time, data, wire_length)

    def described(self, interface: int) -> _Interface:
        """The interface of that number; PortError when no block has described it yet."""
        known = self.section.interfaces
        if interface >= len(known):
            message = f"packet of interface {interface}, only {len(known)} described before it"
            raise self.window.error(message, self.offset)
        return known[interface]


def _section_header(block: _Block) -> None:
    _, major, minor, _ = block.unpack(block.section.header)
    if major != pcapng.PCAPNG_VERSION_MAJOR:
        raise block.window.error(f"pcapng version {major}.{minor} is not 1.x", block.offset)


def _interface_description(block: _Block) -> None:
    layout = block.section.interface
    linktype, _, snaplen = block.unpack(layout)
    check_linktype(block.window, linktype, block.offset)
    ticks, offset = _DEFAULT_TICKS, 0
    for code, value in block.options(layout.size):
        if code == pcapng.PCAPNG_OPT_IF_TSRESOL and len(value) == 1:
            ticks = (2 if value[0] & 0x80 else 10) ** (value[0] & 0x7F)
        elif code == pcapng.PCAPNG_OPT_IF_TSOFFSET and len(value) == 8:
            (offset,) = block.section.tsoffset.unpack(value)
    block.section.interfaces.append(_Interface(snaplen, ticks, offset))


def _enhanced_packet(block: _Block) -> Record:
    layout = block.section.enhanced
    interface, high, low, captured, wire_length = block.unpack(layout)
    return block.packet(interface, high << 32 | low, captured, wire_length, layout.size)


def _obsolete_packet(block: _Block) -> Record:
    layout = block.section.obsolete
    interface, _, high, low, captured, wire_length = block.unpack(layout)
    return block.packet(interface, high << 32 | low, captured, wire_length, layout.size)


def _simple_packet(block: _Block) -> Record:
    """Only the wire length is given: interface 0's snap length says how much was captured."""
    layout = block.section.word
    (wire_length,) = block.unpack(layout)
    snaplen = block.described(0).snaplen
    captured = min(wire_length, snaplen) if snaplen else wire_length
    return block.packet(0, None, captured, wire_length, layout.size)


#: What to do with the blocks that matter; all others are skipped.
_BLOCKS: dict[int, Callable[[_Block], Record | None]] = {
    pcapng.PCAPNG_BT_SHB: _section_header,
    pcapng.PCAPNG_BT_IDB: _interface_description,
    pcapng.PCAPNG_BT_EPB: _enhanced_packet,
    pcapng.PCAPNG_BT_PB: _obsolete_packet,
    pcapng.PCAPNG_BT_SPB: _simple_packet,
}


def records(window: Window) -> Iterator[Record]:
    """The packets of all sections in file order; PortError as found."""
    section = _new_section(window)
    while window.need(8):
        offset = window.offset
        (kind,) = section.word.unpack_from(window.view, window.pos)
        if kind == MAGIC and offset:
            section = _new_section(window)
        (length,) = section.word.unpack_from(window.view, window.pos + 4)
        if length < _SMALLEST or length % 4:
            raise window.error(f"impossible block length {length}", offset)
        parse = _BLOCKS.get(kind)
        if parse is None:
            _skip_block(window, section, length)
            continue
        if length > _MAX_BLOCK:
            raise window.error(f"block of {length} bytes, at most {_MAX_BLOCK} make sense", offset)
        if not window.need(length):
            left = window.end - window.pos
            raise window.error(f"block cut short, {left} of {length} bytes", offset)
        start, end = window.pos, window.pos + length
        _check_trailer(window, section, end - _TRAILER, length, offset)
        window.pos = end
        body = window.view[start + 8 : end - _TRAILER]
        record = parse(_Block(window, section, body, offset))
        if record is not None:
            yield record
    left = window.end - window.pos
    if left:
        raise window.error(f"block header cut short, {left} of 8 bytes", window.offset)


def _new_section(window: Window) -> _Section:
    """The section whose header block starts here, in the byte order that its magic shows."""
    if not window.need(_SMALLEST):
        raise window.error("section header cut short", window.offset)
    magic = window.view[window.pos + 8 : window.pos + _SMALLEST]
    for order in "<>":
        if Struct(order + "I").unpack(magic)[0] == pcapng.BYTE_ORDER_MAGIC:
            return _Section(order)
    raise window.error(f"no byte-order magic in {magic.hex()}", window.offset + 8)


def _skip_block(window: Window, section: _Section, length: int) -> None:
    """Pass over a block that nobody needs, whatever its length."""
    offset = window.offset
    if not (window.skip(length - _TRAILER) and window.need(_TRAILER)):
        left = window.offset + window.end - window.pos - offset
        raise window.error(f"block cut short, {left} of {length} bytes", offset)
    _check_trailer(window, section, window.pos, length, offset)
    window.pos += _TRAILER


def _check_trailer(window: Window, section: _Section, at: int, length: int, offset: int) -> None:
    if section.word.unpack_from(window.view, at)[0] != length:
        raise window.error(f"block of {length} bytes does not end in its length", offset)
