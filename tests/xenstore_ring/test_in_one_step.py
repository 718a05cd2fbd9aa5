"""A guest's request that is answered in one step leaves what it leaves when every event of it is
sent and taken by itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ring_domains import CONNECTION, ERROR, REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, Site

from xennet.abi.xen import PAGE_SIZE
from xennet.evtchn import FifoBits
from xennet.interface import HypercallError
from xennet.observe import EventSent, Hypercall, StoreOperation
from xennet.runloop import Delivery
from xennet.xenstore import XsError, XsTimeoutError
from xennet.xenstored import rings

NAMES = ("a", "b", "a/b", "long", "nothing")


class Two(Site):
    """A machine with two guests that use the store, may send each other events, and tell what came
    of everything in ``seen``. Guest 1 has two vCPUs where its events are "fifo on 2"."""

    def __init__(self, abi: str, host_abi: str) -> None:
        super().__init__(0)
        for domid, kind in ((0, host_abi), (1, abi), (2, "2l")):
            vcpus = 2 if kind == "fifo on 2" else 1
            domain = self.machine.create_domain(domid, vcpus=vcpus) if domid else self.dom0
            if kind != "2l":
                domain.use_fifo_events()
        self.guests = [self.machine.domain(domid) for domid in (1, 2)]
        self.seen: list[object] = []
        self.clients = [self.service.connect(domain) for domain in self.guests]
        for domain in self.guests:
            self.own_directory(domain)
        self.clients.append(self.root)
        self.ports = self.channels()
        self.observed: list[object] = []

    def channels(self) -> list[int]:
        """A channel from domain 0 and from guest 2 to guest 1; the senders' ports."""
        one = self.guests[0]
        ports = []
        self.received = []
        for sender in (self.dom0, self.guests[1]):
            port = one.alloc_unbound(one.domid, sender.domid)
            self.received.append(port)
            one.set_handler(port, lambda port=port: self.seen.append(("event", port)))  # type: ignore[misc]
            one.unmask(port)
            ports.append(sender.bind_interdomain(one.domid, port))
        return ports

    def do(self, step: tuple[object, ...]) -> None:
        what, *args = step
        try:
            self.seen.append(getattr(self, f"do_{what}")(*args))
        except XsError as error:
            self.seen.append((type(error), error.errno, error.path, error.detail))
        except HypercallError as error:
            self.seen.append((error.op, error.status))

    def do_read(self, who: int, name: str) -> bytes:
        return self.clients[who].read(self.path(name))

    def do_write(self, who: int, name: str, size: int) -> None:
        self.clients[who].write(self.path(name), b"v" * size)

    def do_list(self, who: int) -> list[str]:
        return self.clients[who].directory(self.path(""))

    def do_rm(self, who: int, name: str) -> None:
        self.clients[who].rm(self.path(name))

    def do_watch(self, who: int, name: str, size: int) -> None:
        token = "t" * size
        self.clients[who].watch(
            self.path(name), token, lambda *event: self.seen.append((who, event))
        )

    def do_unwatch(self, who: int, name: str) -> None:
        self.clients[who].unwatch(self.path(name), "t")

    def do_transact(self, who: int, name: str) -> None:
        with self.clients[who].transaction() as tx:
            tx.write(self.path(name), b"1")
            self.seen.append(tx.directory(self.path("")))

    def do_send(self, sender: int) -> None:
        (self.dom0, self.guests[1])[sender].send(self.ports[sender])

    def do_run(self) -> int:
        return self.run()

    def do_step(self, count: int) -> None:
        for _ in range(count):
            self.seen.append(self.loop.step())

    def do_mask(self, masked: bool) -> None:
        ring = self.guests[0].store_ring
        assert ring is not None
        (self.guests[0].mask if masked else self.guests[0].unmask)(ring.port)

    def do_prioritise(self, who: int, priority: int) -> None:
        """Future events of the channel between guest 1 (``who`` 0) and domain 0 (1) go to another
        queue of one of them."""
        domain = (self.guests[0], self.dom0)[who]
        domain.set_priority((self.received[0], self.ports[0])[who], priority)

    def do_move(self, vcpu: int) -> None:
        """The events of the guest's ring go to another vCPU of it."""
        ring = self.guests[0].store_ring
        assert ring is not None
        self.machine.channels.bind_vcpu(1, ring.port, vcpu)

    def do_observe(self, kind: type) -> None:
        self.machine.observers.subscribe(self.observed.append, kind)

    def do_poke(self) -> None:
        """Domain 0 sends an event by the port of the guest's ring, for nothing."""
        ring = self.guests[0].store_ring
        assert ring is not None
        assert ring.server_port is not None
        self.dom0.send(ring.server_port)

    def do_rebind(self) -> None:
        """The store takes events by another port; domain 0 has the one by which they are sent."""
        ring = self.guests[0].store_ring
        assert ring is not None
        self.root.introduce(1, ring.gfn, self.guests[0].alloc_unbound(1, 0))
        port = self.dom0.bind_interdomain(1, ring.port)
        self.dom0.unmask(port)
        self.dom0.poll(port)

    def do_close(self) -> None:
        """The guest closes the port of its ring."""
        ring = self.guests[0].store_ring
        assert ring is not None
        self.guests[0].close(ring.port)

    def do_clear(self) -> None:
        """The guest clears the pending bit of its ring's port, whatever is on its way."""
        ring = self.guests[0].store_ring
        assert ring is not None
        self.machine.channels.bits(1).take(ring.port)

    def do_look_on(self) -> None:
        self.loop.watcher = self

    def posted(self, delivery: Delivery, call: object) -> None:
        self.seen.append(("posted", delivery))

    def begins(self, delivery: Delivery, *_: object) -> None:
        self.seen.append(("begins", delivery))

    def ends(self, delivery: Delivery) -> None:
        self.seen.append(("ends", delivery))

    def do_scribble(self, word: int, more: int) -> None:
        """The guest adds to a word of its ring."""
        ring = self.guests[0].store_ring
        assert ring is not None
        ring.page.u32[word] = (ring.page.u32[word] + more) % 2**32

    def path(self, name: str) -> str:
        return f"/local/domain/1/{name}".rstrip("/")

    def everything(self) -> tuple[object, ...]:
        """All that there is to be seen."""
        machine = self.machine
        bits = [machine.channels.bits(domid) for domid in range(3)]
        own = [(b._tails, b._last_queue) for b in bits if isinstance(b, FifoBits)]
        memory = bytes(machine.memory.u8[: machine.memory.end * PAGE_SIZE])
        ready = [str(delivery) for delivery in self.loop.ready()]
        return memory, own, ready, self.loop.steps, self.seen, self.observed


WHO, NAME = st.sampled_from((0, 0, 0, 1, 2)), st.sampled_from(NAMES)
STEPS = st.one_of(
    st.tuples(st.just("read"), WHO, NAME),
    st.tuples(st.just("write"), WHO, NAME, st.sampled_from((0, 3, 900, 1100, 2000))),
    st.tuples(st.just("list"), WHO),
    st.tuples(st.just("rm"), WHO, NAME),
    st.tuples(st.sampled_from(("unwatch", "transact")), WHO, NAME),
    st.tuples(st.just("watch"), WHO, NAME, st.sampled_from((1, 985))),
    st.tuples(st.just("send"), st.integers(0, 1)),
    st.tuples(st.just("step"), st.integers(1, 9)),
    st.tuples(st.just("mask"), st.booleans()),
    st.sampled_from((("poke",), ("clear",), ("look_on",), ("close",))),
    st.tuples(st.just("prioritise"), st.integers(0, 1), st.sampled_from((0, 7, 9))),
    st.tuples(st.just("move"), st.integers(0, 1)),
    st.tuples(st.just("observe"), st.sampled_from((EventSent, Hypercall, StoreOperation))),
    st.tuples(
        st.just("scribble"),
        st.sampled_from((REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, CONNECTION, ERROR)),
        st.one_of(st.integers(-3, 3), st.integers(0, 1100)),
    ),
)
ABI = st.sampled_from(("fifo", "fifo", "fifo on 2", "2l"))


def life(steps: list[tuple[object, ...]], abis: tuple[str, str]) -> list[tuple[object, ...]]:
    site = Two(*abis)
    found = []
    for step in steps:
        site.do(step)
        found.append(site.everything())
    while not site.loop.idle:
        site.do(("run",))
    found.append(site.everything())
    site.machine.close()
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=25), st.tuples(ABI, ABI))
@example([("observe", Hypercall), ("read", 0, "a")], ("fifo", "fifo"))
@example([("observe", EventSent), ("read", 0, "a")], ("fifo", "fifo"))
@example([("poke",), ("clear",), ("read", 0, "a")], ("fifo", "fifo"))
@example([("read", 0, "a"), ("mask", True), ("poke",), ("read", 0, "a")], ("fifo", "fifo"))
@example([("close",), ("read", 0, "a")], ("fifo", "fifo"))
@example([("send", 0), ("read", 0, "a")], ("fifo", "fifo"))
@example([("read", 0, "a"), ("send", 0), ("step", 9), ("read", 0, "a")], ("fifo", "fifo"))
@example([("read", 0, "a"), ("move", 1), ("read", 0, "a"), ("read", 0, "a")], ("fifo on 2", "fifo"))
@example([("read", 0, "a"), ("prioritise", 0, 9), ("read", 0, "a")], ("fifo", "fifo"))
@example([("rebind",), ("read", 0, "a"), ("read", 0, "a")], ("2l", "fifo"))
@example([("scribble", REQ_PROD, 3), ("read", 0, "a")], ("fifo", "fifo"))
@example([("look_on",), ("read", 0, "a")], ("fifo", "fifo"))
@example([("watch", 2, "a", 1), ("step", 9), ("write", 0, "a", 3)], ("fifo", "fifo"))
@example([("watch", 0, "a", 985)], ("fifo", "fifo"))
@example([("watch", 0, "a", 985), ("scribble", RSP_PROD, -2), ("read", 0, "a")], ("fifo", "fifo"))
@example([("write", 0, "b", 900), ("write", 2, "b", 2000), *[("read", 0, "b")] * 4], ("2l", "2l"))
@example([("scribble", RSP_PROD, 1), ("write", 0, "b", 1011), ("read", 0, "a")], ("fifo", "2l"))
@example(
    [("watch", 0, "a", 1), ("step", 9), ("write", 2, "a", 3), ("clear",), ("read", 0, "a")],
    ("fifo", "fifo"),
)
def test_it_is_the_same_for_everybody(
    steps: list[tuple[object, ...]], abis: tuple[str, str]
) -> None:
    found = life(steps, abis)
    with patch.object(rings._ServedRing, "answer", lambda *_: None):
        assert life(steps, abis) == found


@pytest.mark.parametrize("abi", ["fifo", "2l"])
def test_usual_requests_are_answered_so(abi: str) -> None:
    site = Two(abi, abi)
    site.run()
    answers = []
    answer: Callable[..., bytes | None] = rings._ServedRing.answer
    with patch.object(
        rings._ServedRing, "answer", lambda *args: answers.append(answer(*args)) or answers[-1]
    ):
        site.do(("write", 0, "a", 3))
        site.do(("transact", 0, "b"))
        site.do(("read", 0, "a"))
    assert site.seen[-1] == b"vvv"
    assert len(answers) == 6
    assert all(answers)
    site.machine.close()


@pytest.fixture(params=["in one step", "event by event"])
def site(request):
    site = Two("2l", "2l")
    whole = patch.object(rings._ServedRing, "answer", lambda *_: None)
    with whole if request.param == "event by event" else nullcontext():
        yield site
    site.machine.close()


def at_a_write(site: Two, call: Callable[[], object]) -> list[str]:
    """Has ``call()`` called when the store has written the node a; what guest 1 does from now
    on."""
    done: list[str] = []

    def saw(operation: StoreOperation) -> None:
        if operation.domid == 1:
            done.append(f"{operation.op} {operation.path}")
        if (operation.op, operation.path) == ("WRITE", "a"):
            call()

    site.machine.observers.subscribe(saw, StoreOperation)
    return done


def test_a_request_in_which_somebody_raised_is_not_made_again(site: Two) -> None:
    client = site.clients[0]
    done = at_a_write(site, lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        client.write("a", b"1")
    site.root.write(site.path("a"), b"2")
    assert client.read("a") == b"2"
    assert done == ["WRITE a", "READ a"]


def test_a_request_within_a_request_of_the_same_client_is_late(site: Two) -> None:
    client, refused = site.clients[0], list[XsError]()

    def write() -> None:
        with pytest.raises(XsTimeoutError) as caught:
            client.write("b", b"2")
        refused.append(caught.value)

    done = at_a_write(site, write)
    client.write("a", b"1")
    assert len(refused) == 1
    assert client.read("b") == b"2"
    assert client.read("a") == b"1"
    assert done == ["WRITE a", "WRITE b", "READ b", "READ a"]


@pytest.mark.parametrize("kind", [EventSent, Hypercall, StoreOperation])
def test_wherever_an_observer_raises_the_ring_stays_in_step(site: Two, kind: type) -> None:
    client, raised = site.clients[0], 0
    for number in range(20):
        seen = list[object]()

        def saw(event: object, number: int = number, seen: list[object] = seen) -> None:
            seen.append(event)
            if len(seen) == number + 1:
                raise ZeroDivisionError

        leave = site.machine.observers.subscribe(saw, kind)
        try:
            client.write("a", b"v" * 2000)
            client.read("a")
        except ZeroDivisionError:
            raised += 1
        leave()
        client.write("b", b"%d" % number)
        assert client.read("b") == b"%d" % number
    assert 0 < raised < 20
