"""Every link of the package passes the contract of links."""

from __future__ import annotations

from pathlib import Path

import pytest

from xennet.frames import FrameBatch
from xennet.port import open_port
from xennet.run.links import KINDS
from xennet.run.options import RunOptions
from xennet.testing import LinkContract


@pytest.mark.usefixtures("engine")
class TestVif(LinkContract):
    spec = "vif"
    bad_specs = ("vif:", "vif:x")


class TestVifOfSeveralQueues(TestVif):
    options = RunOptions(queues=3)


class TestVifWithoutOffloads(TestVif):
    options = RunOptions(sg=False, gso=False, csum=False, mtu=1500)


class TestVifOfFreeBSD(TestVif):
    options = RunOptions(frontend="freebsd")


class TestEpair(LinkContract):
    spec = "epair"
    bad_specs = ("epair:", "epair:x")


class TestEpairOfTheLaterGeneration(LinkContract):
    spec = "epair:taskqueue"


@pytest.mark.usefixtures("engine")
class TestShmif(LinkContract):
    spec = "shmif:{folder}/bus"
    bad_specs = ("shmif", "shmif:", "shmif:?promisc=off", "shmif:{folder}", "shmif:{folder}/no/bus")


class TestShmifOnABusThatIsThere(TestShmif):
    """Frames are on it, which nobody gets."""

    def prepare(self, folder: Path) -> None:
        port = open_port(f"shmif:{folder}/bus")
        batch = FrameBatch(memoryview(bytearray(60)))
        batch.append(bytes(60))
        port.push(batch)
        port.close()


class TestNetmap(LinkContract):
    spec = "netmap:vale0"
    bad_specs = ("netmap", "netmap:", "netmap:em0", "netmap:vale0:1", "netmap:a{{", "netmap:vale-")


class TestNetmapPipe(LinkContract):
    spec = "netmap:cable{{1"


class TestNetmapWithAnMtu(LinkContract):
    spec = "netmap:vale0"
    options = RunOptions(mtu=1500)


def test_every_kind_is_here() -> None:
    classes = LinkContract.__subclasses__()
    held = {one.spec.partition(":")[0] for one in classes if one.__module__ == __name__}
    assert held >= set(KINDS)
