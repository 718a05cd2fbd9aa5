"""Every port of the package, and wrappers in front of them, pass the contract of ports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from errno import ENETDOWN
from pathlib import Path

import pytest
from namespaces import namespace, why_none, wire

from xennet.frames import FrameBatch
from xennet.port import Port, PortWrapper, open_port
from xennet.port.spec import SCHEMES
from xennet.shmif.bus_port import ShmifPort
from xennet.testing import Outside, PortContract
from xennet.testing.sample_frames import METADATA, Frame, drain, new_batch, numbered, of_sizes
from xennet.wrap import FaultInjector, OffloadEdge, Tracer

NO_TAP = why_none()


def write(path: Path, frames: list[Frame]) -> None:
    """A capture of ``frames``."""
    port = open_port(f"record:{path}")
    port.push(new_batch(frames))
    port.close()


class Recorded(Outside):
    """A recording, which is read when it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def taken(self) -> list[Frame]:
        port = open_port(f"pcap:{self.path}")
        frames = drain(port)
        port.close()
        return frames


class TestNull(PortContract):
    spec = "null:"
    bad_specs = ("null:x",)


class TestProgramEnd(PortContract):
    spec = "exec:true"
    bad_specs = ("exec:", "exec:'")


class TestGen(PortContract):
    spec = "gen:60x10"
    gives = 10
    bad_specs = ("gen:", "gen:60", "gen:13x1", "gen:65536x1")


class TestGenOfLongFrames(PortContract):
    spec = "gen:65535x70"
    gives = 70


class TestTcp(PortContract):
    spec = "tcp:64000x10"
    gives = 10
    bad_specs = ("tcp:60x1", "tcp:100x1/0", "tcp:100x1@0")


class TestTcpOfSeveralFlows(PortContract):
    spec = "tcp:1514x70@8"
    gives = 70


class TestTcp6(PortContract):
    spec = "tcp6:9000x10/1000"
    gives = 10
    bad_specs = ("tcp6:85x1",)


class TestEcho(PortContract):
    spec = "echo:"
    returns = bounded = True
    bad_specs = ("echo:x",)


class OfPcap(PortContract):
    gives = 8
    bad_specs = ("pcap:", "pcap:{folder}/none.pcap", "pcap:{folder}", "pcap:{folder}/bad.pcap")

    def prepare(self, folder: Path) -> None:
        frames = of_sizes([18, 60, 61, 1514, 65535])
        for name in ("in.pcap", "in.pcapng", "in.pcap.gz", "in.pcapng.xz"):
            write(folder / name, [*frames, *numbered(3)])
        (folder / "bad.pcap").write_bytes(b"no capture")


class TestPcap(OfPcap):
    spec = "pcap:{folder}/in.pcap"


class TestPcapng(OfPcap):
    spec = "pcap:{folder}/in.pcapng"


class TestGzippedPcap(OfPcap):
    spec = "pcap:{folder}/in.pcap.gz"


class TestRecord(PortContract):
    spec = "record:{folder}/out.pcap"
    outside_takes = True
    keeps = ("timestamp",)
    bad_specs = ("record:", "record:{folder}", "record:{folder}/none/out.pcap")
    failing_specs = ("record:/dev/full", "gen:60x1+record:/dev/full")

    def outside(self, folder: Path, port: Port) -> Outside:
        return Recorded(folder / self.spec.rpartition("/")[2])


class TestRecordOfPcapng(TestRecord):
    spec = "record:{folder}/out.pcapng"
    keeps = METADATA


class TestRecordOfGzippedPcapng(TestRecord):
    spec = "record:{folder}/out.pcapng.gz"
    keeps = METADATA


class TestPlayerAndRecorder(TestRecord):
    spec = "gen:60x10+record:{folder}/out.pcap"
    gives = 10
    bad_specs = ("gen:60x10+pcap:{folder}/x", "gen:60x10+echo:")


class OtherStation(Outside):
    """Another station of the bus, which hears everything."""

    def __init__(self, path: Path) -> None:
        self.port = ShmifPort(str(path))
        drain(self.port)

    def give(self, batch: FrameBatch) -> None:
        self.port.push(batch)

    def taken(self) -> list[Frame]:
        return drain(self.port)

    def close(self) -> None:
        self.port.close()


@pytest.mark.usefixtures("engine")
class TestShmif(PortContract):
    spec = "shmif:{folder}/bus"
    outside_gives = outside_takes = True
    bad_specs = ("shmif:", "shmif:-", "shmif:{folder}", "shmif:{folder}/bad")

    def prepare(self, folder: Path) -> None:
        (folder / "bad").write_bytes(b"no bus" * 2000)

    def outside(self, folder: Path, port: Port) -> Outside:
        return OtherStation(folder / "bus")


class Cable(Outside):
    """A socket at the interface of a namespace."""

    def __init__(self, netns: str, interface: str) -> None:
        self.socket = wire(netns, interface)

    def give(self, batch: FrameBatch) -> None:
        for frame in batch:
            self.socket.send(frame)

    def taken(self) -> list[Frame]:
        self.socket.settimeout(0)
        found = []
        with suppress(BlockingIOError):
            while True:
                found += self._next()
        return found

    def _next(self) -> list[Frame]:
        try:
            return [Frame(self.socket.recv(1 << 17))]
        except OSError as error:
            if error.errno != ENETDOWN:  # said once, before the frames: the interface is gone
                raise
            return []

    def close(self) -> None:
        self.socket.close()


@pytest.mark.skipif(bool(NO_TAP), reason=NO_TAP or "-")
class TestTap(PortContract):
    spec = "tap:t0@NETNS"
    outside_gives = outside_takes = True
    bad_specs = ("tap:", "tap:t0@", "tap:t0@absent", "tap:a/b", "tap:a234567890123456", "tap:lo")

    @pytest.fixture(autouse=True)
    def _netns(self) -> Iterator[None]:
        with namespace() as self.netns:
            yield

    def open(self, folder: Path) -> Port:
        return open_port(f"tap:t0@{self.netns}")

    def outside(self, folder: Path, port: Port) -> Outside:
        return Cable(self.netns, "t0")


class OtherPort(Outside):
    """A port on the same switch, or the other end of the pipe."""

    def __init__(self, name: str) -> None:
        self.port = open_port(name)

    def give(self, batch: FrameBatch) -> None:
        self.port.push(batch)

    def taken(self) -> list[Frame]:
        return drain(self.port)

    def close(self) -> None:
        self.port.close()


class TestNetmap(PortContract):
    spec = "netmap:vale0:1"
    outside_gives = outside_takes = True
    bad_specs = ("netmap:", "netmap:xn0", "netmap:vale0:1-7", "netmap:vale0:1@conf", "netmap:a/x-1")

    def outside(self, folder: Path, port: Port) -> Outside:
        return OtherPort("netmap:vale0:2@conf:rings=2")


class TestNetmapOfSeveralRings(TestNetmap):
    spec = "netmap:vale0:1@conf:rings=3,slots=400"


class TestNetmapPipe(PortContract):
    spec = "netmap:cable{{1"
    outside_gives = outside_takes = bounded = True

    def outside(self, folder: Path, port: Port) -> Outside:
        return OtherPort("netmap:cable}1")


class TestEdge(PortContract):
    gives = 10

    def open(self, folder: Path) -> Port:
        return OffloadEdge(open_port("tcp:64000x10"))


class TestEdgeOfEcho(PortContract):
    returns = bounded = True

    def open(self, folder: Path) -> Port:
        return OffloadEdge(open_port("echo:"))


class TestTracer(PortContract):
    returns = bounded = True

    def open(self, folder: Path) -> Port:
        return Tracer(open_port("echo:"), lambda trace: None)


class TestFaultInjectorWithoutFaults(PortContract):
    gives = 10

    def open(self, folder: Path) -> Port:
        return FaultInjector(open_port("gen:60x10"), seed=1)


class TestWrapper(PortContract):
    gives = 10

    def open(self, folder: Path) -> Port:
        return PortWrapper(open_port("gen:60x10"))


def test_every_scheme_is_here() -> None:
    classes = PortContract.__subclasses__()
    for one in classes:
        classes += one.__subclasses__()
    held = {one.spec.partition(":")[0] for one in classes if one.__module__ == __name__}
    assert held >= set(SCHEMES)
