"""netmap as a link: both ends of each pair are ports of a VALE switch, or the ends of a pipe.

The ports are on the netmap device of this process, where ``netmap:PORT`` ports of the same run are
too. Each pair has a switch, or a pipe, of its own: what comes from other ports on that switch is
left alone, as a run proves that what came out is what was put in.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve

from xennet.errors import LinkError
from xennet.frames import ETHERNET_HEADER, Endpoint, FrameBatch, lazy_bytes
from xennet.link.base_link import BATCH, BATCH_BYTES, EndPair
from xennet.link.interface_link import InterfaceLink
from xennet.link.report import LinkReport
from xennet.netmap.device import Device
from xennet.netmap.net_interface import IFNAMSIZ
from xennet.netmap.region import GLOBAL_SIZES
from xennet.netmap.user.frame_port import NetmapPort
from xennet.netmap.user.port_name import is_identifier
from xennet.netmap.user.process_device import device_of_process
from xennet.netmap.vale_switch import is_switch_port, split_name
from xennet.port.base import PortError
from xennet.pump import Clock

#: Called with each frame (its bytes and time stamp) that the switch does not send on.
Filtered = Callable[[bytes, int], None]


def _unfiltered(_frame: bytes, _timestamp: int) -> None:
    """Do nothing: nobody asks which frames were filtered."""


def port_names(argument: str, number: int) -> tuple[str, str]:
    """The guest's and the host's port of pair ``number``, as the kernel calls them.

    ``argument`` is that of ``--link netmap:ARGUMENT``: a switch ("vale0"), or one end of a pipe
    ("cable{1"). The first pair has what it says; others have a number behind the switch, or behind
    the base of the pipe. Raises ValueError for anything else.
    """
    behind = f"_{number}" if number else ""
    base, role, pipe_id = argument.partition("{" if "{" in argument else "}")
    if role and is_identifier(base) and base and is_identifier(pipe_id) and pipe_id:
        return f"{base}{behind}{{{pipe_id}", f"{base}{behind}}}{pipe_id}"
    if not argument.startswith("vale") or not is_identifier(argument):
        raise ValueError(f"{argument!r} is no VALE switch, as vale0 is, and no pipe, as cable{{1")
    return f"{argument}{behind}:guest", f"{argument}{behind}:host"


def require_room(argument: str, pairs: int, mtu: int | None) -> None:
    """Refuse what a netmap device has no room for: names of a switch or pipe for each of ``pairs``,
    frames of ``mtu`` bytes in a buffer.

    Raises ValueError, with one line, also as :func:`port_names` does.
    """
    guest, _ = port_names(argument, pairs - 1)
    if is_switch_port(guest):
        if split_name(guest) is None:
            switch = guest.partition(":")[0]
            raise ValueError(f"{switch!r} is too long for a switch's name")
    else:
        base = guest.partition("{")[0]
        if len(base) >= IFNAMSIZ:
            raise ValueError(f"{base!r} is too long for a pipe, {IFNAMSIZ - 1} letters at most")
    most = GLOBAL_SIZES.bufs.size
    if mtu is not None and mtu > most:
        raise ValueError(f"an MTU of {mtu}, a buffer has {most} bytes")


class NetmapLink(InterfaceLink):
    """Two netmap ports for each pair that is joined (xennet.link.protocol.Link).

    ``argument``: a switch or a pipe, see :func:`port_names`, which raises ValueError. ``mtu`` in
    bytes, None for what fits a buffer. ``clock`` is the pump's (None: virtual time). ``device``:
    None for that of this process.

    A switch learns where addresses are, and does not send a frame back to the side that it came
    from: such frames are filtered, and told to the ``filtered`` of :meth:`join` or, those of
    guests, of :meth:`filter_up`. Raises LinkError in :meth:`open` for a port that cannot be opened,
    and for an MTU above a buffer.
    """

    name = "pair"

    def __init__(
        self,
        argument: str,
        *,
        mtu: int | None = None,
        clock: Clock | None = None,
        device: Device | None = None,
    ) -> None:
        super().__init__(clock)
        port_names(argument, 0)
        self.argument = argument
        self.mtu = mtu
        self.ports: dict[EndPair, list[NetmapPort]] = {}
        self._device = device
        self._filtered: dict[EndPair, tuple[Filtered, Filtered]] = {}
        self._taken = FrameBatch(lazy_bytes(BATCH_BYTES), BATCH)

    def join(self, guest: Endpoint, host: Endpoint, filtered: Filtered = _unfiltered) -> EndPair:
        """Add the next pair and return it. Raises LinkError after :meth:`open`."""
        pair = super().join(guest, host)
        self._filtered[pair] = _unfiltered, filtered
        return pair

    def filter_up(self, pair: EndPair, filtered: Filtered) -> None:
        """Have ``filtered`` called with frames of the guest that the switch does not send on."""
        self._filtered[pair] = filtered, self._filtered[pair][1]

    def bring_up(self, pair: EndPair) -> None:
        """Open both ports of ``pair``."""
        ports = self.ports[pair] = []
        names = port_names(self.argument, self.pairs.index(pair))
        device = device_of_process() if self._device is None else self._device
        if is_switch_port(names[0]):
            device.state.switches.require_unused(1)
        try:
            for name in names:
                ports.append(NetmapPort(name, device=device))
        except PortError as error:
            raise LinkError(f"{pair.name}: {error}") from error
        self.carries, most = ports[0].carries, ports[0].carries.max_frame
        if self.mtu is not None:
            if self.mtu > most:
                raise LinkError(f"{ports[0].name}: an MTU of {self.mtu}, a buffer has {most} bytes")
            self.carries = self.carries.with_mtu(self.mtu)
        macs = pair.interfaces[0].mac, pair.interfaces[1].mac
        guest, host = (self.interfaces.add(name) for name in names)
        for interface, mac in zip((guest, host), macs, strict=True):
            interface.mac, interface.mtu = mac, self.carries.max_frame - ETHERNET_HEADER
        pair.interfaces = guest, host

    def take_down(self, pair: EndPair) -> None:
        """Close both ports of ``pair``."""
        for port in self.ports.pop(pair, ()):
            port.close()
        for interface in pair.interfaces:
            if interface.name in self.interfaces:
                self.interfaces.remove(interface)

    def move(self, pair: EndPair, most: int) -> int:
        """Move at most ``most`` frames each way. Returns the number moved."""
        return self._send(pair, True, most) + self._send(pair, False, most)

    def _send(self, pair: EndPair, up: bool, most: int) -> int:
        """Send frames of one end of ``pair`` from its port, and have the other end take what comes
        into the other port. Returns the number of frames sent."""
        batch, taken = self._batch, self._taken
        (sender, out), (receiver, into) = zip(self.ports[pair], pair.interfaces, strict=True)
        giver, taker = pair.guest, pair.host
        if not up:
            sender, out, receiver, into = receiver, into, sender, out
            giver, taker = taker, giver
        batch.clear()
        batch.max_frames = min(most, taker.room, sender.room, BATCH)
        if not batch.max_frames or not giver.pull(batch):
            return 0
        taken.clear()
        while receiver.pull(taken):  # what other ports of the switch have sent since
            taken.clear()
        out.tap(batch)
        sender.push(batch)
        receiver.pull(taken)
        _match(batch, taken, self._filtered[pair][0 if up else 1])
        out.counters.opackets += batch.count
        out.counters.obytes += batch.used
        if taken.count:
            into.counters.ipackets += taken.count
            into.counters.ibytes += taken.used
            taker.push(taken)
            into.tap(taken)
        return batch.count

    def report(self) -> LinkReport:
        """A report of the interfaces with their counters, as they were when the link was closed."""
        filters = "the switch", "for addresses on the side that they came from"
        return evolve(super().report(), filter=filters)

    def explain(self, error: Exception) -> str | None:
        """What is wrong with a port; None for any other exception."""
        return str(error) if isinstance(error, PortError) else None

    def left_behind(self) -> list[str]:
        """The ports that are still open, a line for each."""
        return [f"port {port.name}" for ports in self.ports.values() for port in ports]


def _match(batch: FrameBatch, taken: FrameBatch, filtered: Filtered) -> None:
    """Give the frames of ``taken``, which came of those in ``batch`` and in their order, the time
    stamps of these; tell ``filtered`` of those that did not come."""
    if taken.count == batch.count:
        taken.timestamp[: batch.count] = batch.timestamp[: batch.count]
        return
    came = 0
    for index, frame in enumerate(batch):
        if came < taken.count and frame == taken.frame(came):
            taken.timestamp[came] = batch.timestamp[index]
            came += 1
        else:
            filtered(bytes(frame), batch.timestamp[index])
