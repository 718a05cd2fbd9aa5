"""A region in the client's own memory: the extmem option.

Rules: netmap_mem2.c, netmap_mem_ext_create.
"""

from __future__ import annotations

from errno import EFAULT, ENOMEM

from xennet.abi.netmap import OPT_EXTMEM
from xennet.netmap.address_space import AddressSpace, FaultError
from xennet.netmap.errors import NetmapError
from xennet.netmap.module_state import State
from xennet.netmap.options import Option
from xennet.netmap.pools import PoolSize
from xennet.netmap.region import PRIVATE_SIZES, RING_LIMITS, Region, Sizes

_KINDS = (("if", "ifs"), ("ring", "rings"), ("buf", "bufs"))


def external_region(state: State, memory: AddressSpace, option: Option) -> Region:
    """The region that the option asks for, with a reference for the caller.

    Numbers and sizes of 0 get the defaults of a private region, and the client is told them. Raises
    NetmapError, which is the option's status as well: EFAULT for pages that are not there, ENOMEM
    for pools that do not fit; with status 0 for ring objects of 32 pages or more, which are refused
    only when the region is used.
    """
    asked = option.read(OPT_EXTMEM)
    sizes = []
    for kind, of_region in _KINDS:
        default: PoolSize = getattr(PRIVATE_SIZES, of_region)
        number = getattr(asked, f"nro_info_nr_{kind}_pool_objtotal") or default.number
        size = getattr(asked, f"nro_info_nr_{kind}_pool_objsize") or default.size
        for field, value in (("objtotal", number), ("objsize", size)):
            at = OPT_EXTMEM.offsets[f"nro_info.nr_{kind}_pool_{field}"]
            option.whole[at : at + 4] = value.to_bytes(4, "little")
        sizes.append(PoolSize(number, size))
    if sizes[1].size >= RING_LIMITS.max_size:
        option.status = 0
        raise NetmapError(ENOMEM, f"ring objects of {sizes[1].size} bytes")
    try:
        length = asked.nro_info_nr_memsize
        if not length:
            raise NetmapError(ENOMEM, "no memory is given")
        pages = memory.pin(asked.nro_usrptr, length)
        region = state.regions.external(Sizes(*sizes), pages)
    except FaultError as e:
        option.status = EFAULT
        raise NetmapError(EFAULT, str(e)) from e
    except NetmapError as e:
        option.status = e.errno
        raise
    option.status = 0
    return state.regions.get(region)
