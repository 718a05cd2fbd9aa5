"""The ends of vifs on a host that stays up: ports that may fail without ending it, its switch."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress

from attrs import define

from xennet.frames import UNBOUNDED, Endpoint, FrameBatch, Offload, Watch
from xennet.link.switch import Switch, SwitchPort
from xennet.port.base import Port, PortError, PortWrapper, configure
from xennet.port.files import STANDARD, check_overwriting
from xennet.port.null import NullPort
from xennet.port.program import ProgramEnd
from xennet.port.spec import Part, open_port, parse, split
from xennet.wrap.offload_edge import OffloadEdge

#: Names of ends that are no ports: another program serves the end, or the host's switch does.
OTHER, SWITCH = "other", "switch"


class FailingPort(PortWrapper):
    """A port in front of ``endpoint`` that gives and takes nothing any more when that has failed;
    ``failure`` says how, "" as long as it works."""

    def __init__(self, endpoint: Port) -> None:
        super().__init__(endpoint)
        self.failure = ""

    @property
    def room(self) -> int:
        return UNBOUNDED if self.failure else self.endpoint.room

    def pull(self, batch: FrameBatch, /) -> int:
        pulled = 0
        if not self.failure:
            try:
                pulled = self.endpoint.pull(batch)
            except (PortError, OSError) as error:
                self._fail(error)
        return pulled

    def push(self, batch: FrameBatch, /) -> None:
        self._try(lambda: self.endpoint.push(batch))

    def negotiated(self, offload: Offload, /) -> None:
        self._try(lambda: self.endpoint.negotiated(offload))

    def watch_descriptors(self, watch: Watch, /) -> None:
        self._try(lambda: PortWrapper.watch_descriptors(self, watch))

    def flush(self) -> None:
        """Write out what the port keeps back."""
        self._try(lambda: PortWrapper.flush(self))

    def close(self) -> None:
        """Close the port, whatever has happened to it, and give and take nothing any more."""
        self.failure = self.failure or "closed"
        with suppress(PortError, OSError):
            self.endpoint.close()

    def _try(self, call: Callable[[], object]) -> None:
        if not self.failure:
            try:
                call()
            except (PortError, OSError) as error:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.failure = str(error)


@define(eq=False)
class OpenEnd:
    """One end: ``spec`` names it, ``endpoint`` is what the driver is given.

    ``reads`` and ``writes`` are the files that it has open. ``port`` is None for ends that are no
    ports.
    """

    spec: str
    endpoint: Endpoint
    port: FailingPort | None = None
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    at_switch: SwitchPort | None = None

    @property
    def served(self) -> bool:
        """Whether xennet's driver serves it."""
        return self.spec != OTHER

    @property
    def failure(self) -> str:
        """The error by which its port has failed, "" if it works."""
        return "" if self.port is None else self.port.failure

    @property
    def frames(self) -> tuple[int, int]:
        """The numbers of frames that came in here, and that went out."""
        if self.at_switch is not None:
            at_switch = self.at_switch.counters
            return at_switch.sent, at_switch.received
        if self.port is None:
            return 0, 0
        counters = self.port.counters
        return counters.frames_in, counters.frames_out

    def flush(self) -> None:
        """Write out what is kept back for a file."""
        if self.port is not None and self.writes:
            self.port.flush()

    def close(self) -> None:
        """Close it. May be repeated."""
        if self.port is not None:
            self.port.close()
        if self.at_switch is not None and self.at_switch in self.at_switch.switch.ports:
            self.at_switch.switch.remove_port(self.at_switch)


def with_absolute_files(spec: str) -> str:
    """A port's specification with absolute file names, for a process in another directory. Raises
    PortError for one that is no port."""
    texts = []
    for part, text in _parts(spec):
        if part.file is not None and part.file != STANDARD:
            scheme, _, argument = text.partition(":")
            text = f"{scheme}:{os.path.abspath(part.file)}{argument[len(part.file) :]}"
        texts.append(text)
    return "+".join(texts)


def open_end(
    spec: str, name: str, switch: Switch, others: Iterable[OpenEnd], mtu: int | None, queues: int
) -> OpenEnd:
    """Open the end that ``spec`` names: OTHER, SWITCH (its port is called ``name``) or a port, for
    a vif of ``mtu`` (bytes, None for the usual one) and ``queues``. ``others`` are open already.

    Raises PortError.
    """
    if spec == OTHER:
        return OpenEnd(spec, NullPort())
    if spec == SWITCH:
        at_switch = switch.add_port(name)
        return OpenEnd(spec, OffloadEdge(at_switch), at_switch=at_switch)
    reads, writes = _files(spec)
    taken = list(others)
    check_overwriting(
        [*(path for end in taken for path in end.reads), *reads],
        [*(path for end in taken for path in end.writes), *writes],
    )
    opened = open_port(spec)
    if isinstance(opened, ProgramEnd):
        raise PortError(f"port {spec!r}: 'xennet exec --host' starts it, and the end is {OTHER!r}")
    try:
        configure(opened, mtu, queues)
    except BaseException:
        opened.close()
        raise
    port = FailingPort(opened)
    return OpenEnd(spec, OffloadEdge(port), port, reads, writes)


def _parts(spec: str) -> list[tuple[Part, str]]:
    return [(part, text) for text in split(spec) for part in parse(text)]


def _files(spec: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files that a port reads, and those that it writes. Raises PortError for one that a host
    would wait for."""
    reads: list[str] = []
    writes: list[str] = []
    for part in parse(spec):
        if (path := part.file) is None:
            continue
        if path == STANDARD:
            raise PortError(f"port {spec!r}: a host has no standard input or output for it")
        if not os.path.isabs(path):
            raise PortError(f"port {spec!r}: a host takes absolute file names only")
        with suppress(OSError):
            mode = os.stat(path).st_mode
            if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
                raise PortError(f"{path}: is a pipe or socket, which the host would wait for")
        (writes if part.scheme.writes_file else reads).append(path)
    return tuple(reads), tuple(writes)
