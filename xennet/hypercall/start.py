"""What a kernel finds when it starts: struct start_info of xen/xen.h."""

from __future__ import annotations

from xennet.abi.xen import MAX_GUEST_CMDLINE, PAGE_SHIFT, START_INFO
from xennet.hypercall.memory_op import MOST_PAGES
from xennet.hypervisor import Domain

_MAGIC = b"xen-3.0-x86_64"


def start_info(domain: Domain, command_line: bytes = b"") -> bytes:
    """The start info of ``domain``: its shared-info page (as an address of the machine), the frame
    and the port of its store ring. There is no console, no module and no page table.

    Raises ValueError for a domain without a store ring, or a command line that is too long.
    """
    ring = domain.store_ring
    if ring is None:
        raise ValueError(f"domain {domain.domid} has no store ring")
    if len(command_line) >= MAX_GUEST_CMDLINE:
        raise ValueError(f"a command line has less than {MAX_GUEST_CMDLINE} bytes")
    known = {
        "magic": _MAGIC,
        "nr_pages": MOST_PAGES,
        "shared_info": domain.shared_info.first << PAGE_SHIFT,
        "store_mfn": ring.gfn,
        "store_evtchn": ring.port,
        "cmd_line": command_line,
    }
    return START_INFO.pack(*(known.get(name, 0) for name in START_INFO.fields))
