"""Random walks over a host with the real drivers: both ends, toolstack, script, crashes, frames.

Whatever happens in whatever order: what arrives was sent on that vif, is byte-equal or, after
completion and segmentation, what scapy makes of it, keeps its order, and comes once; the counters
of both drivers account for every frame of a connection; ``why`` says nothing exactly when frames
pass; and when everything is taken away nothing is left.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

import pytest
from attrs import evolve
from how_many import examples
from hypothesis import given, settings, stateful
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition
from walk_ends import PLENTY, CheckedVif
from walk_frames import KINDS, Maker

from xennet.frames import ALL_GSO_TYPES, EVERYTHING, NOTHING, Offload
from xennet.host.capacity import Capacity
from xennet.host.domains import BackendDomain, Guest
from xennet.host.host import Host, guest_mac
from xennet.lifecycle.why import why
from xennet.netback.defects import BackendPanic
from xennet.netback.policy import LINUX as LINUX_BACKEND
from xennet.netback.policy import BackendPolicy
from xennet.netback.xnb.defects import COPY_FAILED, NO_IFNET
from xennet.netback.xnb.policy import XNB
from xennet.netfront.kinds import KINDS as KINDS_OF_GUESTS
from xennet.netfront.options import DEFAULTS, NetfrontOptions
from xennet.runloop import LivelockError
from xennet.toolstack.toolstack import Outcome
from xennet.toolstack.vif_nodes import VifConfig
from xennet.xenbus.errors import XenbusError
from xennet.xenstore.errors import XsError

SECOND = 1_000_000_000
#: Frames of a trial, in each direction.
TRIAL = 3
#: More than all time limits of drivers, toolstack and script, one after the other.
PATIENCE = 200 * SECOND
#: Deliveries after which a machine has not come to rest.
LIMIT = 50_000

seeds = st.integers(0, 2**16)
handles = st.integers(0, 1)
sides = st.integers(0, 1)
queues = st.sampled_from([1, 1, 2, 8])
often = st.sampled_from([True, True, True, False])
seldom = often.map(lambda value: not value)
offloads = st.sampled_from(
    [
        EVERYTHING,
        EVERYTHING,
        NOTHING,
        Offload(sg=False, csum_v6=False, gso_types=0, max_frame=1514),
        Offload(csum_v4=False, gso_types=ALL_GSO_TYPES),
    ]
)
fronts = st.builds(
    NetfrontOptions,
    queues=queues,
    split=st.booleans(),
    sg=often,
    gso=often,
    csum=often,
    gso_prefix=seldom,
    xdp_headroom=st.sampled_from([0, 0, 256]),
    trusted=st.sampled_from([None, None, True, False]),
    enforce_mtu=seldom,
)
back_changes = st.fixed_dictionaries(
    {
        "max_queues": queues,
        "split_channels": often,
        "ctrl_ring": often,
        "multicast": often,
        "dynamic_multicast": st.booleans(),
        "publish_carrier": seldom,
    }
)
rates = st.sampled_from(["", "", "", "20000,50000", "garbage"])
mtus = st.sampled_from([1500, 1500, 1500, 600, 9000])
vifs = st.fixed_dictionaries(
    {
        "front": fronts,
        "changes": back_changes,
        "carries": st.tuples(offloads, offloads),
        "edged": st.tuples(st.booleans(), st.booleans()),
        "rate": rates,
        "mtu": mtus,
        "trusted": often,
        "owner": st.integers(0, 1),
    }
)
sizes = st.sampled_from([1, 46, 300, 1500, 3000, 5000, 9000, 65000])


rooms = st.sampled_from([PLENTY, PLENTY, 0, 3, 12])
bursts = st.fixed_dictionaries(
    {
        "side": sides,
        "kind": st.sampled_from(KINDS),
        "flow": st.integers(0, 3),
        "size": sizes,
        "count": st.sampled_from([1, 1, 2, 5, 20, 70]),
        "blank": often,
    }
)


def until_a_panic(act: Callable[..., None]) -> Callable[..., None]:
    """``act(walk, ...)``, which may end with the backend's host: that panics in any call that makes
    deliveries, so also while a guest's request to the store waits. Nothing is done afterwards."""

    @wraps(act)
    def lived_through(walk: Walk, *args: Any, **kwargs: Any) -> None:
        if walk.over:
            return
        try:
            act(walk, *args, **kwargs)
        except BackendPanic as panic:
            if panic.rule not in walk.panics:
                raise
            walk.over = True

    return lived_through


def initialize(**drawn: Any) -> Callable[..., Any]:
    """hypothesis.stateful.initialize, :func:`until_a_panic`."""
    return lambda act: stateful.initialize(**drawn)(until_a_panic(act))


def rule(**drawn: Any) -> Callable[..., Any]:
    """hypothesis.stateful.rule, :func:`until_a_panic`."""
    return lambda act: stateful.rule(**drawn)(until_a_panic(act))


class Walk(RuleBasedStateMachine):
    """One guest at a time with up to two vifs, served by domain 0 or by a driver domain."""

    policy: BackendPolicy = LINUX_BACKEND
    kinds: tuple[str, ...] = ("linux", "freebsd", "windows")
    frames: tuple[str, ...] = KINDS
    blank_flows: tuple[int, ...] = (0, 1, 2, 3)
    #: Whether the backend has options, and counts every frame.
    exact = True
    #: Whether the backend goes on in rings that were in use where they are.
    reattaches = True
    #: Defect rows by which the backend's host may panic, though drivers do nothing wrong.
    panics: frozenset[str] = frozenset()
    #: The machine has ended before the walk: nothing more happens.
    over = False

    @initialize(
        version=st.sampled_from([1, 2]),
        abi=st.sampled_from(["2l", "fifo"]),
        kind=st.data(),
        vif=vifs,
        connected=often,
        requests=st.one_of(st.none(), seeds),
    )
    def build(
        self,
        version: int,
        abi: str,
        kind: st.DataObject,
        vif: dict[str, Any],
        connected: bool,
        requests: int | None,
    ) -> None:
        of_guest = {
            "kind": KINDS_OF_GUESTS[kind.draw(st.sampled_from(self.kinds))],
            "grant_version": version,
            "evtchn_abi": abi,
        }
        self.begin(of_guest, requests)
        if connected:
            self.guest.boot()
            self.attach(0, **vif)
            self.settle()

    def begin(self, of_guest: dict[str, Any], requests: int | None = None) -> None:
        """A host with a guest; ``of_guest`` is what its guests are made with. ``requests``: the
        seed of what happens while a request to the store waits, None if it is answered at once."""
        self.host = Host(
            Capacity(guests=2, vifs=2, queues=8), store_deliveries=requests is not None
        )
        self.loop = self.host.machine.run_loop
        if requests is not None:
            meanwhile = random.Random(requests)
            self.loop.meanwhile = lambda ready: meanwhile.randrange(len(ready))
        self.host.dom0.load()
        self.driver = self.host.add_driver_domain()
        self.driver.load()
        self.maker = Maker()
        self.vifs: dict[int, CheckedVif] = {}
        self.operations: list[Any] = []
        self.of_guest = of_guest
        self.guest: Guest = self.host.add_guest(**self.of_guest)

    # -- what there is -----------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self.guest.domain.running

    @property
    def owners(self) -> tuple[BackendDomain, BackendDomain]:
        return self.host.dom0, self.driver

    def plugged(self, handle: int) -> bool:
        """Whether the toolstack has such a device, or remembers one."""
        domid = self.guest.domid
        return self.host.toolstack.plugged(domid, handle) is not None or self._exists(
            f"/libxl/{domid}/device/vif/{handle}"
        )

    def _exists(self, path: str) -> bool:
        try:
            self.host.store.read(path)
        except XsError as error:
            return error.errno != "ENOENT"
        return True

    # -- the machine -------------------------------------------------------------------------------

    @rule(seed=seeds, count=st.integers(1, 25))
    def some_deliveries_in_any_order(self, seed: int, count: int) -> None:
        chooser = random.Random(seed)
        for _ in range(count):
            ready = self.loop.ready()
            if not ready:
                return
            self.loop.step(chooser.randrange(len(ready)))

    @rule(seed=seeds)
    def rest(self, seed: int) -> None:
        self.come_to_rest(seed)

    def come_to_rest(self, seed: int) -> None:
        chooser = random.Random(seed)
        self.settle(lambda: chooser.randrange(len(self.loop.ready())))
        self.check_books()

    @rule(seconds=st.sampled_from([1, 5, 11, 45, 61]))
    def time_passes(self, seconds: int) -> None:
        self.loop.advance(seconds * SECOND)

    def settle(self, choose: Callable[[], int | None] = lambda: None) -> None:
        """Deliver all there is to deliver; that is not without end."""
        for _ in range(LIMIT):
            if self.loop.idle:
                return
            self.loop.step(choose())
        raise LivelockError(LIMIT, self.loop.ready())

    def settle_with_timers(self) -> None:
        """Let time go on for as long as anybody has patience."""
        end = self.loop.now + PATIENCE
        self.settle()
        while (due := self.loop.next_due) is not None and due <= end:
            self.loop.advance(due - self.loop.now)
            self.settle()

    # -- toolstack and script ----------------------------------------------------------------------

    @precondition(lambda self: self.running)
    @rule(handle=handles, vif=vifs)
    def plug(self, handle: int, vif: dict[str, Any]) -> None:
        if not self.plugged(handle):
            self.attach(handle, **vif)

    def attach(
        self,
        handle: int,
        *,
        front: NetfrontOptions = DEFAULTS,
        changes: dict[str, Any] | None = None,
        carries: tuple[Offload, Offload] = (EVERYTHING, EVERYTHING),
        edged: tuple[bool, bool] = (True, True),
        rate: str = "",
        mtu: int = 1500,
        trusted: bool = True,
        owner: int = 0,
    ) -> None:
        back = evolve(self.policy.options, **(changes or {})) if self.exact else None
        ordered = 1 in (front.queues, 1 if back is None else back.max_queues)
        options = {"mtu": str(mtu)} | ({"rate": rate} if rate else {})
        mac = guest_mac(self.guest.domid, handle)
        checked = self.vifs[handle] = CheckedVif(carries, edged, ordered)
        checked.vif = self.host.plug(
            self.guest,
            handle,
            checked.guest.tap,
            checked.host.tap,
            VifConfig(mac, mtu=mtu, trusted=trusted, options=options),
            backend_domid=self.owners[owner].domid,
            front=front,
            policy=self.policy,
            back=back,
        )
        self.operations.append(checked.vif.operation)
        if checked.vif.netfront is not None or checked.vif.netback is not None:
            checked.served_before()

    @rule(handle=handles, force=seldom)
    def unplug(self, handle: int, force: bool) -> None:
        if handle in self.vifs:
            self.operations.append(self.host.unplug(self.vifs[handle].vif, force=force))

    @rule(held=seldom, failure=st.sampled_from(["", "", "", "no bridge"]))
    def script(self, held: bool, failure: str) -> None:
        self.host.script.failure = failure
        if held:
            self.host.script.held = True
        else:
            self.host.script.release()

    @rule(
        handle=handles,
        what=st.sampled_from(
            ["run the script", "limit the rate", "free the rate", "rm frontend", "rm backend"]
        ),
    )
    def toolstack(self, handle: int, what: str) -> None:
        if not self.plugged(handle):
            return
        host, paths = self.host, self.vifs[handle].vif.paths
        if what == "run the script":
            self.operations.append(host.toolstack.replug_vif(self.guest.domid, handle))
        elif what.startswith("rm"):
            with suppress(XsError):  # it is not there
                host.store.rm(paths.frontend if what == "rm frontend" else paths.backend)
        elif self._exists(paths.backend):
            rate = "20000,50000" if what == "limit the rate" else ""
            host.store.write(f"{paths.backend}/rate", rate)

    # -- guests ------------------------------------------------------------------------------------

    @precondition(lambda self: self.running)
    @rule()
    def boot(self) -> None:
        self.guest.boot()

    @precondition(lambda self: self.running)
    @rule(handle=handles, load=st.booleans())
    def frontend_driver_is_loaded_or_unloaded(self, handle: int, load: bool) -> None:
        frontend = self.guest.frontends.devices.get(f"device/vif/{handle}")
        if frontend is not None:
            (frontend.start if load else frontend.close)()

    @precondition(lambda self: self.running and self.guest.booted)
    @rule(handle=handles, state=st.sampled_from([*"66651347", "junk"]))
    def guest_writes_a_state(self, handle: int, state: str) -> None:
        with suppress(XsError):  # no such device
            self.guest.kernel.store.write(f"device/vif/{handle}/state", state)

    @precondition(lambda self: self.running and self.guest.booted)
    @rule()
    def suspend_and_resume(self) -> None:
        self.guest.frontends.resume()

    @precondition(lambda self: self.running and self.guest.booted)
    @rule(handle=handles, headroom=st.sampled_from([0, 128, 256]))
    def headroom(self, handle: int, headroom: int) -> None:
        frontend = self.guest.frontends.devices.get(f"device/vif/{handle}")
        netfront = self.vifs[handle].vif.netfront if handle in self.vifs else None
        if frontend is not None and netfront is not None and frontend.driver is netfront:
            with suppress(XenbusError, XsError):
                netfront.set_xdp_headroom(frontend, headroom)

    @precondition(lambda self: self.running)
    @rule(handle=handles, add=st.booleans())
    def groups(self, handle: int, add: bool) -> None:
        netfront = self.vifs[handle].vif.netfront if handle in self.vifs else None
        group = bytes.fromhex("01005e000001")
        if netfront is not None and add:
            netfront.multicast_add(group)
        elif netfront is not None and netfront.multicast:
            netfront.multicast_del(group)

    @precondition(lambda self: self.running and self.guest.booted)
    @rule()
    def save_and_restore(self) -> None:
        self._restore_script()
        saved = self.host.save(self.guest)
        self.host.destroy_guest(saved.domid)
        self.settle_with_timers()
        self.operations += self.host.restore(saved)

    @precondition(lambda self: self.running)
    @rule(how=st.sampled_from(["crash", "kill"]))
    def guest_dies(self, how: str) -> None:
        getattr(self.guest, how)()

    @precondition(lambda self: not self.running)
    @rule()
    def next_guest(self) -> None:
        self._restore_script()
        self.guest.destroy()
        self.settle_with_timers()
        self.vifs.clear()
        self.guest = self.host.add_guest(**self.of_guest)

    def _restore_script(self) -> None:
        self.host.script.failure = ""
        self.host.script.release()

    # -- backends ----------------------------------------------------------------------------------

    @rule(which=sides)
    def backend_closes(self, which: int) -> None:
        for backend in list(self.owners[which].backends.devices.values()):
            backend.close()

    @precondition(lambda self: self.reattaches)
    @rule(which=sides, load=often)
    def backend_driver_is_loaded_or_unloaded(self, which: int, load: bool) -> None:
        bus = self.owners[which].backends
        (bus.load if load else bus.unload)()

    @precondition(lambda self: self.running)
    @rule(handle=handles, owner=sides)
    def backend_is_replaced(self, handle: int, owner: int) -> None:
        if handle in self.vifs:
            self.replace(self.vifs[handle], self.owners[owner])

    def replace(self, checked: CheckedVif, owner: BackendDomain) -> None:
        checked.host.tap.by_driver = None
        self.operations.append(self.host.replace_backend(checked.vif, owner))

    @rule(follow=often)
    def driver_domain_dies(self, follow: bool) -> None:
        """Its vifs move to the next one, and their frontends follow now or later."""
        old = self.driver
        old.kill()
        self.driver = self.host.add_driver_domain()
        self.driver.load()
        for handle, checked in self.vifs.items():
            if self.running and checked.vif.owner is old and self.plugged(handle):
                self.replace(checked, self.driver)
        if follow and self.running and self.guest.booted:
            self.guest.frontends.resume()

    # -- frames ------------------------------------------------------------------------------------

    @rule(handle=handles, what=st.lists(bursts, min_size=1, max_size=4), steps=st.integers(0, 60))
    def send(self, handle: int, what: list[dict[str, Any]], steps: int) -> None:
        if handle in self.vifs:
            for burst in what:
                self.give(handle, **burst)
            for _ in range(steps):
                self.loop.step()

    @rule(
        what=st.lists(bursts, min_size=1, max_size=5),
        rooms=st.tuples(rooms, rooms),
        seed=seeds,
    )
    def send_and_rest(self, what: list[dict[str, Any]], rooms: tuple[int, int], seed: int) -> None:
        for handle, checked in self.vifs.items():
            for end, room in zip(checked.ends, rooms, strict=True):
                end.stack.room = room
            for burst in what:
                self.give(handle, **burst)
        self.come_to_rest(seed)

    def give(
        self, handle: int, side: int, kind: str, flow: int, size: int, count: int, blank: bool
    ) -> None:
        checked = self.vifs[handle]
        kind = kind if kind in self.frames else "raw"
        blank = blank and flow in self.blank_flows
        for _ in range(max(1, min(count, 200_000 // size))):
            frame = self.maker.make(kind, flow, size, blank)
            checked.ends[side].stack.to_send.append(frame)
        checked.vif.kick()

    @rule(handle=handles, side=sides, room=rooms)
    def room(self, handle: int, side: int, room: int) -> None:
        if handle in self.vifs:
            self.vifs[handle].ends[side].stack.room = room
            self.vifs[handle].vif.kick()

    # -- what must hold ----------------------------------------------------------------------------

    @rule()
    def check_why(self) -> None:
        self.why_is_right()

    def why_is_right(self) -> None:
        """The script answers, time passes, there is room: what ``why`` says is what happens."""
        self._restore_script()
        for checked in self.vifs.values():
            for end in checked.ends:
                end.stack.room = PLENTY
            checked.vif.kick()
        self.settle_with_timers()
        for handle in self.vifs:
            self.trial(handle)
        self.check_books()

    def trial(self, handle: int) -> None:
        """Frames pass in both directions, or ``why`` has a reason."""
        checked = self.vifs[handle]
        for end in checked.ends:  # what waits for a connection goes its way before or never
            end.stack.to_send.clear()
        if checked.vif.guest is not self.guest:
            return
        reasons = why(checked.vif)
        for side in (0, 1):
            self.give(handle, side, "raw", 0, 60, TRIAL, False)
        numbers = [[sent.number for sent in end.stack.to_send] for end in checked.ends]
        self.settle_with_timers()
        arrived = [
            sum(sent.number in mine and sent.done for sent in end.stack.sends.sent.values())
            for end, mine in zip(checked.ends, numbers, strict=True)
        ]
        if not reasons:
            assert arrived == [TRIAL, TRIAL], (arrived, self.host.states(checked.vif))
        elif not checked.vif.connected:
            assert arrived == [0, 0], (arrived, reasons)
        checked.check(flowing=not reasons, exact=self.exact)

    def check_books(self) -> None:
        for checked in self.vifs.values():
            checked.check(flowing=False, exact=self.exact)

    def teardown(self) -> None:
        if hasattr(self, "host"):
            self.end()
            self.host.destroy()

    @until_a_panic
    def end(self) -> None:
        self._restore_script()
        for owner in self.owners:
            owner.backends.load()
        self.why_is_right()
        assert all(operation.outcome is not Outcome.PENDING for operation in self.operations)
        self._take_everything_away()
        self._live_again()

    def _take_everything_away(self) -> None:
        host, domid = self.host, self.guest.domid
        if self.running:
            for checked in self.vifs.values():
                host.unplug(checked.vif)
        else:
            self.guest.destroy()
        self.settle_with_timers()
        leaks = host.leaks()
        assert not leaks, str(leaks)
        for path in (f"/libxl/{domid}/device/vif", f"/local/domain/{domid}/device/vif"):
            assert not self._exists(path), path
        for owner in self.owners:
            path = f"/local/domain/{owner.domid}/backend/vif"
            assert not self._exists(path), path
            assert owner.backends.devices == {}
        if self.running:
            assert self.guest.frontends.devices == {}
            self.guest.destroy()
            self.settle_with_timers()
        assert not self._exists(f"/local/domain/{domid}")
        self.loop.run_until_idle(limit=LIMIT, advance_timers=True)  # no timer is for ever
        assert not host.leaks(), str(host.leaks())

    def _live_again(self) -> None:
        """Nothing of the past is in the way of a new guest."""
        self.vifs.clear()
        self.guest = self.host.add_guest(**self.of_guest)
        self.attach(0, owner=1)
        self.guest.boot()
        self.settle()
        self.host.require_connected(self.vifs[0].vif)
        assert why(self.vifs[0].vif) == []
        self.give(0, 0, "gso", 1, 9000, 1, True)
        self.give(0, 1, "udp", 0, 300, 1, True)
        self.settle()
        self.trial(0)


class XnbWalk(Walk):
    """With FreeBSD's backend, whose defects leave it these frames: it forgets what is to be
    segmented, and completes checksums of plain IPv4 only. A Windows frontend waits for ever for
    its second InitWait."""

    policy = XNB
    kinds = ("linux", "freebsd")
    frames = ("raw", "group", "udp", "tcp")
    blank_flows = (0,)
    exact = False
    reattaches = False  # it begins at 0, and reads old requests again
    #: A grant was revoked before it was used; a frontend was Closing and is connected again.
    panics = frozenset({COPY_FAILED, NO_IFNET})


small_bursts = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "flow": st.integers(0, 3),
        "size": st.sampled_from([46, 300, 1500, 3000, 5000, 20000]),
        "blank": often,
    }
)


@settings(max_examples=examples(60), deadline=None)
@given(
    kind=st.sampled_from(Walk.kinds),
    vif=vifs,
    rounds=st.lists(
        st.tuples(st.lists(small_bursts, min_size=1, max_size=8), sides, st.integers(0, 9)),
        min_size=1,
        max_size=5,
    ),
)
def test_mixed_frames_for_a_taker_with_little_room_arrive_whole_or_are_counted(
    kind: str, vif: dict[str, Any], rounds: list[tuple[list[dict[str, Any]], int, int]]
) -> None:
    walk = Walk()
    walk.begin({"kind": KINDS_OF_GUESTS[kind]})
    walk.guest.boot()
    walk.attach(0, **vif)
    walk.settle()
    checked = walk.vifs[0]
    walk.host.require_connected(checked.vif)
    for frames, side, room in rounds:
        checked.ends[1 - side].stack.room = room
        for frame in frames:
            checked.ends[side].stack.to_send.append(walk.maker.make(**frame))
        checked.vif.kick()
        walk.settle()
    walk.teardown()


def connects_again(panics: frozenset[str]) -> XnbWalk:
    """A walk whose guest closes and connects again by writes alone (C4)."""
    walk = XnbWalk()
    walk.panics = panics
    walk.begin({"kind": KINDS_OF_GUESTS["linux"]}, requests=0)
    walk.loop.meanwhile = lambda ready: 0
    walk.guest.boot()
    walk.attach(0)
    walk.settle()
    for state in "66366":
        walk.guest_writes_a_state(0, state)
    return walk


def test_a_host_that_panics_while_a_guest_waits_for_the_store_ends_the_walk() -> None:
    walk = connects_again(XnbWalk.panics)
    assert walk.over
    before = walk.loop.steps
    walk.rest(0)
    walk.unplug(0, True)
    walk.teardown()
    assert walk.loop.steps == before


def test_a_panic_that_sound_drivers_cannot_cause_fails_the_walk() -> None:
    with pytest.raises(BackendPanic, match="ifp is NULL"):
        connects_again(frozenset({COPY_FAILED}))


TestWalk = Walk.TestCase
TestXnbWalk = XnbWalk.TestCase
TestXnbWalk.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
TestWalk.settings = settings(max_examples=examples(90), stateful_step_count=30, deadline=None)
