"""Port specifications: ``scheme:argument``, or a player and a recorder joined by ``+``.

``SCHEMES`` has the schemes of the package; installed packages add others by an entry point of the
group ``xennet.ports`` (:func:`scheme_of` says what that has to name). ``PORTS`` has all of them.

The argument is everything after the first colon. A ``+`` joins two parts only where a known
scheme and a colon follow it, so ``pcap:a+b:c.pcap`` is one file name; a file name that itself
contains ``+record:`` or the like cannot be given.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, cast

from xennet.plugins import Plugin, PluginError, Registry, load
from xennet.port.base import Port, PortError
from xennet.port.duplex import DuplexPort
from xennet.port.files import CAPTURE_OPTIONS, STANDARD, check_overwriting, split_option


class Scheme(NamedTuple):
    """One kind of port.

    ``usage`` is shown to people; it begins with the scheme and its colon. ``target`` is
    ``module:class``, as in an entry point, imported when it is first used; the class is called with
    the argument. ``plays``, ``records``: the sides of a ``+`` on which it may be. ``reads_file``,
    ``writes_file``: the argument is a file used that way, with one of ``options`` behind it, or
    none (xennet.port.files.split_option). ``plugin``: the entry point that it is
    from, None for a scheme of the package.
    """

    usage: str
    target: str
    plays: bool = False
    records: bool = False
    reads_file: bool = False
    writes_file: bool = False
    options: tuple[str, ...] = ()
    plugin: Plugin | None = None

    def open(self, argument: str) -> Port:
        """Open a port. Raises PortError, also for whatever goes wrong within a plugin."""
        port = load(self.target)
        if self.plugin is None:
            return cast(Port, port(argument))
        try:
            made = self.plugin.make(port, argument, protocol=Port, own=PortError)
        except PluginError as error:
            raise PortError(str(error)) from error
        return cast(Port, made)


#: What a class tells of itself as Scheme does of it; what it does not say is False.
_FLAGS = ("plays", "records", "reads_file", "writes_file")


def scheme_of(plugin: Plugin, port: Any) -> Scheme:
    """The scheme that an entry point adds.

    ``port`` is what it names: a class, or another callable, that is called with the argument and
    returns a Port. It has an attribute ``usage``, a str, and may have ``plays``, ``records``,
    ``reads_file`` and ``writes_file``, each as in :class:`Scheme`. Raises TypeError for any other
    object.
    """
    if not callable(port):
        raise TypeError(f"{plugin.target} is no class")
    usage = getattr(port, "usage", None)
    if not isinstance(usage, str) or not usage.startswith(f"{plugin.name}:"):
        wanted = f"a str like {plugin.name + ':ARGUMENT'!r}"
        raise TypeError(f"{plugin.target} has the usage {usage!r}, not {wanted}")
    plays, records, reads, writes = (bool(getattr(port, flag, False)) for flag in _FLAGS)
    return Scheme(usage, plugin.target, plays, records, reads, writes, plugin=plugin)


SCHEMES = {
    "pcap": Scheme(
        "pcap:FILE[?csum=fix]",
        "xennet.port.pcap:PcapPort",
        plays=True,
        reads_file=True,
        options=CAPTURE_OPTIONS,
    ),
    "gen": Scheme("gen:SIZExCOUNT", "xennet.port.gen:GenPort", plays=True),
    "record": Scheme(
        "record:FILE", "xennet.port.record:RecordPort", records=True, writes_file=True
    ),
    "null": Scheme("null:", "xennet.port.null:NullPort", records=True),
    "echo": Scheme("echo:", "xennet.port.echo:EchoPort"),
    "exec": Scheme("exec:COMMAND", "xennet.port.program:ProgramEnd"),
    "netmap": Scheme("netmap:PORT", "xennet.netmap.user.frame_port:NetmapPort"),
    "shmif": Scheme("shmif:FILE", "xennet.shmif.bus_port:ShmifPort", reads_file=True),
    "tap": Scheme("tap:NAME[@NETNS]", "xennet.tap.port:TapPort"),
    "tcp": Scheme("tcp:SIZExCOUNT[/MSS][@FLOWS]", "xennet.port.tcp:TcpPort", plays=True),
    "tcp6": Scheme("tcp6:SIZExCOUNT[/MSS][@FLOWS]", "xennet.port.tcp:Tcp6Port", plays=True),
}

#: Every scheme, those of installed packages too.
PORTS = Registry("xennet.ports", SCHEMES, scheme_of)

#: What may be a scheme behind a plus.
_JOINT = re.compile(r"\+([^:+]+):")
#: Least similarity of a misspelt scheme (difflib): "pcpa" means pcap, "tap" does not mean tcp.
_NEAR = 0.7


class Part(NamedTuple):
    """One ``scheme:argument``; ``file`` is the one that it names, if it names one."""

    scheme: Scheme
    argument: str
    file: str | None


def split(spec: str) -> list[str]:
    """The texts of the parts of ``spec``: each plus before a known scheme and a colon ends one."""
    ends = [joint.start() for joint in _JOINT.finditer(spec) if joint[1] in PORTS]
    starts = [0, *(end + 1 for end in ends)]
    return [spec[start:end] for start, end in zip(starts, [*ends, len(spec)], strict=True)]


def parse(spec: str) -> list[Part]:
    """The one or two parts of ``spec``, a player before its recorder. Raises PortError."""
    parts = [_part(text, spec) for text in split(spec)]
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
    return any(part.scheme.writes_file and part.file == STANDARD for part in parts)


def open_ports(specs: Sequence[str], reads: Sequence[str] = ()) -> list[Port]:
    """Open all ports of a run, or none. ``reads``: files that the run reads besides.

    Everything is checked before the first file is created or overwritten: the specifications, that
    the captures to play can be opened, and that no file is overwritten which the same run reads or
    also writes. Raises PortError that names the port.
    """
    parsed = [parse(spec) for spec in specs]
    parts = [part for spec_parts in parsed for part in spec_parts]
    check_overwriting(
        [
            *reads,
            *(part.file for part in parts if part.file is not None and part.scheme.reads_file),
        ],
        [part.file for part in parts if part.file is not None and part.scheme.writes_file],
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
    try:
        scheme = PORTS.get(name) if colon else None
    except PluginError as error:
        raise PortError(f"port {spec!r}: {error}") from error
    if scheme is None:
        meant = _meant(name, colon, argument)
        known = ", ".join(scheme.usage for scheme in PORTS.usable().values())
        raise PortError(
            f"port {spec!r}: unknown, did you mean {meant}?"
            if meant
            else f"port {spec!r}: unknown, known are {known}"
        )
    if not (scheme.reads_file or scheme.writes_file):
        return Part(scheme, argument, None)
    file = "" if "\0" in argument else split_option(argument, scheme.options)[0]
    if not file:
        raise PortError(f"port {spec!r}: no file name, wants {scheme.usage}")
    return Part(scheme, argument, file)


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

    near = get_close_matches(name, PORTS.names(), 1, cutoff=_NEAR) if colon else []
    return f"{near[0]}:{argument}" if near else ""


def _usages(role: str) -> str:
    return ", ".join(scheme.usage for scheme in PORTS.usable().values() if getattr(scheme, role))
