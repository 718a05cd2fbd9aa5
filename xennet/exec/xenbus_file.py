"""/dev/xen/xenbus (drivers/xen/xenbus/xenbus_dev_frontend.c of Linux): the store's wire protocol,
as the domain's own connection."""

from __future__ import annotations

import errno

from xennet.exec.devices import Device


class XenbusFile(Device):
    """One open file of /dev/xen/xenbus."""

    def opened(self) -> None:
        store = self.file.domain.store
        if store is None:
            raise OSError(errno.ENODEV, "the machine has no store")
        store.adopt(self.file.socket, self.closed)
