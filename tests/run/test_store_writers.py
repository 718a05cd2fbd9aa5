"""Other programs of domain 0 write whatever they like into the store of a host, at any time.

Whatever they write: nobody ends of it, what they leave alone works, and in the end everything
can be taken away and nothing is left.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vif_peers import Stack

from xennet.errors import LinkError
from xennet.host.capacity import Capacity
from xennet.host.domains import PluggedVif
from xennet.host.host import Host
from xennet.lifecycle.why import why
from xennet.link.timeline import MOST_ENTRIES, Timeline
from xennet.link.vif import VifLink
from xennet.netback.defects import BackendPanic
from xennet.netback.policies import policy
from xennet.netfront.kinds import KINDS
from xennet.netfront.options import NetfrontOptions
from xennet.observe import StoreOperation
from xennet.toolstack.toolstack import Outcome
from xennet.xenstore import Client, Quota, XsError

#: More than all time limits of drivers, toolstack and script, one after the other.
PATIENCE = 200_000_000_000
#: Deliveries after which a host has not come to rest.
LIMIT = 20_000
#: Frontends and backends that go together.
ENDS = [("linux", "linux"), ("freebsd", "linux"), ("windows", "linux"), ("linux", "xnb")]

BACKEND = "/local/domain/0/backend/vif"
FRONT = [f"/local/domain/1/device/vif/{handle}" for handle in ("0", "1", "7", "07", "x", "-1")]
BACK = [
    *(f"/local/domain/0/backend/vif/1/{handle}" for handle in ("0", "1", "7", "07", "x")),
    "/local/domain/0/backend/vif/9/0",
    "/local/domain/0/backend/vif/x/0",
    "/local/domain/0/backend/vif/01/0",
]
OWN = [*FRONT, *BACK, "/libxl/1/device/vif/0", "/libxl/1/device/vif/7", "/libxl/1/device/vif/x"]
NAMES = [
    *("state", "state", "state", "state", "backend", "backend-id", "frontend", "frontend-id"),
    *("online", "mac", "mtu", "handle", "trusted", "tx-ring-ref", "rx-ring-ref", "event-channel"),
    *("event-channel-tx", "event-channel-rx", "ctrl-ring-ref", "event-channel-ctrl", "queue-0"),
    *("queue-0/tx-ring-ref", "queue-1/rx-ring-ref", "queue-0/event-channel", "request-rx-copy"),
    *("multi-queue-num-queues", "multi-queue-max-queues", "feature-rx-copy", "feature-sg"),
    *(
        "feature-gso-tcpv4",
        "feature-rx-notify",
        "feature-split-event-channels",
        "feature-ctrl-ring",
    ),
    *("feature-multicast-control", "request-multicast-control", "feature-xdp-headroom"),
    *("xdp-headroom", "carrier", "rate", "hotplug-status", "hotplug-error", "script", "bridge"),
]
ELSEWHERE = [
    *("/local/domain/1", "/local/domain/1/control/shutdown", "/local/domain/1/vm"),
    *("/local/domain/1/error/device/vif/0/error", "/local/domain/0/error/backend/vif/1/0/error"),
    *("/local/domain/1/name", "/local/domain/1/domid", "/local/domain/1/device"),
    *("/local/domain/1/device/vif", "/local/domain/1/store/ring-ref"),
    *("/local/domain/1/console/state", "/local/domain/9", "/local/domain/9/device/vif/0/state"),
    *("/local/domain/0/backend/vif/1", "/libxl/1", "/libxl/1/device", "/libxl/1/device/vif"),
    *("/vm", "/tool"),
]
paths = st.one_of(
    st.builds("{}/{}".format, st.sampled_from(OWN), st.sampled_from(NAMES)),
    st.builds("{}/{}".format, st.sampled_from(OWN), st.sampled_from(NAMES)),
    st.sampled_from(OWN),
    st.sampled_from(ELSEWHERE),
)
values = st.one_of(
    st.sampled_from([*"0123456789"]).map(str.encode),
    st.sampled_from([*"1234566"]).map(str.encode),
    st.sampled_from(
        [*FRONT, *BACK, "/", "", "relative", "/local/domain/0", "@releaseDomain", "//"]
    ).map(str.encode),
    st.sampled_from(
        [b"connected", b"error", b"-1", b"4294967296", b"9" * 100, b"junk", b"4\0", b"\xff\0\xfe"]
        + [
            b"x" * 4000,
            b"suspend",
            b"poweroff",
            b"1,1",
            b"20000,50000",
            b"00:16:3e:00:00:09",
            b" 4",
        ]
    ),
    st.binary(max_size=8),
)
permissions = st.sampled_from(["n0", "n1", "b1", "r0", "n9"])
handles = st.sampled_from(["0", "1", "7", "07", "x", "-1"])
store_steps = st.one_of(
    st.tuples(
        st.just("write"),
        st.sampled_from(OWN).map("{}/state".format),
        st.sampled_from([*"1112345567"]).map(str.encode),
    ),
    st.tuples(st.just("device"), handles, st.booleans()),
    st.tuples(st.just("write"), paths, values),
    st.tuples(st.just("write"), paths, values),
    st.tuples(st.just("rm"), paths, st.none()),
    st.tuples(st.just("mkdir"), paths, st.none()),
    st.tuples(st.just("perms"), paths, permissions),
)
domain_steps = st.tuples(
    st.just("domain"), st.sampled_from(["release", "introduce", "resume"]), st.none()
)
life_steps = st.one_of(
    st.tuples(st.just("deliver"), st.none(), st.integers(1, 40)),
    st.tuples(st.just("settle"), st.none(), st.none()),
    st.tuples(st.just("traffic"), st.none(), st.integers(0, 1)),
    st.tuples(st.just("unplug"), st.none(), st.integers(0, 1)),
    st.tuples(st.just("driver"), st.none(), st.booleans()),
)
quota_steps = st.tuples(
    st.just("quota"),
    st.sampled_from(
        ["nodes", "node_size", "watches", "transactions", "transaction_nodes", "perms", "path_max"]
    ),
    st.sampled_from([1, 2, 5, 20, 40, 1000]),
)
step = st.one_of(quota_steps, *[store_steps] * 6, *[life_steps] * 2, domain_steps)
steps = st.lists(step, max_size=25)


class Vandalised:
    """Two guests, of which domain 1 with two vifs is written about; a client of domain 0 writes."""

    def __init__(self, kind: str, backend: str) -> None:
        self.deaf = False
        self.host = Host(Capacity(guests=2, vifs=2, queues=2))
        self.host.dom0.load()
        self.loop = self.host.machine.run_loop
        self.client: Client = self.host.service.connect(self.host.dom0.domain, "vandal")
        self.guest = self.host.add_guest(kind=KINDS[kind])
        self.other = self.host.add_guest(kind=KINDS[kind])
        front = NetfrontOptions(queues=2)
        self.vifs = [
            self.host.plug(guest, handle, Stack(), Stack(), front=front, policy=policy(backend))
            for guest, handle in ((self.guest, 0), (self.guest, 1), (self.other, 0))
        ]
        self.guest.boot()
        self.other.boot()

    @property
    def spared(self) -> PluggedVif:
        return self.vifs[-1]

    def rest(self, patience: int = 0) -> None:
        """Until nothing happens any more, or nothing but timers after ``patience`` ns: a frontend
        asks for a day whether its backend has let go of its pages."""
        end = self.loop.now + patience
        self.loop.run_until_idle(limit=LIMIT)
        while (due := self.loop.next_due) is not None and due <= end:
            self.loop.advance(due - self.loop.now)
            self.loop.run_until_idle(limit=LIMIT)

    def step(self, op: str, path: str | None, value) -> None:
        getattr(self, f"_{op}")(path, value)
        for vif in self.vifs:
            why(vif)
            self.host.states(vif)

    def _write(self, path: str, value: bytes) -> None:
        with suppress(XsError):
            self.client.write(path, value)

    def _device(self, handle: str, complete: bool) -> None:
        """Both directories of a device, as a toolstack makes them, or without the backend's."""
        front, back = f"/local/domain/1/device/vif/{handle}", f"{BACKEND}/1/{handle}"
        mac = {"mac": "00:16:3e:00:00:09"}
        nodes = {front: {"backend": back, "backend-id": "0", **mac, "state": "1"}}
        if complete:
            of_backend = {"frontend": front, "frontend-id": "1", "online": "1", "handle": "7"}
            of_backend |= {"hotplug-status": "connected", "script": "", **mac, "state": "1"}
            nodes = {back: of_backend, **nodes}
        for directory, values in nodes.items():
            self._mkdir(directory, None)
            # What is written below inherits them.
            self.client.set_perms(directory, ["n1", "r0"] if directory == front else ["n0", "r1"])
            for name, value in values.items():
                self._write(f"{directory}/{name}", value.encode())

    def _domain(self, request: str, _: None) -> None:
        """The store forgets the guest, or starts anew with it: it may not hear of anything more."""
        self.deaf = True
        with suppress(XsError):
            if request == "introduce":
                self.client.introduce(1, 5, 1)
            else:
                getattr(self.client, request)(1)

    def _quota(self, name: str, value: int) -> None:
        self.host.service.store.set_quota(Quota(**{name: value}), 1)

    def _rm(self, path: str, _: None) -> None:
        with suppress(XsError):
            self.client.rm(path)

    def _mkdir(self, path: str, _: None) -> None:
        with suppress(XsError):
            self.client.mkdir(path)

    def _perms(self, path: str, value: str) -> None:
        with suppress(XsError):
            self.client.set_perms(path, [value])

    def _deliver(self, _: None, count: int) -> None:
        for _ in range(count):
            self.loop.step()

    def _settle(self, _path: None, _value: None) -> None:
        self.rest()

    def _traffic(self, _: None, number: int) -> None:
        give(self.vifs[number])

    def _unplug(self, _: None, number: int) -> None:
        self.host.unplug(self.vifs[number])

    def _driver(self, _: None, load: bool) -> None:
        for frontend in list(self.guest.frontends.devices.values()):
            (frontend.start if load else frontend.close)()


def give(vif: PluggedVif) -> tuple[list[bytes], list[bytes]]:
    for side, stack in enumerate((vif.guest_end, vif.host_end)):
        assert isinstance(stack, Stack)
        stack.received.clear()
        stack.to_send = [bytes([2 * side, number]) * 40 for number in range(3)]
    sent = list(vif.guest_end.to_send), list(vif.host_end.to_send)
    vif.kick()
    return sent


@settings(max_examples=40, deadline=None)
@given(
    ends=st.sampled_from(ENDS),
    before=steps,
    after=steps,
)
def test_nothing_that_is_written_ends_a_host_or_reaches_what_it_spares(
    ends: tuple[str, str], before: list, after: list
) -> None:
    # FreeBSD's netback has defects that end its host (docs/xnb.md); then there is nothing to spare.
    with suppress(*[BackendPanic] * (ends[1] == "xnb")):
        live_through(Vandalised(*ends), before, after)


def live_through(place: Vandalised, before: list, after: list) -> None:
    host, spared = place.host, place.spared
    for step in before:
        place.step(*step)
    place.rest()
    for step in after:
        place.step(*step)
    place.rest(PATIENCE)
    # What nobody wrote about.
    assert spared.connected, host.states(spared)
    sent = give(spared)
    place.rest()
    assert (spared.host_end.received, spared.guest_end.received) == sent
    # The end.
    operations = [host.unplug(vif) for vif in place.vifs]
    place.rest(PATIENCE)
    assert operations[-1].outcome is Outcome.DONE
    assert not operations[-1].forced
    assert all(operation.outcome is not Outcome.PENDING for operation in operations)
    host.remove_unknown_devices()
    place.rest(PATIENCE)
    assert place.deaf or not host.leaks(), str(host.leaks())
    place.guest.destroy()
    place.rest(PATIENCE)
    assert not host.leaks(), str(host.leaks())
    host.destroy()


def test_a_device_that_nobody_plugged_gets_a_driver_that_finds_no_backend() -> None:
    place = Vandalised("linux", "linux")
    place.rest()
    state = "/local/domain/1/device/vif/7/state"
    place.client.write(state, "1")
    place.client.set_perms(state, ["n1"])
    place.rest()
    assert place.vifs[0].connected
    error = place.client.read("/local/domain/1/error/device/vif/7/error")
    assert error == b"2 device/vif/7/backend-id: cannot be read: ENOENT"
    assert place.client.read(state) == b"5"
    assert list(place.guest.frontends.devices) == [f"device/vif/{handle}" for handle in (0, 1, 7)]


@pytest.mark.parametrize("handle", ["07", "x", "7"])
def test_a_device_of_another_program_works_and_is_not_taken_for_a_plugged_one(handle: str) -> None:
    place = Vandalised("linux", "linux")
    host, plugged = place.host, place.vifs[0]
    place.rest()
    drivers = plugged.netfront, plugged.netback
    place._device(handle, True)
    place.rest()
    states = [f"/local/domain/1/device/vif/{handle}/state", f"{BACKEND}/1/{handle}/state"]
    assert [place.client.read(state) for state in states] == [b"4", b"4"]
    assert (plugged.netfront, plugged.netback) == drivers
    assert plugged.connected
    host.remove_unknown_devices()
    place.rest()
    assert [place.client.exists(state) for state in states] == [False, False]
    operations = [host.unplug(vif) for vif in place.vifs]
    place.rest(PATIENCE)
    assert [(one.outcome, one.forced) for one in operations] == [(Outcome.DONE, False)] * 3
    assert not host.leaks(), str(host.leaks())


def test_a_timeline_does_not_grow_without_end() -> None:
    place = Vandalised("linux", "linux")
    timeline = Timeline(place.vifs[0].paths, place.loop)
    place.host.machine.observers.subscribe(timeline.observe, StoreOperation)
    place.rest()
    seen = len(timeline.told())
    for number in range(MOST_ENTRIES):
        place.client.write(f"{FRONT[0]}/noise", str(number))
    assert len(timeline.entries) == MOST_ENTRIES
    *shown, last = timeline.told()
    assert (len(shown), last.kind, last.step) == (MOST_ENTRIES, "note", MOST_ENTRIES + 1)
    assert last.value == f"{seen} later changes are not shown"


def test_what_a_frontend_whose_directory_became_unreadable_held_is_free_in_the_end() -> None:
    # It takes its directory for gone, while its backend has the rings mapped until it is taken
    # away by force.
    link = VifLink(Stack(), Stack())
    link.open()
    client = link.service.connect(link.machine.domain(0), "vandal")
    client.set_perms(link.paths.frontend, ["n0"])
    client.write(f"{link.paths.frontend}/state", "4")
    link.settle()
    assert link.netfront is not None
    assert link.netfront.held_pages == 2
    with pytest.raises(LinkError, match="taken away by force"):
        link.close()
    assert not link.leaks(), str(link.leaks())
    link.destroy()


def test_a_program_that_writes_whenever_it_has_a_turn_does_not_keep_a_host_from_rest() -> None:
    place = Vandalised("linux", "linux")
    turns = 0

    def write_much() -> None:
        nonlocal turns
        turns += 1
        assert turns < 1000, "the host never comes to rest"
        for number in range(100):
            place.client.write(f"{FRONT[0]}/noise", str(number))
            place.client.write(f"{BACK[0]}/rate", str(number))

    place.host.pump.attend(write_much)
    place.host.settle()
    assert turns
    assert all(vif.connected for vif in place.vifs)
    sent = give(place.vifs[0])
    place.host.settle()
    assert (place.vifs[0].host_end.received, place.vifs[0].guest_end.received) == sent
    place.host.destroy()
