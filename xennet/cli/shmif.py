"""``xennet shmif``: create a bus of NetBSD's shmif, show it, send to it, listen to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import click

from xennet.cli.group import CommandGroup
from xennet.cli.output import say, say_json
from xennet.cli.whole_number import WholeNumber

if TYPE_CHECKING:
    from xennet.frames import FrameBatch
    from xennet.port.base import Port
    from xennet.shmif.bus_file import BusMemory
    from xennet.shmif.shared_bus import Reader

#: Name of the JSON layout; a new number when a key changes its meaning or goes away.
FORMAT = "xennet-shmif/1"
EXIT_NOT_ALL = 1
#: Seconds that a command which only looks waits for the lock.
_PATIENCE = 1.0
#: Seconds between two looks at a bus that is followed, for a wakeup that came too early.
_LOOK = 1.0

BUS = click.argument("bus", metavar="BUS")
FORM = click.option(
    "--form",
    type=click.Choice(["64", "i386"]),
    default="64",
    show_default=True,
    help="Packet headers as 64-bit processes (and armv7) have them, or those of i386.",
)
PCAP = click.option("--pcap", metavar="FILE", help="Write the frames to a capture as well.")


@click.group(
    cls=CommandGroup,
    epilog="Exit code: 0 done, 1 some frames could not be injected, 2 no bus, a damaged one, or "
    "bad usage.",
)
def shmif() -> None:
    """An Ethernet bus in a file, as NetBSD's shmif has it."""


@shmif.command()
@BUS
def create(bus: str) -> None:
    """Make a bus, or leave one that is there as it is."""
    from xennet.shmif.shared_bus import Bus

    Bus(bus, create=True).close()


@shmif.command()
@BUS
@FORM
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def info(bus: str, form: str, as_json: bool) -> None:
    """Show the head of a bus, and how many frames are on it."""
    from xennet.abi.shmifvar import LOCK_LOCKED, SHMIF_MEM
    from xennet.shmif import owner
    from xennet.shmif.bus_file import snapshot

    memory = snapshot(bus, form)
    head = SHMIF_MEM.read(memory.whole)
    lock = memory.mem[3]
    mark = owner.mark_of(lock) if lock else 0
    counted = [batch.used for _, batch in _frames(memory)]
    about = {
        "format": FORMAT,
        "bus": bus,
        "version": head.shm_version,
        "generation": head.shm_gen,
        "first": head.shm_first,
        "last": head.shm_last,
        "lock": {
            "held": head.shm_lock == LOCK_LOCKED,
            "process": owner.process_of(mark) if mark else None,
        },
        "frames": len(counted),
        "bytes": sum(counted),
    }
    if as_json:
        say_json(about)
        return
    who = f"by process {owner.process_of(mark)}" if mark else "by a process that leaves no mark"
    say(f"version     {head.shm_version}{'' if head.shm_version else ' (nobody was woken yet)'}")
    say(f"generation  {head.shm_gen}")
    say(f"first       {head.shm_first}")
    say(f"last        {head.shm_last}")
    say(f"lock        {f'held {who}' if lock else 'free'}")
    say(f"frames      {len(counted)} of {sum(counted)} bytes")


@shmif.command()
@BUS
@FORM
@PCAP
def dump(bus: str, form: str, pcap: str | None) -> None:
    """Show the frames that are on a bus, oldest first."""
    copy = _looked_at(bus, form)
    with closing(_recorder(bus, pcap)) as port:
        for sender, batch in _frames(copy):
            _show(sender, batch, port)


@shmif.command()
@BUS
@click.argument("pcap", metavar="PCAP")
@FORM
@click.option(
    "--sender",
    metavar="ID",
    help="Whose frames they are: up to 16 hexadecimal digits [default: random].",
)
@click.pass_context
def inject(ctx: click.Context, bus: str, pcap: str, form: str, sender: str | None) -> None:
    """Send the frames of a capture to a bus, as fast as it goes.

    Frames that wait for an offload are completed and segmented. PCAP?csum=fix completes the
    checksums of a capture that does not say which are blank.
    """
    from xennet.frames import MAX_FRAME, FrameBatch
    from xennet.port.pcap import PcapPort
    from xennet.shmif.bus_port import ShmifPort
    from xennet.shmif.shared_bus import MAX_BUS_FRAME, Bus, Station
    from xennet.wrap.offload_edge import OffloadEdge

    station = Station.random()
    if sender is not None:
        station.sender = _parsed_sender(sender)
    batch, sent = FrameBatch(memoryview(bytearray(2 * MAX_FRAME))), 0
    with closing(PcapPort(pcap)) as port, closing(Bus(bus, form=form)) as onto:
        edge = OffloadEdge(port)
        edge.negotiated(ShmifPort.carries)
        while not edge.exhausted:
            batch.clear()
            sent += edge.pull(batch)
            onto.send(batch, station.card())
    say(f"{sent} frames sent")
    done = edge.pulled
    lost = (
        (done.refused, f"have more than {MAX_BUS_FRAME} bytes"),
        (done.errors, "are not what their flags say"),
    )
    told = (*lost, (done.wrong_checksums, "were sent with a wrong TCP or UDP checksum"))
    for frames, what in told:
        if frames:
            say(f"xennet: {pcap}: {frames} frames {what}", err=True)
    for fault in port.counters.faults:
        say(f"xennet: {fault}", err=True)
    failed = port.counters.faults or any(frames for frames, _ in lost)
    ctx.exit(EXIT_NOT_ALL if failed else 0)


@shmif.command()
@BUS
@FORM
@PCAP
@click.option("-n", "count", type=WholeNumber(min=1), help="Stop after N frames.")
@click.option("--all", "oldest", is_flag=True, help="Begin with the oldest frame on the bus.")
def follow(bus: str, form: str, pcap: str | None, count: int | None, oldest: bool) -> None:
    """Show frames as they come, the newest that is there first, until Control-C."""
    from xennet.shmif.doorbell import Doorbell
    from xennet.shmif.shared_bus import Bus

    shown = overruns = 0
    with closing(Bus(bus, form=form)) as onto, closing(Doorbell(onto.fileno)) as bell:
        reader, batch = _reader(onto.memory)
        onto.attach(reader, oldest)
        with closing(_recorder(bus, pcap)) as port:
            while shown != count:
                batch.clear()
                if not onto.look(reader, batch, 1):
                    bell.wait(_LOOK)
                if reader.taken.overruns > overruns:
                    overruns = reader.taken.overruns
                    lost = f"fell behind, frames were lost (overrun {overruns})"
                    say(f"xennet: {bus}: {lost}", err=True)
                if batch.count:
                    _show(reader.sender, batch, port)
                    shown += 1


@shmif.command()
@BUS
@click.option(
    "--dead",
    is_flag=True,
    help="You know for certain that the holder, which left no mark, is dead.",
)
def unlock(bus: str, dead: bool) -> None:
    """Free a lock whose holder has died.

    A dead process of xennet is found out by itself. Other processes leave no mark: they count as
    dead if you say so, and if the bus does not change for a second.
    """
    from xennet.shmif.shared_bus import Bus

    def tell(message: str) -> None:
        say(f"xennet: {message}", err=True)

    with closing(Bus(bus, tell=tell)) as onto:
        if dead:
            say(f"{bus}: the lock {onto.lock.declare_dead()}")
            return
        onto.lock.acquire(writing=False, patience=_PATIENCE)
        onto.lock.release()
    say(f"{bus}: the lock is free")


# --- helpers --------------------------------------------------------------------------------------


def _parsed_sender(text: str) -> int:
    try:
        sender = int(text, 16)
    except ValueError:
        sender = -1
    if not 0 <= sender < 1 << 64:
        raise click.UsageError(f"A sender is up to 16 hexadecimal digits, not {text!r}.")
    return sender


def _recorder(bus: str, pcap: str | None) -> Port:
    """A port that writes a capture to ``pcap``, or without one drops what it gets. Raises PortError
    if the capture would overwrite the bus, which other processes have mapped."""
    from xennet.port.files import STANDARD, check_overwriting
    from xennet.port.null import NullPort
    from xennet.port.record import RecordPort

    if pcap is None:
        return NullPort()
    check_overwriting([bus if bus != STANDARD else f"./{bus}"], [pcap])
    return RecordPort(pcap)


def _reader(memory: BusMemory) -> tuple[Reader, FrameBatch]:
    """A reader that takes every frame, of any length, and a batch for one of them."""
    from xennet.frames import MAX_FRAME, FrameBatch
    from xennet.shmif.shared_bus import Reader, Station

    reader = Reader(memory, Station.random(promiscuous=True), MAX_FRAME)
    return reader, FrameBatch(memoryview(bytearray(MAX_FRAME)), 1)


def _frames(memory: BusMemory) -> Iterator[tuple[int, FrameBatch]]:
    """Yield the frames on a copy of a bus, each with its sender, in a batch that is reused for the
    next."""
    reader, batch = _reader(memory)
    reader.attach(oldest=True)
    more = True
    while more:
        batch.clear()
        more = reader.take(batch, 1)
        if batch.count:
            yield reader.sender, batch


def _show(sender: int, batch: FrameBatch, port: Port) -> None:
    """Print one line about a frame, and push the frame to ``port``."""
    frame = batch.frame(0)
    seconds, rest = divmod(batch.timestamp[0], 10**9)
    to, source = (frame[at : at + 6].tobytes().hex(":") for at in (0, 6))
    kind = frame[12:14].tobytes().hex()
    micros = rest // 1000
    say(f"{seconds}.{micros:06} {sender:016x} {source} > {to}, type 0x{kind}, {len(frame)} bytes")
    port.push(batch)


def _looked_at(path: str, form: str) -> BusMemory:
    """A copy of a bus: as it is between two frames, or as it is now if its lock cannot be had."""
    from xennet.shmif.bus_file import snapshot
    from xennet.shmif.errors import BusError
    from xennet.shmif.shared_bus import Bus

    copy = snapshot(path, form)
    try:
        with closing(Bus(path, form=form)) as bus:
            return bus.copy(_PATIENCE)
    except BusError as e:
        say(f"xennet: {e}; it is read without its lock", err=True)
    return copy
