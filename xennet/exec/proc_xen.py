"""The files of /proc/xen that programs read (drivers/xen/xenfs of Linux)."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress

from xennet.exec.devices import Device, MapRequest, OpenFile, Pages, of_frames


class TextFile(Device):
    """A file that is read from its begin to its end."""

    def text(self) -> bytes:
        """What it says."""
        return b""

    def opened(self) -> None:
        with suppress(OSError):
            self.file.socket.send(self.text())
            self.file.socket.shutdown(socket.SHUT_WR)


class Capabilities(TextFile):
    """/proc/xen/capabilities."""

    def text(self) -> bytes:
        return b"control_d\n" if self.file.domain.domain.privileged else b""


class XsdPort(TextFile):
    """/proc/xen/xsd_port: the port at which the domain's kernel waits for a xenstored."""

    def __init__(self, file: OpenFile) -> None:
        super().__init__(file)
        if file.domain.xsd is None:
            raise OSError(errno.ENOENT, "the domain's kernel waits for no xenstored")

    def text(self) -> bytes:
        assert self.file.domain.xsd is not None
        return str(self.file.domain.xsd[1]).encode()


class XsdKva(Device):
    """/proc/xen/xsd_kva: the ring page of that kernel, which is mapped."""

    def __init__(self, file: OpenFile) -> None:
        super().__init__(file)
        if file.domain.xsd is None:
            raise OSError(errno.ENOENT, "the domain's kernel waits for no xenstored")

    def mmap(self, request: MapRequest) -> Pages:
        domain = self.file.domain
        assert domain.xsd is not None
        if request.offset or request.count != 1:
            raise OSError(errno.EINVAL, "it is one page")
        return of_frames(domain, [domain.xsd[0].first], request.prot, payload=True)
