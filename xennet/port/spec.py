"""Port specifications: ``scheme:argument``, or a player and a recorder joined by ``+``.

    pcap:in.pcap                   plays a capture; pcap:- reads it from standard input
    gen:1500x1000                  plays 1000 made-up frames of 1500 bytes
    tcp:64000x1000                 plays 1000 GSO frames of a TCP connection (tcp6: over IPv6)
    tcp:1514x1000@8                plays 1000 frames of eight TCP connections in turn
    record:out.pcap                records what arrives; record:- writes to standard output
    null:                          swallows what arrives
    echo:                          gives back what arrives
    shmif:bus                      sends to a bus that other processes share, takes what they send
    pcap:in.pcap+record:out.pcap   plays the one, records to the other

The argument is everything after the first colon. A ``+`` joins two parts only where a known
scheme and a colon follow it, so ``pcap:a+b:c.pcap`` is one file name; a file name that itself
contains ``+record:`` or the like cannot be given.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import import_module
from typing import cast

from attrs import frozen

from xennet.port.base import Port, PortError
from xennet.port.duplex import DuplexPort
from xennet.port.files import STANDARD, check_overwriting


@frozen
class Scheme:
    """One kind of port.

    ``usage`` is shown to people. ``target`` is ``module:class``, as in an entry point, imported
    when it is first used; the class is called with the argument. ``plays``, ``records``: the sides
    of a ``+`` on which it may be. ``reads_file``, ``writes_file``: the argument is a file used that
    way.
    """

    usage: str
    target: str
    plays: bool = False
    records: bool = False
    reads_file: bool = False
    writes_file: bool = False

    def open(self, argument: str) -> Port:
        module, _, name = self.target.partition(":")
        return cast(Port, getattr(import_module(module), name)(argument))


SCHEMES = {
    "pcap": Scheme("pcap:FILE", "xennet.port.pcap:PcapPort", plays=True, reads_file=True),
    "gen": Scheme("gen:SIZExCOUNT", "xennet.port.gen:GenPort", plays=True),
    "record": Scheme(
        "record:FILE", "xennet.port.record:RecordPort", records=True, writes_file=True
    ),
    "null": Scheme("null:", "xennet.port.null:NullPort", records=True),
    "echo": Scheme("echo:", "xennet.port.echo:EchoPort"),
    "shmif": Scheme("shmif:FILE", "xennet.shmif.bus_port:ShmifPort", reads_file=True),
    "tcp": Scheme("tcp:SIZExCOUNT[/MSS][@FLOWS]", "xennet.port.tcp:TcpPort", plays=True),
    "tcp6": Scheme("tcp6:SIZExCOUNT[/MSS][@FLOWS]", "xennet.port.tcp:Tcp6Port", plays=True),
}


#: Least similarity of a misspelt scheme (difflib): "pcpa" means pcap, "tap" does not mean tcp.
_NEAR = 0.7


@frozen
class Part:
    """One ``scheme:argument``."""

    scheme: Scheme
    argument: str

    @property
    def is_file(self) -> bool:
        return self.scheme.reads_file or self.scheme.writes_file


def parse(spec: str) -> list[Part]:
    """The one or two parts of ``spec``, a player before its recorder. Raises PortError."""
    joint = "|".join(map(re.escape, SCHEMES))
    parts = [_part(text, spec) for text in re.split(rf"\+(?=(?:{joint}):)", spec)]
    if len(parts) == 1:
        return parts
    players = [part for part in parts if part.scheme.plays]
    recorders = [part for part in parts if part.scheme.records]
    if len(parts) != 2 or len(players) != 1 or len(recorders) != 1:
        raise PortError(
            f"port {spec!r}: + joins one that plays ({_usages('plays')}) and one that "
            f"records ({_usages('records')})"
        )
    return players + recorders


def records_to_stdout(specs: Sequence[str]) -> bool:
    """Whether one of the ports writes a capture to standard output. Raises PortError as
    :func:`parse` does."""
    parts = (part for spec in specs for part in parse(spec))
    return any(part.scheme.writes_file and part.argument == STANDARD for part in parts)


def open_ports(specs: Sequence[str]) -> list[Port]:
    """Open all ports of a run, or none.

    Everything is checked before the first file is created or overwritten: the specifications, that
    the captures to play can be opened, and that no file is overwritten which the same run reads or
    also writes. Raises PortError that names the port.
    """
    parsed = [parse(spec) for spec in specs]
    parts = [part for spec_parts in parsed for part in spec_parts]
    check_overwriting(
        [part.argument for part in parts if part.scheme.reads_file],
        [part.argument for part in parts if part.scheme.writes_file],
    )
    opened: dict[int, Port] = {}
    with ExitStack() as undo:
        for part in sorted(parts, key=lambda part: part.scheme.writes_file):
            port = part.scheme.open(part.argument)
            undo.callback(port.close)
            opened[id(part)] = port
        undo.pop_all()
    return [_joined([opened[id(part)] for part in spec_parts]) for spec_parts in parsed]


def open_port(spec: str) -> Port:
    """Open one port. Raises PortError as :func:`open_ports` does."""
    return open_ports([spec])[0]


def _joined(ports: list[Port]) -> Port:
    return ports[0] if len(ports) == 1 else DuplexPort(*ports)


def _part(text: str, spec: str) -> Part:
    name, colon, argument = text.partition(":")
    scheme = SCHEMES.get(name)
    if scheme is None or not colon:
        meant = _meant(name, colon, argument)
        known = ", ".join(scheme.usage for scheme in SCHEMES.values())
        raise PortError(
            f"port {spec!r}: unknown, did you mean {meant}?"
            if meant
            else f"port {spec!r}: unknown, known are {known}"
        )
    part = Part(scheme, argument)
    if part.is_file and (not argument or "\0" in argument):
        raise PortError(f"port {spec!r}: no file name, wants {scheme.usage}")
    return part


def _meant(name: str, colon: str, argument: str) -> str:
    """What an unknown part may have been meant to be; "" if there is no guess.

    That is a capture, by its name or because the file exists, or a scheme with a similar name.
    """
    text = f"{name}{colon}{argument}"
    if os.path.isfile(text):
        return f"pcap:{text}"
    if text.endswith((".pcap", ".pcapng")) and not colon:
        return f"pcap:{text} or record:{text}"
    from difflib import get_close_matches

    near = get_close_matches(name, SCHEMES, 1, cutoff=_NEAR) if colon else []
    return f"{near[0]}:{argument}" if near else ""


def _usages(role: str) -> str:
    return ", ".join(scheme.usage for scheme in SCHEMES.values() if getattr(scheme, role))
