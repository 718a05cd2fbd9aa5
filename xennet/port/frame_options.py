"""What a pcapng file says of a frame that waits for an offload, or that has a hash: two options of
its packet block.

epb_flags has bits for the first of it, which other programs write and read too
(draft-ietf-opsawg-pcapng, "Enhanced Packet Block Flags Word"): bit 9, checksum not ready; bit 10,
checksum valid; bit 11, TCP segmentation offloaded. It has no segment size and no hash: these are
in a custom option, with the flags once more, so that a frame that is read is the one that was
written. Custom options belong to the holder of a Private Enterprise Number. xennet has none, so its
option has the number that is for examples (RFC 5612), and a name behind it:

    ======  ==========================================================================
    byte 0  u32: 32473
    byte 4  "xennet", 1: the name, and the version of what follows
    byte 11 u8: 1 checksum blank, 2 data validated
    byte 12 u32: bytes of a segment, 0 without GSO
    byte 16 u32: XEN_NETIF_GSO_TYPE_*, 0 without GSO
    byte 20 u32: hash algorithm << 8 | hash type + 1, 0 without a hash
    byte 24 u32: hash value
    ======  ==========================================================================

Numbers are in the byte order of the section.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from xennet.frames import ALL_GSO_TYPES, CSUM_BLANK, DATA_VALIDATED, FrameBatch

#: epb_flags, and a custom option with bytes that may be copied to other files.
EPB_FLAGS = 2
CUSTOM = 2989
_FLAGS_SHIFT = 9
_NOT_READY, _SEGMENTED = 1 << 9, 1 << 11
#: Private Enterprise Number for examples in documentation (RFC 5612).
_EXAMPLE = 32473
_NAME = b"xennet"
_VERSION = 1
_HEAD = "I6sB"
_BODY = "BIIII"
#: XEN_NETIF_GSO_TYPE_NONE, and those that a batch may have.
_GSO_TYPES = (0, *(kind for kind in range(32) if ALL_GSO_TYPES >> kind & 1))
#: The gso.size of struct netif_extra_info has 16 bits.
_MAX_GSO_SIZE = 0xFFFF
#: _XEN_NETIF_CTRL_HASH_TYPE_IPV4 + 1 to _XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP + 1.
_HASH_TYPES = range(1, 5)


class OffloadState(NamedTuple):
    """The metadata of a frame, as in the columns of FrameBatch; ``assumed``: a file says only that
    the checksum is not ready, not what is in its place."""

    flags: int = 0
    gso_size: int = 0
    gso_type: int = 0
    hash_info: int = 0
    hash_value: int = 0
    assumed: bool = False

    def problem(self) -> str:
        """What is wrong with it, "" for nothing: a frame that a driver is given has no such
        metadata."""
        if self.flags & ~(CSUM_BLANK | DATA_VALIDATED):
            return f"flags {self.flags:#x}"
        if self.gso_type not in _GSO_TYPES:
            return f"GSO type {self.gso_type}"
        if bool(self.gso_size) != bool(self.gso_type) or self.gso_size > _MAX_GSO_SIZE:
            return f"segments of {self.gso_size} bytes with GSO type {self.gso_type}"
        if self.hash_info and (self.hash_info > 0xFFFF or self.hash_info & 0xFF not in _HASH_TYPES):
            return f"hash {self.hash_info:#x}"
        return ""


class OptionError(Exception):
    """A custom option of ours cannot be read; the message says why."""


class FrameOptions:
    """The codec of both options for a section of byte ``order``, "<" or ">"."""

    def __init__(self, order: str) -> None:
        self._word = Struct(f"{order}I")
        self._head = Struct(order + _HEAD)
        self._whole = Struct(order + _HEAD + _BODY)

    def encode(self, batch: FrameBatch, index: int) -> list[tuple[int, bytes]]:
        """The options (code, value) of frame ``index``, which has metadata."""
        flags, size, info = batch.flags[index], batch.gso_size[index], batch.hash_info[index]
        value = batch.hash_value[index] if info else 0
        kind = batch.gso_type[index] if size else 0
        flags &= CSUM_BLANK | DATA_VALIDATED
        word = flags << _FLAGS_SHIFT | (_SEGMENTED if size else 0)
        mine = self._whole.pack(_EXAMPLE, _NAME, _VERSION, flags, size, kind, info, value)
        return [(EPB_FLAGS, self._word.pack(word)), (CUSTOM, mine)]

    def told(self, flags: int) -> OffloadState | None:
        """What the word of epb_flags says of checksums; None for nothing."""
        if flags & _NOT_READY:
            return OffloadState(CSUM_BLANK | DATA_VALIDATED, assumed=True)
        return OffloadState(DATA_VALIDATED) if flags >> _FLAGS_SHIFT & DATA_VALIDATED else None

    def decode(self, value: memoryview) -> OffloadState | None:
        """What a custom option says; None for one that is not ours. Raises OptionError for one of
        another version, or with values that make no sense, or that is cut short."""
        if len(value) < self._head.size:
            return None
        number, name, version = self._head.unpack_from(value)
        if (number, name) != (_EXAMPLE, _NAME):
            return None
        if version != _VERSION:
            raise OptionError(f"version {version} of xennet's option, {_VERSION} is known")
        if len(value) != self._whole.size:
            raise OptionError(f"xennet's option has {len(value)} bytes, not {self._whole.size}")
        state = OffloadState(*self._whole.unpack_from(value)[3:])
        if problem := state.problem():
            raise OptionError(f"xennet's option makes no sense: {problem}")
        return state
