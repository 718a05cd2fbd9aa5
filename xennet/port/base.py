"""The port interface: the sources and sinks of a link's frames.

A link *pulls* frames that come in from the outside and *pushes* frames that go out, a
:class:`~xennet.frames.FrameBatch` at a time. Captures, generators and echoes implement it; so can a
TAP device, a bus or a netmap ring.
"""

from __future__ import annotations

from typing import Protocol

from attrs import asdict, define

from xennet.errors import PortError as PortError
from xennet.frames import BaseEndpoint, Endpoint, FrameBatch, Wrapper

#: Most characters of a port's name in its repr.
_SHOWN = 120


class PullStopped(BaseException):
    """Raised by a signal handler inside a pull that waits for its input: the run ends.

    A port that can wait ends the wait there and returns the frames that it has. Only the caller of
    pull may catch it.
    """


@define
class Counters:
    """Counts of a port; they count frames unless said otherwise.

    ``frames_in``, ``bytes_in`` (bytes): pulled from the port. ``frames_out``, ``bytes_out``: pushed
    to it. ``skipped_empty``: records of length 0; ``skipped_runt``: records of 1 to 13 bytes, which
    hold no Ethernet header (a backend refuses them; hardening rule F6). ``truncated``: frames
    pulled with fewer bytes than they had on the wire (snap length). ``fcs_cut``: frames pulled
    without the frame check sequence that they had in the capture. ``csum_completed``: frames pulled
    with a checksum that an offload was to fill in. ``skipped_linktype``: packets
    that are no Ethernet frames; ``skipped_sections``: pcapng sections of an unknown major version.
    Of interfaces: ``dropped_unread``: frames that the kernel dropped since nobody pulled them in
    time; ``refused_headers``: frames whose checksum or GSO cannot be told to the other side;
    ``refused_by_kernel``: frames pushed that it did not take. None of these makes a run bad.

    These do: ``refused_oversize``: frames of more than MAX_FRAME bytes; ``refused_time``: frames
    whose time stamp is no 64-bit number of nanoseconds; ``faults``: what was wrong with the input,
    one line for each kind of fault, which names the file and the byte offset of the first.
    """

    frames_in: int = 0
    bytes_in: int = 0
    frames_out: int = 0
    bytes_out: int = 0
    skipped_empty: int = 0
    skipped_runt: int = 0
    truncated: int = 0
    fcs_cut: int = 0
    csum_completed: int = 0
    skipped_linktype: int = 0
    skipped_sections: int = 0
    dropped_unread: int = 0
    refused_headers: int = 0
    refused_by_kernel: int = 0
    refused_oversize: int = 0
    refused_time: int = 0
    faults: tuple[str, ...] = ()

    @property
    def lost(self) -> int:
        """Frames that the port has dropped or refused, in either direction."""
        counts = asdict(self)
        return sum(counts[name] for name in counts if name.startswith(("dropped_", "refused_")))

    def __add__(self, other: Counters) -> Counters:
        mine, theirs = asdict(self), asdict(other)
        return Counters(**{name: mine[name] + theirs[name] for name in mine})


class Port(Endpoint, Protocol):
    """The interface of a port. All calls return at once; none blocks until frames come.

    A port whose frames come from outside whenever they like, without an end, has ``live = True``
    (:func:`is_live`) and descriptors that can be waited for (xennet.frames.HasDescriptors). One
    that keeps frames back before it writes them has ``flush()``, which a live run calls twice a
    second. One that is an interface has ``configure(mtu, queues)`` (:func:`configure`).
    """

    @property
    def name(self) -> str:
        """The specification with which the port was opened, such as ``pcap:in.pcap``."""
        ...

    @property
    def counters(self) -> Counters: ...

    @property
    def expected(self) -> int | None:
        """Number of frames that pull will give in all; None if it is not known beforehand."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether pull will never give frames again. It may become True only when pull finds the
        end."""
        ...

    def pull(self, batch: FrameBatch, /) -> int:
        """Append as many frames to ``batch`` as there are and as fit. Returns their number, 0 for
        none now.

        If the input turns out to be bad, the frames before the bad place are given first; the next
        call, and every call after it, raises PortError. Raises IndexError if ``batch`` is empty and
        too small for the next frame (MAX_FRAME bytes suffice).
        """
        ...

    def push(self, batch: FrameBatch, /) -> None:
        """Take all frames of ``batch`` in order. The batch is not changed.

        Raises IndexError if ``batch.count`` is above :attr:`room`; PortError if the outside does
        not take the frames (disk full ...).
        """
        ...

    def finish(self) -> None:
        """Note that the other side will push nothing more."""
        ...

    def close(self) -> None:
        """Close the outside; what was pushed is complete there. May be repeated."""
        ...


def is_live(port: Port) -> bool:
    """Whether ``port`` is live: a run with it goes by real time, sleeps until there are frames, and
    does not end by itself as long as the port is not exhausted."""
    return bool(getattr(port, "live", False))


def flush(port: Port) -> None:
    """Have ``port`` hand what was pushed to the outside, if it keeps any back. Raises PortError if
    the outside does not take it."""
    getattr(port, "flush", _nothing_kept)()


def configure(port: Port, mtu: int | None, queues: int) -> None:
    """Have a ``port`` that is an interface fit the link that it is for: its MTU (bytes; None: as it
    is), and most queues. Raises PortError if it cannot."""
    if (own := getattr(port, "configure", None)) is not None:
        own(mtu, queues)


def _nothing_kept() -> None:
    """Do nothing: the flush of a port without one."""


def short_name(port: Port) -> str:
    """The name of a port for its repr; a very long file name is cut."""
    name = port.name
    return name if len(name) <= _SHOWN else f"{name[: _SHOWN - 3]}..."


class BasePort(BaseEndpoint):
    """A port without frames that swallows what is pushed: the base class of all others."""

    expected: int | None = 0
    live: bool = False

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
        """Do nothing: this port does not wait for the other side."""

    def close(self) -> None:
        """Do nothing: this port has nothing open."""

    def _pulled(self, frames: int, length: int) -> int:
        """Count ``frames`` frames, of ``length`` bytes in all, as pulled. Returns ``frames``."""
        self._counters.frames_in += frames
        self._counters.bytes_in += length
        return frames


def only_counts(port: object) -> bool:
    """Whether a port has no frames, and nothing to do with those that it takes but to count
    them."""
    if not isinstance(port, BasePort):
        return False
    kind = type(port)
    return (
        kind.pull is BaseEndpoint.pull
        and kind.push is BasePort.push
        and kind.room is BaseEndpoint.room
        and not {"pull", "push", "room"} & vars(port).keys()
    )


class PortWrapper(Wrapper):
    """A port in front of ``endpoint`` that passes every call on (xennet.frames.Wrapper).

    It is a port if ``endpoint`` is one; else the members that only ports have raise AttributeError.
    """

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

    @property
    def live(self) -> bool:
        return is_live(self.endpoint)

    def flush(self) -> None:
        flush(self.endpoint)

    def finish(self) -> None:
        self.endpoint.finish()

    def close(self) -> None:
        self.endpoint.close()
