"""The machine of this process: one netmap device, shared by all that open ports by their names."""

from __future__ import annotations

from xennet.engine.choice import Engine, current
from xennet.netmap.device import Device

#: Memory and kernels are set up for one engine; only tests use several in a process.
_DEVICES: dict[Engine, Device] = {}


def device_of_process() -> Device:
    """The device that every port of this process is on unless it is told another: it is made when
    it is first asked for, and has no interface until one is added to its state."""
    engine = current()
    if engine not in _DEVICES:
        _DEVICES[engine] = Device()
    return _DEVICES[engine]
