"""Interfaces of Linux as interfaces of the emulated machine: those that lead nowhere else.

A program that makes a TAP, dummy or veth interface for its tests finds it on /dev/netmap under the
same name: a dummy, and a TAP, take frames and bring none, the ends of a veth pair are joined.
Nothing comes from Linux's own stack or goes to it, so an interface that leads out of the machine is
none here.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from contextlib import suppress

from attrs import define, field

from xennet.netmap.module_state import State
from xennet.netmap.net_interface import NetInterface, join_pair

_SIOCETHTOOL = 0x8946
_ETHTOOL_GDRVINFO = 3
#: struct ethtool_drvinfo; the driver's name is behind the command.
_DRVINFO_BYTES = 196
_SINKS = (b"tun", b"dummy")
_PAIR = b"veth"


@define(eq=False)
class LinuxInterfaces:
    """Those of the machine that this process is on, as ``state`` has them."""

    state: State
    _ours: dict[str, NetInterface] = field(init=False, factory=dict)
    _others: dict[str, int] = field(init=False, factory=dict)

    def look(self) -> None:
        """Add those that are new, and remove those that are gone, unless they are in use."""
        there = {name: index for index, name in socket.if_nameindex()}
        for name, interface in list(self._ours.items()):
            if name not in there and interface.adapter is None:
                del self._ours[name]
                if self.state.interfaces.get(name) is interface:
                    del self.state.interfaces[name]
        for name, index in there.items():
            if name in self._ours:
                self._ours[name].mtu = _number(name, "mtu") or self._ours[name].mtu
            elif name not in self.state.interfaces and self._others.get(name) != index:
                self._add(name, index)

    def close(self) -> None:
        """Remove all."""
        for name, interface in self._ours.items():
            if self.state.interfaces.get(name) is interface:
                del self.state.interfaces[name]
        self._ours.clear()

    def _add(self, name: str, index: int) -> None:
        driver = _driver(name)
        if driver not in (*_SINKS, _PAIR):
            self._others[name] = index
            return
        made = NetInterface(name, _number(name, "mtu") or 1500)
        self._ours[name] = self.state.add_interface(made)
        with suppress(OSError):
            peer = socket.if_indextoname(_number(name, "iflink"))
            if driver == _PAIR and peer in self._ours and peer != name:
                join_pair(made, self._ours[peer])


def _number(name: str, what: str) -> int:
    """A number that Linux tells of an interface; 0 if it is gone."""
    with suppress(OSError, ValueError), open(f"/sys/class/net/{name}/{what}") as told:
        return int(told.read())
    return 0


def _driver(name: str) -> bytes:
    """The name of an interface's driver; b"" if it does not tell."""
    info = array.array("B", struct.pack("I", _ETHTOOL_GDRVINFO).ljust(_DRVINFO_BYTES, b"\0"))
    request = struct.pack("16sQ16x", name.encode()[:15], info.buffer_info()[0])
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
        return info.tobytes()[4:36].partition(b"\0")[0]
    return b""
