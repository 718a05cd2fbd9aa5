"""A toolstack acts between two requests of a driver: before every single one of a connect.

Both ends reach the store over their rings, for the backend is in a driver domain, and a request is
a delivery of its own. What the toolstack did is seen by both ends as far as that is possible before
the request is answered. Afterwards both ends are in a state that the tables of xennet.xenbus.tables
lead to, the vif can be taken away, and nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
from vif_peers import Stack

from xennet.abi.xenbus import XenbusState
from xennet.host.host import Host
from xennet.observe import StoreOperation
from xennet.runloop import Delivery
from xennet.toolstack.toolstack import Outcome
from xennet.xenbus.state import read_state

S = XenbusState
#: More than all time limits of drivers, toolstack and script, one after the other.
PATIENCE = 200_000_000_000
CONNECTED = (S.Connected, S.Connected)


class Race:
    """A vif that connects to a driver domain; ``act`` happens before request ``before`` of its two
    ends (0 is the first). ``states`` (frontend, backend) are those that this ends in."""

    def __init__(self, act: Callable[[Race], object] | None = None, before: int = 0) -> None:
        self.host = Host(store_deliveries=True)
        self.driver = self.host.add_driver_domain()
        self.guest = self.host.add_guest()
        self.vif = self.host.plug(self.guest, 0, Stack(), Stack(), backend_domid=self.driver.domid)
        self.requests = 0
        self._before = before
        self._act = act
        self.acted = False
        self.host.machine.observers.subscribe(self._count, StoreOperation)
        self.loop = self.host.machine.run_loop
        self.loop.meanwhile = self._meanwhile
        self.driver.domain.defer(self.driver.load)
        self.guest.domain.defer(self.guest.boot)
        self.settle()
        self.states = self.seen()
        self._act = None

    def _count(self, operation: StoreOperation) -> None:
        self.requests += operation.domid != 0

    def _meanwhile(self, ready: Sequence[Delivery]) -> int:
        if self._act is not None and not self.acted and self.requests == self._before:
            self.acted = True
            self._act(self)
        # What the act has caused comes before the answer.
        return len(ready) - 1 if self.acted else 0

    def settle(self) -> None:
        self.host.settle()
        end = self.loop.now + PATIENCE
        while (due := self.loop.next_due) is not None and due <= end:
            self.loop.advance(due - self.loop.now)
            self.host.settle()

    def seen(self) -> tuple[int, int]:
        paths = self.vif.paths
        return read_state(self.host.store, paths.frontend), read_state(
            self.host.store, paths.backend
        )

    def take_away(self) -> None:
        if self.guest.domain.running:
            operation = self.host.unplug(self.vif)
            self.settle()
            assert operation.outcome is not Outcome.PENDING
            assert self.guest.frontends.devices == {}
        self.guest.destroy()
        self.settle()
        if self.driver.domain.running:
            assert self.driver.backends.devices == {}
        assert not self.host.leaks(), str(self.host.leaks())
        self.host.destroy()


class Act(NamedTuple):
    """What the toolstack does, and the states (frontend, backend) that it may end in."""

    do: Callable[[Race], object]
    ends: set[tuple[int, int]]


ACTS = {
    # A backend that has not been probed in Initialising is not probed at all; a state that a
    # driver writes afterwards wins.
    "writes Closing into the backend's directory": Act(
        lambda race: race.host.store.write(f"{race.vif.paths.backend}/state", "5"),
        {(S.Closed, S.Closing), CONNECTED, (S.Closed, S.Closed)},
    ),
    # online 0 and state Closing, in one transaction; then both directories go.
    "detaches the vif": Act(lambda race: race.host.unplug(race.vif), {(S.Unknown, S.Unknown)}),
    # Closing: it cannot be probed. InitWait: the hotplug script was not done, and Closed is not
    # shown before it is (backend_switch_state).
    "removes the frontend directory": Act(
        lambda race: race.host.store.rm(race.vif.paths.frontend),
        {(S.Unknown, S.Closing), (S.Unknown, S.Closed), (S.Unknown, S.InitWait)},
    ),
    "kills the guest": Act(
        lambda race: race.guest.kill(), {(S.Unknown, S.Closed), (S.Unknown, S.Closing)}
    ),
    # A frontend does not notice (LINUX_FRONTEND); Closing: it could not find its other end.
    "kills the driver domain": Act(
        lambda race: race.driver.kill(),
        {(S.Closing, S.Unknown), (S.Initialising, S.Unknown), (S.Connected, S.Unknown)},
    ),
}


def test_an_undisturbed_connect_with_requests_as_deliveries_ends_connected() -> None:
    race = Race()
    assert race.states == CONNECTED
    assert race.requests > 80
    race.take_away()


@pytest.mark.parametrize("name", ACTS)
def test_a_toolstack_may_act_before_any_request_of_a_connect(name: str) -> None:
    act = ACTS[name]
    before = 0
    while (race := Race(act.do, before)).acted:
        assert race.states in act.ends, f"before request {before}: {race.states}"
        race.take_away()
        before += 1
    assert before > 80
