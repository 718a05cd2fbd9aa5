"""Ports: sources and sinks of frames. See :mod:`xennet.port.base` for the interface."""

from xennet.frames import UNBOUNDED
from xennet.port.base import BasePort, Counters, Port, PortError, PortWrapper
from xennet.port.spec import open_port, open_ports

__all__ = [
    "UNBOUNDED",
    "BasePort",
    "Counters",
    "Port",
    "PortError",
    "PortWrapper",
    "open_port",
    "open_ports",
]
