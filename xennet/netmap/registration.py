"""A client's registration of a port: made in netmap's order, undone in its order.

Rules: netmap.c, netmap_do_regif and netmap_do_unregif.
"""

from __future__ import annotations

from errno import EBUSY, EINVAL, EOPNOTSUPP

from attrs import define, field

from xennet.abi.netmap import OPT_OFFSETS, RING, SLOT_WORDS, SLOT_W_ptr
from xennet.netmap.adapter import Adapter
from xennet.netmap.binding import Binding
from xennet.netmap.errors import NetmapError
from xennet.netmap.kring import K_OFFSET_MASK, K_OFFSET_MASK_HIGH, K_OFFSET_MAX, Kring
from xennet.netmap.options import Option


@define(eq=False)
class Registration:
    """A port that a client uses: its ``binding``, and the offset of its netmap_if in the region."""

    port: Adapter
    binding: Binding
    if_offset: int = field(init=False, default=-1)
    _registered: bool = field(init=False, default=False)
    _switched: list[Kring] = field(init=False, factory=list)

    @classmethod
    def make(
        cls, port: Adapter, mode: int, ringid: int, flags: int, offsets: Option | None
    ) -> Registration:
        """Bind a client to a port. Raises NetmapError, with nothing left behind: EINVAL for mode,
        rings or MTU, EBUSY for rings that another client has, ENOMEM; those of the offsets option.
        """
        binding = Binding.of(port, mode, ringid, flags)
        made = cls(port, binding)
        port.region.finalize()
        try:
            if not port.active_fds:
                port.check_open(flags)
                port.krings_create()
            fresh = binding.take()
            port.rings_create()
            if offsets is not None:
                _set_offsets(binding, offsets)
            made.if_offset = port.if_new(binding.owns)
            made._switched = fresh
            port.switched(True, fresh)
            port.register()
            made._registered = True
        except NetmapError:
            made.undo()
            raise
        return made

    def undo(self) -> None:
        """Leave the port. Rings that nobody uses any more go, with the buffers in them, and the
        extra buffers that are in the client's list."""
        port = self.port
        if self._registered:
            port.active_fds -= 1
        left = self.binding.release() if self.binding.taken else []
        if self._registered and left:
            port.switched(False, left)
        if not port.active_fds:
            for gone in tuple(port.last_closed):
                gone()
            port.last_closed.clear()
        port.rings_delete()
        if not port.active_fds:
            port.krings_delete()
        if self.if_offset >= 0:
            port.if_delete(self.if_offset)
        port.region.deref()


def _set_offsets(binding: Binding, option: Option) -> None:
    """Give the bound rings the offsets that the option asks for, or check that theirs are no
    narrower; a second client gets the largest offset that is in force written back.

    Raises NetmapError, which is the option's status as well.
    """
    try:
        _apply_offsets(binding, option)
    except NetmapError as e:
        option.status = e.errno
        raise
    option.status = 0


def _apply_offsets(binding: Binding, option: Option) -> None:
    asked = option.read(OPT_OFFSETS)
    port = binding.port
    if not port.takes_offsets:
        raise NetmapError(EOPNOTSUPP, f"{port.name} has no offsets")
    largest, initial, bits = (
        asked.nro_max_offset,
        asked.nro_initial_offset,
        asked.nro_offset_bits or 64,
    )
    if bits > 64 or largest > port.region.buf_size or initial > largest:
        raise NetmapError(EINVAL, f"offsets to {largest}, from {initial}, of {bits} bits")
    mask = (1 << bits) - 1
    if largest & ~mask:
        raise NetmapError(EINVAL, f"an offset of {largest} does not fit {bits} bits")
    for kring in binding.every():
        _offsets_of_ring(kring, mask, largest, initial, option)


def _offsets_of_ring(kring: Kring, mask: int, largest: int, initial: int, option: Option) -> None:
    if kring.offset < 0:
        return
    region = kring.na.region
    if kring.offset_mask:
        in_force = kring.pvt[K_OFFSET_MAX]
        if mask & ~kring.offset_mask or largest > in_force:
            raise NetmapError(EBUSY, f"{kring.name} has narrower offsets")
        at = OPT_OFFSETS.offsets["nro_max_offset"]
        option.whole[at : at + 8] = in_force.to_bytes(8, "little")
        return
    kring.offset_mask = mask
    kring.pvt[K_OFFSET_MAX] = largest
    kring.pvt[K_OFFSET_MASK] = mask & 0xFFFFFFFF
    kring.pvt[K_OFFSET_MASK_HIGH] = mask >> 32
    at = kring.offset + RING.offsets["offset_mask"]
    region.u8[at : at + 8] = mask.to_bytes(8, "little")
    for i in range(kring.num_slots):
        ptr = 4 * (kring.slot_at(0) + i * SLOT_WORDS + SLOT_W_ptr)
        region.u8[ptr : ptr + 8] = initial.to_bytes(8, "little")
