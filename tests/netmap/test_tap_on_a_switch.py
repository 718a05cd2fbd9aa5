"""A TAP behind an interface on a VALE switch: the kernel answers to a netmap client."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator

import pytest
from namespaces import namespace, why_none

from xennet.abi.netmap import NR_REG_ALL_NIC
from xennet.frames import BaseEndpoint
from xennet.link.base_link import BaseLink
from xennet.netmap import InterfaceEnd
from xennet.netmap import open as open_port
from xennet.netmap.device import Device
from xennet.netmap.vale_nic import attach, detach
from xennet.tap.port import TapPort
from xennet.wrap.offload_edge import OffloadEdge

_WHY = why_none()
pytestmark = pytest.mark.skipif(bool(_WHY), reason=_WHY or "-")

MAC = bytes.fromhex("020000000001")
MINE, KERNELS = socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2")


@pytest.fixture
def netns() -> Iterator[str]:
    with namespace() as name:
        yield name


def asked_for_address() -> bytes:
    """An ARP request for the kernel's address."""
    head = b"\xff" * 6 + MAC + bytes.fromhex("0806 0001 0800 06 04 0001")
    return (head + MAC + MINE + bytes(6) + KERNELS).ljust(60, b"\0")


def test_the_kernel_answers_a_client_over_a_switch(netns: str) -> None:
    device, end, link = Device(), InterfaceEnd(BaseEndpoint()), BaseLink()
    tap = TapPort(f"x0@{netns}")
    subprocess.run(["ip", "-n", netns, "addr", "add", "192.0.2.2/24", "dev", "x0"], check=True)
    pair = link.join(end, OffloadEdge(tap))
    link.open()
    end.add(device, pair.interfaces[0], "x0")
    with open_port("vale0:p", device=device) as port:
        attach(device.state, "vale0:x0", NR_REG_ALL_NIC, 0, 0, None)
        port.inject(asked_for_address())
        port.txsync()
        answers: list[bytes] = []
        until = time.monotonic() + 60
        while not answers and time.monotonic() < until:
            link.carry()
            port.rxsync()
            seen = iter(port.next_packet, None)
            answers = [one for one in seen if one[12:14] == b"\x08\x06" and one[20:22] == b"\0\2"]
        (answer,) = answers
        assert (answer[:6], answer[28:32], answer[38:42]) == (MAC, KERNELS, MINE)
        detach(device.state, "vale0:x0")
    end.remove()
    link.destroy()
    tap.close()
