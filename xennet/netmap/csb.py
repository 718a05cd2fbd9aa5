"""Control blocks: head and cur of each ring in the client's own memory, and the kernel's answers.

One nm_csb_atok (application to kernel) and one nm_csb_ktoa (kernel to application) for each bound
ring, tx rings first. With them the client syncs no more by ioctl; a kernel loop looks at them
(:mod:`xennet.netmap.kloop`). Rules: netmap.c, netmap_csb_validate.
"""

from __future__ import annotations

from errno import EBUSY, EFAULT, EINVAL
from typing import Any

from attrs import frozen

from xennet.abi.netmap import ATOK, KTOA, NR_EXCLUSIVE, OPT_CSB
from xennet.netmap.address_space import AddressSpace, FaultError
from xennet.netmap.descriptor import Descriptor
from xennet.netmap.errors import NetmapError
from xennet.netmap.kring import K_HWCUR, K_HWTAIL, K_RCUR, K_RHEAD, Kring
from xennet.netmap.options import Option
from xennet.netmap.registration import Registration

_KICK = KTOA.offsets["kern_need_kick"]


@frozen
class Written:
    """What a client has written for a ring: ``flags`` are those of the sync that it wants."""

    head: int
    cur: int
    flags: int


@frozen(eq=False)
class ControlBlocks:
    """The control blocks of a registration: two arrays at addresses of the client."""

    memory: AddressSpace
    atok: int
    ktoa: int
    rings: tuple[Kring, ...]

    def _atok(self, index: int) -> Any:
        return ATOK.read(self.memory.read(self.atok + index * ATOK.size, ATOK.size))

    def written(self, index: int) -> Written:
        """What the client has written for ring ``index``. Raises FaultError."""
        told = self._atok(index)
        return Written(told.head, told.cur, told.sync_flags)

    def wants_interrupt(self, index: int) -> bool:
        """Whether the client wants to be told of news of ring ``index``. Raises FaultError."""
        return bool(self._atok(index).appl_need_kick)

    def answer(self, index: int, hwcur: int, hwtail: int) -> None:
        """Tell the client how far ring ``index`` is. Raises FaultError."""
        values = hwcur.to_bytes(4, "little") + hwtail.to_bytes(4, "little")
        self.memory.write(self.ktoa + index * KTOA.size, values)

    def want_kick(self, index: int, wanted: int) -> None:
        """Tell the client whether to kick when it has written (1) or not (0). Raises FaultError."""
        at = self.ktoa + index * KTOA.size + _KICK
        self.memory.write(at, wanted.to_bytes(4, "little"))

    def begin(self) -> None:
        """Write where every ring stands. Raises FaultError."""
        for index, kring in enumerate(self.rings):
            pvt = kring.pvt
            atok = ATOK.pack(pvt[K_RHEAD], pvt[K_RCUR], 1, 1, b"")
            at = self.atok + index * ATOK.size
            self.memory.write(at, atok[: ATOK.offsets["pad"]])
            ktoa = KTOA.pack(pvt[K_HWCUR], pvt[K_HWTAIL], 1, b"")
            self.memory.write(self.ktoa + index * KTOA.size, ktoa)


def enable(file: Descriptor, registration: Registration | None, option: Option) -> None:
    """Sync by the control blocks of the option from now on.

    Raises NetmapError, which is the option's status as well: EBUSY while a kernel loop runs, EINVAL
    for a registration that is not exclusive and for arrays that are not aligned, EFAULT for arrays
    that are not there.
    """
    try:
        file.csb = _checked(file, registration, option)
    except NetmapError as e:
        option.status = e.errno
        raise
    option.status = 0


def _checked(file: Descriptor, registration: Registration | None, option: Option) -> ControlBlocks:
    if file.kloop is not None:
        raise NetmapError(EBUSY, "a kernel loop runs")
    if registration is None or not registration.binding.flags & NR_EXCLUSIVE:
        raise NetmapError(EINVAL, "control blocks need an exclusive registration")
    asked = option.read(OPT_CSB)
    for address, size in ((asked.csb_atok, ATOK.size), (asked.csb_ktoa, KTOA.size)):
        if address % size:
            raise NetmapError(EINVAL, f"{address:#x} is not aligned")
    binding = registration.binding
    rings = tuple(binding.rings(True) + binding.rings(False))
    blocks = ControlBlocks(file.memory, asked.csb_atok, asked.csb_ktoa, rings)
    try:
        for address in (asked.csb_atok, asked.csb_ktoa):
            length = len(rings) * ATOK.size
            file.memory.write(address, file.memory.read(address, length))
        blocks.begin()
    except FaultError as e:
        raise NetmapError(EFAULT, str(e)) from e
    return blocks
