"""The devices by the paths that programs open. Another device is one line here, and a file."""

from __future__ import annotations

from xennet.exec.devices import MakeDevice
from xennet.exec.evtchn import EvtchnFile
from xennet.exec.gntalloc import GntallocFile
from xennet.exec.gntdev import GntdevFile
from xennet.exec.guest_file import GuestFile
from xennet.exec.netmap_file import NetmapFile
from xennet.exec.privcmd import PrivcmdFile
from xennet.exec.proc_xen import Capabilities, XsdKva, XsdPort
from xennet.exec.xenbus_file import XenbusFile

#: Everything else that a program opens below /dev/xen or /proc/xen does not exist.
DEVICES: dict[str, MakeDevice] = {
    "/dev/netmap": NetmapFile,
    "/dev/xen/evtchn": EvtchnFile,
    "/dev/xen/gntalloc": GntallocFile,
    "/dev/xen/gntdev": GntdevFile,
    "/dev/xen/guest": GuestFile,
    "/dev/xen/privcmd": PrivcmdFile,
    "/dev/xen/xenbus": XenbusFile,
    "/proc/xen/capabilities": Capabilities,
    "/proc/xen/privcmd": PrivcmdFile,
    "/proc/xen/xenbus": XenbusFile,
    "/proc/xen/xsd_kva": XsdKva,
    "/proc/xen/xsd_port": XsdPort,
}
