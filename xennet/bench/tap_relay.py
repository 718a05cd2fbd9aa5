"""``python -m xennet.bench.tap_relay ONE OTHER``: the least that moves frames between two TAP
interfaces (each NAME@NETNS) in Python.

Each frame is one read and one write of the same bytes, header included, up to 64 of them for each
wake-up; nothing looks at them. It runs until it is killed.
"""

from __future__ import annotations

import os
import select
import sys

from xennet.abi.virtio_net import VNET_HDR
from xennet.frames import EVERYTHING, MAX_FRAME
from xennet.tap.device import TapDevice

_FRAMES = 64


def main(one: str, other: str) -> None:
    """Move frames between the two interfaces, both ways, for ever."""
    names = (argument.partition("@") for argument in (one, other))
    devices = [TapDevice(name, namespace if at else None) for name, at, namespace in names]
    for device in devices:
        device.set_offload(EVERYTHING)
    ways = {devices[0].writer: devices[1].writer, devices[1].writer: devices[0].writer}
    poll = select.epoll()
    for source in ways:
        poll.register(source, select.EPOLLIN)
    read, write, size = os.read, os.write, VNET_HDR.size + MAX_FRAME + 4
    while True:
        for source, _ in poll.poll():
            target = ways[source]
            try:
                for _ in range(_FRAMES):
                    write(target, read(source, size))
            except BlockingIOError:
                pass


if __name__ == "__main__":
    main(*sys.argv[1:])
