"""pcapng: sections in either byte order, several interfaces, any timestamp resolution.

dpkt's block classes give the layouts and its constants the numbers. Its Reader is not used: it
knows one section and one interface only, makes floats of timestamps (53 bits cannot hold
nanoseconds since 1970), ignores Simple Packet Blocks, ends silently in a cut block, and its
option parser refuses comments that are not UTF-8.

Versions (draft-ietf-opsawg-pcapng, Section Header Block): 1.0 is read, and 1.2, which some writers
put into files that are no different. A section of another major version is skipped and counted, as
the draft asks; one of another minor version is skipped too, and a fault, as nobody has defined it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct

from attrs import frozen
from dpkt import pcapng

from xennet.port.base import Counters
from xennet.port.capture import (
    LINKTYPE_ETHERNET,
    NANOSECONDS,
    Faults,
    Interface,
    Record,
    Remark,
    Section,
    check_length,
)
from xennet.port.frame_options import (
    CUSTOM,
    EPB_FLAGS,
    FrameOptions,
    OffloadState,
    OptionError,
)
from xennet.port.window import Window

#: The type of a Section Header Block, a palindrome: it reads the same in both byte orders.
MAGIC = pcapng.PCAPNG_BT_SHB
_MINORS = (0, 2)
#: Longest block that is looked into, as libpcap's MAX_BLOCKSIZE; other kinds are skipped unread.
_MAX_BLOCK = 16 << 20
#: A section's interfaces may fill so many bytes of blocks; one takes some memory however short.
_MAX_INTERFACES = 16 << 20
_INTERFACE_COST = 256
_HEADER, _TRAILER = 8, 4
_SMALLEST = _HEADER + _TRAILER
_DEFAULT_TICKS = 10**6
_PACKETS = (pcapng.PCAPNG_BT_EPB, pcapng.PCAPNG_BT_PB, pcapng.PCAPNG_BT_SPB)
#: Options of an interface that a recording keeps.
_KEPT = (
    pcapng.PCAPNG_OPT_COMMENT,
    pcapng.PCAPNG_OPT_IF_NAME,
    pcapng.PCAPNG_OPT_IF_DESCRIPTION,
)
#: Where the value of epb_flags has the length of the FCS in bytes.
_FLAGS_FCS_SHIFT, _FLAGS_FCS_MASK = 5, 0xF


def _fields(order: str, block: type) -> Struct:
    """The codec of the fixed fields of a dpkt ``block``, between its two lengths."""
    layout: str = block.__hdr_fmt__  # type: ignore[attr-defined]
    return Struct(order + layout[3:-1])


@frozen
class _Interface:
    """An interface of ``linktype``.

    ``snaplen`` bytes (0 = no limit), ``ticks`` per second, ``fcs`` bytes at the end of each packet.
    ``remark``: that of its packets without a comment of their own.
    """

    linktype: int
    snaplen: int
    ticks: int
    fcs: int
    remark: Remark

    def nanoseconds(self, timestamp: int) -> int:
        """A time stamp in nanoseconds, rounded down if ticks are shorter than a nanosecond."""
        offset = self.remark.interface.offset
        return timestamp * NANOSECONDS // self.ticks + offset * NANOSECONDS


class _Section:
    """A section: its byte order ("<" or ">"), the codecs in it, and its interfaces so far.

    ``faults`` takes what is wrong with metadata. ``info``: the part that recordings keep.
    ``skipped``: its version is not read.
    """

    def __init__(self, order: str, faults: Faults) -> None:
        self.faults = faults
        self.frame_options = FrameOptions(order)
        self.info = Section()
        self.skipped = False
        self.interfaces: list[_Interface] = []
        self.all_ethernet = True
        self.room_for_interfaces = _MAX_INTERFACES
        self.word = Struct(order + "I")
        self.half = Struct(order + "H")
        self.option = Struct(order + "HH")
        self.tsoffset = Struct(order + "q")
        self.header = _fields(order, pcapng.SectionHeaderBlock)
        self.interface = _fields(order, pcapng.InterfaceDescriptionBlock)
        self.enhanced = _fields(order, pcapng.EnhancedPacketBlock)
        self.obsolete = _fields(order, pcapng.PacketBlock)


@frozen
class _Block:
    """The bytes between the two lengths of a block, its section, and the offset where it starts."""

    window: Window
    section: _Section
    body: memoryview
    offset: int

    def unpack(self, layout: Struct) -> tuple[int, ...]:
        if len(self.body) < layout.size:
            message = f"block with {len(self.body)} bytes inside, needs {layout.size}"
            raise self.window.error(message, self.offset)
        return layout.unpack_from(self.body)

    def options(self, at: int, strict: bool = False) -> Iterator[tuple[int, memoryview]]:
        """Yield (code, value) of the options that start at byte ``at`` of the body.

        An option that the block's end cuts ends them, a custom option with what is left of it; with
        ``strict`` it raises CaptureError.
        """
        while at + 4 <= len(self.body):
            code, length = self.section.option.unpack_from(self.body, at)
            if code == pcapng.PCAPNG_OPT_ENDOFOPT:
                return
            value = self.body[at + 4 : at + 4 + length]
            if len(value) < length:
                if not strict:
                    if code == CUSTOM:
                        yield code, value
                    return
                message = f"option {code} of {length} bytes runs past its block"
                raise self.window.error(message, self.offset)
            yield code, value
            at += 4 + (length + 3 & ~3)

    def packet(
        self, interface: int, timestamp: int | None, captured: int, wire_length: int, at: int
    ) -> Record:
        """The record of ``captured`` bytes at byte ``at`` of the body, with the options behind it.

        ``timestamp`` None: the block has neither a time stamp nor options.
        """
        check_length(self.window, captured, self.offset)
        data = self.body[at : at + captured]
        if len(data) < captured:
            message = f"packet of {captured} bytes runs past its block"
            raise self.window.error(message, self.offset)
        described = self.described(interface)
        fcs, remark = described.fcs, described.remark
        if timestamp is None:
            return Record(0, data, wire_length, self.offset, fcs, remark)
        time, comments, told, state = described.nanoseconds(timestamp), [], None, None
        for code, value in self.options(at + (captured + 3 & ~3)):
            if code == EPB_FLAGS and len(value) == self.section.word.size:
                (flags,) = self.section.word.unpack(value)
                fcs = flags >> _FLAGS_FCS_SHIFT & _FLAGS_FCS_MASK or fcs
                told = self.section.frame_options.told(flags)
            elif code == pcapng.PCAPNG_OPT_COMMENT:
                comments.append(bytes(value))
            elif code == CUSTOM:
                state = self._state(value) or state
        if comments:
            remark = Remark(remark.interface, tuple(comments))
        return Record(time, data, wire_length, self.offset, fcs, remark, state or told)

    def _state(self, value: memoryview) -> OffloadState | None:
        """The metadata in a custom option; one that cannot be read is a fault, and says nothing."""
        try:
            return self.section.frame_options.decode(value)
        except OptionError as e:
            self.section.faults.add("option", str(self.window.error(str(e), self.offset)))
            return OffloadState()

    def described(self, interface: int) -> _Interface:
        """The interface of that number. Raises CaptureError if no block has described it yet."""
        known = self.section.interfaces
        if interface >= len(known):
            message = f"packet of interface {interface}, only {len(known)} described before it"
            raise self.window.error(message, self.offset)
        return known[interface]


def _interface_description(block: _Block) -> None:
    layout, section = block.section.interface, block.section
    linktype, _, snaplen = block.unpack(layout)
    section.room_for_interfaces -= max(len(block.body), _INTERFACE_COST)
    if section.room_for_interfaces < 0:
        message = f"more interfaces than {len(section.interfaces)} make no sense"
        raise block.window.error(message, block.offset)
    ticks, offset, fcs, kept = _DEFAULT_TICKS, 0, 0, []
    for code, value in block.options(layout.size, strict=True):
        if code == pcapng.PCAPNG_OPT_IF_TSRESOL and len(value) == 1:
            ticks = (2 if value[0] & 0x80 else 10) ** (value[0] & 0x7F)
        elif code == pcapng.PCAPNG_OPT_IF_TSOFFSET and len(value) == 8:
            (offset,) = section.tsoffset.unpack(value)
        elif code == pcapng.PCAPNG_OPT_IF_FCSLEN and len(value) == 1:
            fcs = _fcs_length(value[0])
        elif code in _KEPT:
            kept.append((code, bytes(value)))
    remark = Remark(Interface(section.info, tuple(kept), offset))
    section.all_ethernet &= linktype == LINKTYPE_ETHERNET
    section.interfaces.append(_Interface(linktype, snaplen, ticks, fcs, remark))


def _fcs_length(told: int) -> int:
    """Bytes in an if_fcslen. The draft's text says bits; its example, and Wireshark, say bytes."""
    return told // 8 if told % 8 == 0 else told


def _enhanced_packet(block: _Block) -> Record:
    layout = block.section.enhanced
    interface, high, low, captured, wire_length = block.unpack(layout)
    return block.packet(interface, high << 32 | low, captured, wire_length, layout.size)


def _obsolete_packet(block: _Block) -> Record:
    layout = block.section.obsolete
    interface, _, high, low, captured, wire_length = block.unpack(layout)
    return block.packet(interface, high << 32 | low, captured, wire_length, layout.size)


def _simple_packet(block: _Block) -> Record:
    """The record of a Simple Packet Block.

    It has the wire length only; the snap length of interface 0 tells how much was captured.
    """
    layout = block.section.word
    (wire_length,) = block.unpack(layout)
    snaplen = block.described(0).snaplen
    captured = min(wire_length, snaplen) if snaplen else wire_length
    return block.packet(0, None, captured, wire_length, layout.size)


#: Block type -> what reads it. Other blocks of a section are skipped.
_BLOCKS: dict[int, Callable[[_Block], Record | None]] = {
    pcapng.PCAPNG_BT_IDB: _interface_description,
    pcapng.PCAPNG_BT_EPB: _enhanced_packet,
    pcapng.PCAPNG_BT_PB: _obsolete_packet,
    pcapng.PCAPNG_BT_SPB: _simple_packet,
}


def records(window: Window, counters: Counters, faults: Faults) -> Iterator[Record]:
    """Yield the Ethernet packets of all sections in file order.

    Packets of other link types and sections of unknown major versions are counted in ``counters``.
    Raises CaptureError where the file is damaged.
    """

    def header(block: _Block) -> None:
        _section_header(block, counters, faults)

    section = _new_section(window, faults)
    while window.need(_HEADER):
        offset = window.offset
        (kind,) = section.word.unpack_from(window.view, window.pos)
        if kind == MAGIC and offset:
            section = _new_section(window, faults)
        (length,) = section.word.unpack_from(window.view, window.pos + 4)
        if length < _SMALLEST or length % 4:
            _check_zeros(window)
            raise window.error(f"impossible block length {length}", offset)
        parse = header if kind == MAGIC else None if section.skipped else _BLOCKS.get(kind)
        if parse is None:
            _skip_block(window, section, length)
            continue
        if not section.all_ethernet and _other_linktype(window, section, kind):
            _skip_block(window, section, length)
            counters.skipped_linktype += 1
            continue
        if length > _MAX_BLOCK:
            raise window.error(f"block of {length} bytes, at most {_MAX_BLOCK} make sense", offset)
        if not window.need(length):
            left = window.end - window.pos
            raise window.error(f"block cut short, {left} of {length} bytes", offset)
        start, end = window.pos, window.pos + length
        _check_trailer(window, section, end - _TRAILER, length, offset)
        window.pos = end
        body = window.view[start + _HEADER : end - _TRAILER]
        record = parse(_Block(window, section, body, offset))
        if record is not None:
            yield record
    left, offset = window.end - window.pos, window.offset
    if left:
        _check_zeros(window)
        raise window.error(f"block header cut short, {left} of {_HEADER} bytes", offset)


def _section_header(block: _Block, counters: Counters, faults: Faults) -> None:
    """Begin a section, to be read or to be skipped block by block.

    One of another major version is skipped at once if it tells its length.
    """
    _, major, minor, length = block.unpack(block.section.header)
    if major != pcapng.PCAPNG_VERSION_MAJOR:
        block.section.skipped = True
        counters.skipped_sections += 1
        if length > 0 and not block.window.skip(length):
            raise block.window.error(f"section of {length} bytes cut short", block.offset)
    elif minor not in _MINORS:
        block.section.skipped = True
        message = f"section of pcapng version {major}.{minor} refused, 1.0 and 1.2 are known"
        faults.add("version", str(block.window.error(message, block.offset)))
    else:
        options = block.options(block.section.header.size)
        comments = (bytes(value) for code, value in options if code == pcapng.PCAPNG_OPT_COMMENT)
        block.section.info = Section(tuple(comments))


def _other_linktype(window: Window, section: _Section, kind: int) -> bool:
    """Whether the block that starts here is a packet of an interface that is no Ethernet."""
    if kind not in _PACKETS or not window.need(_SMALLEST):
        return False
    number, known = 0, section.interfaces
    if kind != pcapng.PCAPNG_BT_SPB:
        layout = section.half if kind == pcapng.PCAPNG_BT_PB else section.word
        (number,) = layout.unpack_from(window.view, window.pos + _HEADER)
    return number < len(known) and known[number].linktype != LINKTYPE_ETHERNET


def _check_zeros(window: Window) -> None:
    """Raise CaptureError if nothing but zeros follows. Zeros before other bytes are skipped."""
    start = window.offset
    while window.need(1) and (zeros := window.zeros()):
        window.pos += zeros
    if window.pos == window.end:
        raise window.error("only zeros from there on", start)


def _new_section(window: Window, faults: Faults) -> _Section:
    """The section whose header block starts here, in the byte order that its magic shows."""
    if not window.need(_SMALLEST):
        raise window.error("section header cut short", window.offset)
    magic = window.view[window.pos + 8 : window.pos + _SMALLEST]
    for order in "<>":
        if Struct(order + "I").unpack(magic)[0] == pcapng.BYTE_ORDER_MAGIC:
            return _Section(order, faults)
    raise window.error(f"no byte-order magic in {magic.hex()}", window.offset + 8)


def _skip_block(window: Window, section: _Section, length: int) -> None:
    """Skip a block that is not needed, whatever its length."""
    offset = window.offset
    if not (window.skip(length - _TRAILER) and window.need(_TRAILER)):
        left = window.offset + window.end - window.pos - offset
        raise window.error(f"block cut short, {left} of {length} bytes", offset)
    _check_trailer(window, section, window.pos, length, offset)
    window.pos += _TRAILER


def _check_trailer(window: Window, section: _Section, at: int, length: int, offset: int) -> None:
    if section.word.unpack_from(window.view, at)[0] != length:
        raise window.error(f"block of {length} bytes does not end in its length", offset)
