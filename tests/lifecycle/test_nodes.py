"""Every node that either driver reads on the way to Connected: missing, and garbage.

What a driver cannot do without is named in the error node of the end that read it, and the why
report names it too; what has a default does not keep frames from passing, and if it is garbage a
remark names it. A test holds the tables to what the drivers really read.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attrs import frozen

from xennet.host.domains import PluggedVif
from xennet.host.host import Host, guest_mac
from xennet.lifecycle.remarks import OF_BACKEND, OF_FRONTEND, OF_GUEST, remarks
from xennet.lifecycle.stack import Stack
from xennet.lifecycle.why import why
from xennet.netback.policy import VifOptions
from xennet.netfront.kinds import KINDS
from xennet.netfront.options import NetfrontOptions
from xennet.observe import StoreOperation
from xennet.toolstack.vif_nodes import VifConfig
from xennet.xenbus.nodes import NodeDirectory
from xennet.xenbus.paths import VifPaths
from xennet.xenbus.state import read_state
from xennet.xenstore.path import canonical

FRONTEND, BACKEND = "frontend", "backend"
GARBAGE = b"junk\xff"
PATHS = VifPaths(1, 0)


@frozen
class Required:
    """Node ``key`` in the directory of end ``of``, without which end ``reader`` gives up.

    ``named``: the node that is blamed, if it is not this one. ``queues``, ``kind``: of the vif.
    ``garbage``: whether garbage is as bad as nothing; ``missing``: whether nothing is as bad as
    garbage.
    """

    reader: str
    of: str
    key: str
    named: str = ""
    queues: int = 1
    kind: str = "linux"
    split: bool = True
    garbage: bool = True
    missing: bool = True


REQUIRED = (
    Required(FRONTEND, FRONTEND, "backend"),
    Required(FRONTEND, FRONTEND, "backend-id"),
    Required(FRONTEND, FRONTEND, "mac"),
    Required(BACKEND, BACKEND, "frontend"),
    Required(BACKEND, BACKEND, "frontend-id"),
    Required(BACKEND, BACKEND, "script", garbage=False),
    Required(BACKEND, BACKEND, "handle"),
    Required(BACKEND, BACKEND, "mac"),
    Required(BACKEND, FRONTEND, "tx-ring-ref"),
    Required(BACKEND, FRONTEND, "rx-ring-ref"),
    Required(BACKEND, FRONTEND, "event-channel", split=False),
    # Without the pair the single channel is looked for, which is not there either.
    Required(BACKEND, FRONTEND, "event-channel-tx", garbage=False, named="event-channel"),
    Required(BACKEND, FRONTEND, "event-channel-rx", garbage=False, named="event-channel"),
    Required(BACKEND, FRONTEND, "event-channel-tx", missing=False),
    Required(BACKEND, FRONTEND, "event-channel-rx", missing=False),
    Required(BACKEND, FRONTEND, "event-channel-ctrl", kind="windows"),
    Required(BACKEND, FRONTEND, "request-rx-copy", missing=False),
    Required(BACKEND, FRONTEND, "queue-0/tx-ring-ref", queues=2),
    Required(BACKEND, FRONTEND, "queue-1/rx-ring-ref", queues=2),
    Required(BACKEND, FRONTEND, "queue-1/event-channel-rx", queues=2, missing=False),
    Required(BACKEND, FRONTEND, "queue-1/event-channel", queues=2, split=False),
)
#: Nodes without which there is no error, but nothing much either; they have tests of their own.
COPY = {(FRONTEND, "request-rx-copy"), (BACKEND, "feature-rx-copy")}
DEFAULTS = (
    *((BACKEND, FRONTEND, row.key) for row in OF_FRONTEND),
    *((FRONTEND, FRONTEND, row.key) for row in OF_GUEST),
    *((FRONTEND, BACKEND, row.key) for row in OF_BACKEND if row.key not in ("rate", "online")),
    (BACKEND, BACKEND, "rate"),
)
#: What both ends walk by; tests/xenbus has what they make of garbage there.
WALK = {(FRONTEND, "state"), (BACKEND, "state"), (BACKEND, "hotplug-status"), (BACKEND, "online")}


class World:
    """One vif; ``spoil`` happens just before ``reader`` looks."""

    def __init__(self, kind: str = "linux", queues: int = 1, split: bool = True) -> None:
        self.host = Host()
        self.guest = self.host.add_guest(kind=KINDS[kind])
        self.read: set[tuple[str, str, str]] = set()
        self.host.machine.observers.subscribe(self._observe, StoreOperation)
        self._options = NetfrontOptions(queues=queues, split=split)
        self._queues = queues
        self.stacks = Stack(), Stack()
        self.vif: PluggedVif

    def plug(self) -> None:
        config = VifConfig(guest_mac(1), options={"rate": "1000000000,1000"})
        self.vif = self.host.plug(
            self.guest,
            0,
            *self.stacks,
            config,
            front=self._options,
            back=VifOptions(max_queues=self._queues),
        )
        self.host.settle()

    def put(self, of: str, key: str, value: bytes | None) -> None:
        path = f"{PATHS.frontend if of == FRONTEND else PATHS.backend}/{key}"
        if value is not None:
            self.host.store.write(path, value)
        elif self.host.store.exists(path):
            self.host.store.rm(path)

    def play(self, reader: str, of: str, key: str, value: bytes | None) -> None:
        """Connect, with the node set to ``value`` just before ``reader`` reads it."""
        if (reader, of) == (BACKEND, BACKEND):
            self.plug()
            self.put(of, key, value)
            self.host.dom0.load()
            self.host.settle()
            self.guest.boot()
        else:
            self.host.dom0.load()
            self.plug()
            if reader == FRONTEND:
                self.put(of, key, value)
            self.guest.boot()
            if reader == BACKEND:
                while read_state(self.host.store, PATHS.frontend) != 4:
                    assert self.host.machine.run_loop.step() is not None
                self.put(of, key, value)
        self.host.settle()

    def error(self, end: str) -> str:
        path = PATHS.frontend_error if end == FRONTEND else PATHS.backend_error
        directory, _, name = path.rpartition("/")
        return NodeDirectory(self.host.store, directory).optional_text(name)

    def _observe(self, event: object) -> None:
        if isinstance(event, StoreOperation) and event.op == "READ":
            path = canonical(event.path, event.domid)
            reader = {"dom0": BACKEND, "domU1": FRONTEND}.get(event.who)
            for of, directory in ((FRONTEND, PATHS.frontend), (BACKEND, PATHS.backend)):
                if reader and path.startswith(f"{directory}/"):
                    self.read.add((reader, of, path.removeprefix(f"{directory}/")))


def cases() -> Iterator[object]:
    for row in REQUIRED:
        for what, value, wanted in (
            ("missing", None, row.missing),
            ("garbage", GARBAGE, row.garbage),
        ):
            if wanted:
                yield pytest.param(row, value, id=f"{row.reader}-{row.of}-{row.key}-{what}")


@pytest.mark.parametrize(("row", "value"), list(cases()))
def test_a_node_that_is_needed_is_named_by_the_end_that_read_it(
    row: Required, value: bytes | None
) -> None:
    world = World(row.kind, row.queues, row.split)
    world.play(row.reader, row.of, row.key, value)
    named = row.named or row.key
    directory = PATHS.frontend if row.of == FRONTEND else PATHS.backend
    # A driver calls its own directory by its name within its domain.
    shown = directory.split("/", 4)[4] if row.reader == row.of else directory
    assert f" {shown}/{named}: " in world.error(row.reader)
    if value is not None and not row.named:
        assert f"(found {value!r})" in world.error(row.reader) or row.key in (FRONTEND, BACKEND)
    assert world.error(FRONTEND if row.reader == BACKEND else BACKEND) == ""
    assert not world.vif.connected
    assert any(f"{shown}/{named}: " in reason for reason in why(world.vif))
    world.host.destroy()


@pytest.mark.parametrize("value", [None, GARBAGE], ids=["missing", "garbage"])
@pytest.mark.parametrize(("reader", "of", "key"), DEFAULTS)
def test_a_node_with_a_default_stops_nothing_and_garbage_is_remarked_on(
    reader: str, of: str, key: str, value: bytes | None
) -> None:
    world = World()
    world.play(reader, of, key, value)
    assert world.vif.connected, why(world.vif)
    assert [world.error(FRONTEND), world.error(BACKEND)] == ["", ""]
    directory = PATHS.frontend if of == FRONTEND else PATHS.backend
    assert [remark.split(" = ")[0] for remark in remarks(world.vif)] == (
        [] if value is None else [f"{directory}/{key}"]
    )
    for stack in world.stacks:
        stack.to_send = 3
    world.vif.kick()
    world.host.settle()
    assert [stack.received for stack in world.stacks] == [3, 3]
    world.host.destroy()


@pytest.mark.parametrize("kind", ["linux", "windows"])
@pytest.mark.parametrize("queues", [1, 2])
@pytest.mark.parametrize("split", [False, True])
def test_the_tables_have_every_node_that_a_driver_reads(
    kind: str, queues: int, split: bool
) -> None:
    world = World(kind, queues, split)
    world.play(BACKEND, BACKEND, "nothing", None)
    assert world.vif.connected
    known = {(row.reader, row.of, row.key.rpartition("/")[2]) for row in REQUIRED}
    known |= set(DEFAULTS)
    walk = WALK | COPY
    unknown = {
        (reader, of, key)
        for reader, of, key in world.read
        if (reader, of, key.rpartition("/")[2]) not in known and (of, key) not in walk
    }
    assert unknown == set()
    assert len(world.read) > 20


def test_a_backend_that_does_not_copy_is_left_alone_without_an_error() -> None:
    # Linux's netfront says -ENODEV to its bus and leaves no error node.
    for value in (None, b"0", GARBAGE):
        world = World()
        world.play(FRONTEND, BACKEND, "feature-rx-copy", value)
        assert [world.error(FRONTEND), world.error(BACKEND)] == ["", ""]
        assert any(f"{PATHS.backend}/feature-rx-copy" in reason for reason in why(world.vif))
        world.host.destroy()


def test_without_request_rx_copy_a_linux_backend_looks_at_no_feature_and_that_is_named() -> None:
    world = World()
    world.play(BACKEND, FRONTEND, "request-rx-copy", None)
    assert world.vif.connected
    assert remarks(world.vif) == []
    (reason,) = why(world.vif)
    assert f'{PATHS.frontend}/request-rx-copy = ""' in reason
    world.host.destroy()
