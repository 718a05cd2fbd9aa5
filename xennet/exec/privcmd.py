"""/dev/xen/privcmd (drivers/xen/privcmd.c of Linux): what user space programs ask the hypervisor.

Only what the programs need that are known to run here: XEN_DOMCTL_getdomaininfo, and pages of other
domains for domain 0. Everything else is refused, as a hypervisor without it would.
"""

from __future__ import annotations

import errno
import struct

from xennet.abi.linux_xen import (
    IOCTL_PRIVCMD_DM_OP,
    IOCTL_PRIVCMD_HYPERCALL,
    IOCTL_PRIVCMD_MMAPBATCH_V2,
    IOCTL_PRIVCMD_RESTRICT,
    PRIVCMD_HYPERCALL,
    PRIVCMD_MMAPBATCH_V2,
)
from xennet.abi.xen import DOMID_FIRST_RESERVED, PAGE_SIZE
from xennet.exec.devices import Call, Device, MapRequest, OpenFile, Pages, of_frames

#: xen/xen.h
_HYPERVISOR_domctl = 36
#: xen/domctl.h
_XEN_DOMCTL_getdomaininfo = 5
_XEN_DOMINF_dying, _XEN_DOMINF_shutdown, _XEN_DOMINF_running = 1 << 0, 1 << 2, 1 << 5
_XEN_DOMINF_shutdownshift = 16
#: Pages of one mapping.
_MOST_PAGES = 1 << 16


class PrivcmdFile(Device):
    """One open file of /dev/xen/privcmd."""

    def __init__(self, file: OpenFile) -> None:
        super().__init__(file)
        self._restricted: int | None = None
        self.ioctls = {
            IOCTL_PRIVCMD_HYPERCALL: self._hypercall,
            IOCTL_PRIVCMD_MMAPBATCH_V2: self._mmapbatch,
            IOCTL_PRIVCMD_DM_OP: self._dm_op,
            IOCTL_PRIVCMD_RESTRICT: self._restrict,
        }

    def mmap(self, request: MapRequest) -> Pages:
        # Only the addresses: what is there comes with IOCTL_PRIVCMD_MMAPBATCH_V2.
        if not 0 < request.count <= _MOST_PAGES:
            raise OSError(errno.ENOMEM, f"{request.count} pages")
        return of_frames(self.file.domain, [-1] * request.count, request.prot, payload=True)

    # -- ioctls ------------------------------------------------------------------------------------

    def _hypercall(self, call: Call) -> int:
        if self._restricted is not None:
            raise OSError(errno.EPERM, "restricted to one domain")
        op, first, *_ = PRIVCMD_HYPERCALL.unpack_from(call.argument())
        if op != _HYPERVISOR_domctl:
            raise OSError(errno.ENOSYS, f"hypercall {op}")
        return self._domctl(call, first)

    def _domctl(self, call: Call, address: int) -> int:
        """struct xen_domctl: cmd, interface_version, domain, padding, and from byte 16 on the
        command's own (xen 4.17 and 4.20 domctl.h)."""
        memory, domain = call.client.memory, self.file.domain
        command, _, domid = struct.unpack("=IIH6x", memory.read(address, 16))
        if not domain.domain.privileged or command != _XEN_DOMCTL_getdomaininfo:
            raise OSError(errno.EPERM, f"domctl {command}")
        infos = map(domain.machine.domain_info, range(domid, DOMID_FIRST_RESERVED))
        info = next((info for info in infos if info is not None), None)
        if info is None:
            raise OSError(errno.ESRCH, f"no domain from {domid} on")
        flags = _XEN_DOMINF_running
        if info.shutdown is not None:
            flags = _XEN_DOMINF_shutdown | (info.shutdown & 0xFF) << _XEN_DOMINF_shutdownshift
        if info.dying:
            flags |= _XEN_DOMINF_dying
        memory.write(address + 8, struct.pack("=H", info.domid))
        memory.write(address + 16, struct.pack("=HHI", info.domid, 0, flags))
        return 0

    def _mmapbatch(self, call: Call) -> int:
        num, domid, address, array, errors = PRIVCMD_MMAPBATCH_V2.unpack_from(call.argument())
        domain, memory = self.file.domain, call.client.memory
        if self._restricted not in (None, domid) or not domain.domain.privileged:
            raise OSError(errno.EPERM, f"pages of domain {domid}")
        found = call.client.mapping_at(address)
        if found is None or found[0].file.path != self.file.path or found[0].frames is None:
            raise OSError(errno.EINVAL, f"nothing of privcmd is at {address:#x}")
        mapping, first = found
        shown = mapping.frames or []
        if not 0 < num <= mapping.count - first:
            raise OSError(errno.EINVAL, f"{num} pages where {mapping.count - first} are")
        there = (call.client.mapping_at(address + nr * PAGE_SIZE) for nr in range(num))
        if address % PAGE_SIZE or any(
            page != (mapping, nr) for nr, page in enumerate(there, first)
        ):
            raise OSError(errno.EINVAL, f"not all of {num} pages at {address:#x} are still there")
        if any(frame >= 0 for frame in shown[first : first + num]):
            raise OSError(errno.EBUSY, "pages are there already")
        gfns = struct.unpack(f"={num}Q", memory.read(array, 8 * num))
        owner, total = domain.machine.memory.owner, domain.machine.memory.nr_frames
        frames = [gfn if gfn < total and owner[gfn] == domid else -1 for gfn in gfns]
        status = [0 if frame >= 0 else -errno.EINVAL for frame in frames]
        memory.write(errors, struct.pack(f"={num}i", *status))
        call.pages = of_frames(domain, frames, 3, address=address)
        call.out = call.argument()
        return 0

    def _dm_op(self, call: Call) -> int:
        domid = int.from_bytes(call.argument()[:2], "little")
        if self._restricted not in (None, domid):
            raise OSError(errno.EPERM, f"restricted to domain {self._restricted}")
        raise OSError(errno.EOPNOTSUPP, "no device model's operations")

    def _restrict(self, call: Call) -> int:
        domid = int.from_bytes(call.argument()[:2], "little")
        if self._restricted not in (None, domid):
            raise OSError(errno.EINVAL, f"restricted to domain {self._restricted}")
        self._restricted = domid
        return 0
