"""The port interface: where a link's frames come from and where they go.

A link *pulls* frames that come in from the outside and *pushes* frames that go out to it, a
:class:`~xennet.frames.FrameBatch` at a time. Captures, generators and echoes implement it; so can
a TAP device, a bus or a netmap ring.
"""

from __future__ import annotations

from typing import Protocol

from attrs import asdict, define

from xennet.frames import BaseEndpoint, Endpoint, FrameBatch, Wrapper

#: Characters of a port's name that its repr shows.
_SHOWN = 120


class PortError(Exception):
    """A port specification, a file or a device is no good; one line that names the evidence."""


class PullStopped(BaseException):
    """Raised inside a pull that waits for its input, by a signal handler: nobody waits any more.

    A port that can wait ends there and gives what it has; nothing else may catch it but who pulls.
    """


@define
class Counters:
    """What passed through a port; all are counts of frames unless said otherwise.

    ``frames_in``, ``bytes_in`` (bytes): pulled from the port. ``frames_out``, ``bytes_out``: pushed
    to it. ``skipped_empty``: records of length 0; ``skipped_runt``: records of 1 to 13 bytes, which
    hold no Ethernet header (a backend refuses them; hardening rule F6). ``truncated``: frames
    pulled with fewer bytes than they had on the wire (snap length). ``fcs_cut``: frames pulled
    without the frame check sequence that they had in the capture. ``skipped_linktype``: packets
    that are no Ethernet frames; ``skipped_sections``: pcapng sections of a major version that
    nobody knows yet. None of these makes a run bad.

    What does: ``refused_oversize``: frames of more than MAX_FRAME bytes; ``refused_time``: frames
    whose time stamp is no 64-bit number of nanoseconds; ``faults``: what was wrong with the input,
    at most one line for each kind of fault, which names the file and the byte offset of the first.
    """

    frames_in: int = 0
    bytes_in: int = 0
    frames_out: int = 0
    bytes_out: int = 0
    skipped_empty: int = 0
    skipped_runt: int = 0
    truncated: int = 0
    fcs_cut: int = 0
    skipped_linktype: int = 0
    skipped_sections: int = 0
    refused_oversize: int = 0
    refused_time: int = 0
    faults: tuple[str, ...] = ()

    def __add__(self, other: Counters) -> Counters:
        mine, theirs = asdict(self), asdict(other)
        return Counters(**{name: mine[name] + theirs[name] for name in mine})


class Port(Endpoint, Protocol):
    """What a link needs of a port. All calls return at once; none blocks for frames to come."""

    @property
    def name(self) -> str:
        """The specification the port was opened with, such as ``pcap:in.pcap``."""
        ...

    @property
    def counters(self) -> Counters: ...

    @property
    def expected(self) -> int | None:
        """How many frames pull will give in all, None when that is not known beforehand."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether pull will never give frames again; may turn True only when pull finds the end."""
        ...

    def pull(self, batch: FrameBatch, /) -> int:
        """Append as many frames as are there and fit; the number appended, 0 for none now.

        When the input turns out to be bad, the frames before the bad place are delivered first
        and the next call raises PortError (and so does every call after it). IndexError when
        ``batch`` is empty and yet too small for the next frame: give it MAX_FRAME bytes.
        """
        ...

    def push(self, batch: FrameBatch, /) -> None:
        """Take all frames of ``batch`` (which is not changed) in order.

        ``batch.count`` must not be above :attr:`room`, else IndexError. PortError when the
        outside does not take them (disk full ...).
        """
        ...

    def finish(self) -> None:
        """The other side will push nothing more."""
        ...

    def close(self) -> None:
        """Release the outside; what was pushed is complete there. Idempotent."""
        ...


def short_name(port: Port) -> str:
    """What a port is called, cut where file names are very long: for its repr."""
    name = port.name
    return name if len(name) <= _SHOWN else f"{name[: _SHOWN - 3]}..."


class BasePort(BaseEndpoint):
    """A port that has nothing to give and swallows what it gets: the base of all others."""

    expected: int | None = 0

    def __init__(self, name: str) -> None:
        self.name = name
        self._counters = Counters()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {short_name(self)}>"

    @property
    def counters(self) -> Counters:
        return self._counters

    @property
    def exhausted(self) -> bool:
        return True

    def push(self, batch: FrameBatch, /) -> None:
        self._counters.frames_out += batch.count
        self._counters.bytes_out += batch.used

    def finish(self) -> None:
        """Nothing waits for the other side here."""

    def close(self) -> None:
        """Nothing is held open here."""

    def _pulled(self, frames: int, length: int) -> int:
        """Count ``frames`` frames of ``length`` bytes in all as pulled; returns ``frames``."""
        self._counters.frames_in += frames
        self._counters.bytes_in += length
        return frames


class PortWrapper(Wrapper):
    """A port in front of ``endpoint`` that hands everything on (xennet.frames.Wrapper): a port if
    that is one. Around another endpoint, what only ports have is an AttributeError."""

    endpoint: Port

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.endpoint!r}>"

    @property
    def name(self) -> str:
        return self.endpoint.name

    @property
    def counters(self) -> Counters:
        return self.endpoint.counters

    @property
    def expected(self) -> int | None:
        return self.endpoint.expected

    @property
    def exhausted(self) -> bool:
        return self.endpoint.exhausted

    def finish(self) -> None:
        self.endpoint.finish()

    def close(self) -> None:
        self.endpoint.close()
