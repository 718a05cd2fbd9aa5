"""Writers and readers of a bus against a list, at every wrap position, with both engines.

The list knows frames by where they would lie on a tape without end; nothing of offsets that wrap,
generations or the oldest frame's way.
"""

from __future__ import annotations

from array import array
from struct import pack

import pytest
from attrs import define
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from shmif_samples import END, bus_bytes, memory, words

from xennet.engine.choice import current
from xennet.frames import FrameBatch
from xennet.shmif import bus_ops
from xennet.shmif.shared_bus import Reader, Station

NEW = bytes(bus_bytes("00_fresh_v0"))
#: The senders, the first three, most of which read as well; the last two hear one sender only.
#: Addresses that frames are for.
STATIONS = [
    Station(0x1122334455667788, bytes.fromhex("b2a088776655")),
    Station(0xFFFFFFFF00000001, bytes.fromhex("b2a001000000"), promiscuous=True),
    Station(0x0000000100000001, bytes.fromhex("b2a0ffffffff"), link=False),
    Station(0x0000000000000001, bytes.fromhex("b2a001000000"), peer=0xFFFFFFFF00000001),
    Station(5, bytes.fromhex("b2a005000000"), promiscuous=True, peer=0x1122334455667788),
]
DESTINATIONS = [*(station.mac for station in STATIONS), b"\xff" * 6, b"\x01\0\x5e\0\0\1", b"\0" * 6]
LONGEST = bus_ops._LONGEST - 24


@define
class Sent:
    """A frame on the tape: header at ``at``, ``sender`` as an index of STATIONS."""

    at: int
    data: bytes
    sender: int
    time: int


@define
class Place:
    """A reader: the number of the frame that it reads next, and what it missed."""

    reader: Reader
    station: Station
    next: int
    overruns: int = 0


class BusMachine(RuleBasedStateMachine):
    form, header = "64", 24

    def __init__(self) -> None:
        super().__init__()
        self.content = bytearray(NEW)
        self.memory = memory(self.content, self.form)
        self.bus = tuple(map(current().view, self.memory.views()))
        self.res = array("q", bytes(8 * bus_ops.RESULTS))
        self.put = current().kernel(bus_ops.put_frames)
        #: The phantom of a new bus is a frame of no bytes.
        self.sent = [Sent(0, b"", 9, 0)]
        self.end = self.header
        self.covered = 0  # what lies before it on the tape is overwritten, but for a lap
        self.places: list[Place] = []
        self.batch = FrameBatch(memoryview(bytearray(1 << 20)), 64)

    @initialize()
    def begin(self) -> None:
        for station in STATIONS:
            self.attach(station)

    def write(self, lengths: list[int], sender: int, to: int) -> None:
        batch = FrameBatch(memoryview(bytearray(max(1, sum(lengths)))), len(lengths))
        for length in lengths:
            serial = len(self.sent)
            content = DESTINATIONS[to] + pack(">I", serial)
            content = (content + bytes((serial + i) & 0xFF for i in range(length % 97)) * 99)[
                :length
            ]
            content += bytes(length - len(content))
            time = 1 + serial * 1_234_567_000
            batch.append(content, timestamp=time)
            self.sent.append(Sent(self.end, content, sender, time))
            self.end += self.header + length
            # A frame that ends with the data makes room for one byte more.
            self.covered = self.end + (self.end % END == 0)
        view = current().view
        columns = (batch.data, *batch.columns, batch.hash_info, batch.timestamp)
        card = STATIONS[sender].card()
        self.put(
            0,
            batch.count,
            1,
            self.bus,
            tuple(map(view, columns)),
            view(card),
            view(self.res),
        )
        self.memory.judge(self.res)
        assert self.res[bus_ops.R_FRAMES] == len(lengths)
        assert self.res[bus_ops.R_BYTES] == sum(lengths)

    @rule(
        lengths=st.lists(st.integers(0, 80) | st.integers(0, 1514), min_size=1, max_size=8),
        sender=st.integers(0, 2),
        to=st.integers(0, len(DESTINATIONS) - 1),
    )
    def send(self, lengths: list[int], sender: int, to: int) -> None:
        self.write(lengths, sender, to)

    @rule(
        before=st.integers(0, 130) | st.integers(0, 3200),
        sender=st.integers(0, 2),
        big=st.booleans(),
    )
    def send_up_to(self, before: int, sender: int, big: bool) -> None:
        """Frames that end so many bytes before the end of the data; almost a lap, so in between
        the readers fall behind."""
        left = (-self.end - before) % END
        while left >= self.header:
            length = min(left - self.header, LONGEST if big else 60_000)
            if left - self.header - length and left - self.header - length < self.header:
                length -= self.header
            self.write([length], sender, 3)
            left -= self.header + length

    @rule(number=st.integers(0, 5), looks=st.integers(1, 40))
    def read(self, number: int, looks: int) -> None:
        place = self.places[number % len(self.places)]
        batch, found = self.batch, []
        batch.clear()
        more = place.reader.take(batch, looks)
        for i in range(batch.count):
            found.append((bytes(batch.frame(i)), batch.timestamp[i]))
        assert found == self.expected(place, looks)
        assert batch.used == sum(len(data) for data, _ in found)
        assert place.reader.taken.overruns == place.overruns
        if not more:
            assert place.next == len(self.sent)
        assert not place.reader.idle or place.next == len(self.sent)

    def alive(self, frame: Sent) -> bool:
        return frame.at + END >= self.covered

    def expected(self, place: Place, looks: int) -> list[tuple[bytes, int]]:
        found = []
        if place.next < len(self.sent) and not self.alive(self.sent[place.next]):
            place.overruns += 1
            place.next = next(i for i, frame in enumerate(self.sent) if self.alive(frame))
        for frame in self.sent[place.next :][:looks]:
            if self.batch_is_full(found, frame):
                break
            place.next += 1
            if self.wants(place.station, frame):
                found.append((frame.data, frame.time // 1000 * 1000))
        return found

    def batch_is_full(self, found: list[tuple[bytes, int]], frame: Sent) -> bool:
        used = sum(len(data) for data, _ in found)
        return len(frame.data) >= 14 and used + len(frame.data) > len(self.batch.data)

    @staticmethod
    def wants(station: Station, frame: Sent) -> bool:
        if (
            len(frame.data) < 14
            or not station.link
            or STATIONS[frame.sender].sender == station.sender
        ):
            return False
        if station.peer not in (None, STATIONS[frame.sender].sender):
            return False
        for_it = frame.data[:6] == station.mac or frame.data[0] & 1
        return bool(for_it or station.promiscuous)

    @rule(station=st.sampled_from(STATIONS))
    def attach(self, station: Station) -> None:
        """A new reader reads the newest frame again."""
        reader = Reader(self.memory, station, LONGEST)
        reader.attach()
        self.places = [*self.places, Place(reader, station, len(self.sent) - 1)][-6:]

    @rule(number=st.integers(0, 5))
    def skip(self, number: int) -> None:
        """A reader goes on behind the newest frame."""
        place = self.places[number % len(self.places)]
        place.reader.skip()
        place.next = len(self.sent)
        assert place.reader.idle

    @rule()
    def read_all_that_is_left(self) -> None:
        station = Station(0, bytes(6), promiscuous=True)
        reader = Reader(self.memory, station, LONGEST)
        reader.attach(oldest=True)
        first = next(i for i, frame in enumerate(self.sent) if self.alive(frame))
        place = Place(reader, station, first)
        self.places.append(place)
        for _ in range(len(self.sent) - first + 1):
            self.read(len(self.places) - 1, 40)
            if place.next == len(self.sent):
                break
        self.places.pop()

    @invariant()
    def the_head_is_that_of_the_list(self) -> None:
        _, _, gen, first, last, lock, spare = words(self.content)
        oldest = next(frame for frame in self.sent if self.alive(frame))
        assert gen == self.end // END
        assert (first % END, last) == (oldest.at % END, self.sent[-1].at % END)
        assert (lock, spare) == (0, 0)


class OldBusMachine(BusMachine):
    """The packet headers of i386."""

    form, header = "i386", 20


@pytest.mark.parametrize("machine", [BusMachine, OldBusMachine])
def test_a_bus_does_as_a_list(engine: str, machine: type[BusMachine]) -> None:
    examples = settings(max_examples=60, stateful_step_count=25)
    run_state_machine_as_test(machine, settings=examples)


@pytest.mark.parametrize("machine", [BusMachine, OldBusMachine])
@pytest.mark.parametrize("length", [0, 14, 60, 300])
def test_every_wrap_position(engine: str, machine: type[BusMachine], length: int) -> None:
    """A frame that begins before the end of the data, and ends behind it, at it, before it."""
    for before in range(length + 2 * machine.header + 2):
        bus = machine()
        bus.begin()
        bus.send_up_to(before, 0, True)
        bus.read(1, 40)
        bus.write([length, 60], 0, 3)
        bus.the_head_is_that_of_the_list()
        bus.attach(STATIONS[1])
        for _ in range(2):
            for number in range(len(bus.places)):
                bus.read(number, 40)
            bus.write([length], 2, 3)
            bus.the_head_is_that_of_the_list()
        bus.read_all_that_is_left()


@pytest.mark.parametrize("length", [93_000, 170_000, 231_000])
def test_a_reader_is_laps_behind(engine: str, length: int) -> None:
    """It falls behind wherever it stands and wherever the bus stands then, however many laps on."""
    for before in range(7):
        for frames in range(1, 24):
            bus = BusMachine()
            bus.write([170_000] * before + [60], 0, 3)
            bus.attach(STATIONS[1])
            bus.write([length] * frames, 0, 3)
            bus.the_head_is_that_of_the_list()
            bus.read(0, 40)
            bus.write([60], 0, 3)
            bus.read(0, 40)


def test_a_frame_that_ends_at_the_oldest_one_leaves_it(engine: str) -> None:
    """Frames of 200 bytes with their headers fill a lap: each ends where the next begins."""
    bus = BusMachine()
    bus.write([200] * (END // 224), 0, 3)
    bus.the_head_is_that_of_the_list()
    for _ in range(5):
        bus.write([200], 0, 3)
        bus.the_head_is_that_of_the_list()


def test_a_frame_that_ends_anywhere_in_an_old_one_gives_up_that_one(engine: str) -> None:
    """The second lap's frames are a byte longer, so each ends a byte further on in an old one."""
    bus = BusMachine()
    bus.write([200] * (END // 224), 0, 3)
    for _ in range(260):
        bus.write([201], 0, 3)
        bus.the_head_is_that_of_the_list()
