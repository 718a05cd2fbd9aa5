"""Observers see every hypercall and its answer, every event, and the life of domains."""

from __future__ import annotations

import errno
from itertools import count

import pytest

from xennet.abi.xen import DOMID_SELF, VIRQ_DOM_EXC
from xennet.check.cpu_bound import TimeOverError
from xennet.interface import HypercallError
from xennet.observe import (
    DomainCreated,
    DomainDestroyed,
    DomainShutdown,
    EventDelivered,
    EventSent,
    Hypercall,
    Observers,
    VirqRaised,
)
from xennet.runloop import RunLoop


@pytest.fixture
def watched(site):
    seen: list[object] = []
    site.machine.observers.subscribe(seen.append)
    return seen


def test_a_hub_is_active_while_it_has_subscribers() -> None:
    hub, toggles = Observers(), []
    hub.on_toggle(str, toggles.append)
    first, second = hub.subscribe(print), hub.subscribe(print, str)
    first()
    assert hub.active
    second()
    second()
    assert not hub.active
    assert toggles[0] is False
    assert True in toggles
    assert toggles[-1] is False


def test_a_hub_knows_which_kinds_are_wanted() -> None:
    hub = Observers()
    strings, numbers = hub.interest(str), hub.interest(int)
    hub.subscribe(print, str)
    assert hub.wants(str)
    assert strings.any
    assert not hub.wants(int)
    leave = hub.subscribe(print)
    assert hub.wants(int)
    assert numbers.any
    leave()
    assert not hub.wants(int)
    assert not numbers.any


def test_the_same_function_can_subscribe_twice_and_leave_once() -> None:
    hub, seen = Observers(), []
    leave = hub.subscribe(seen.append)
    hub.subscribe(seen.append)
    leave()
    hub.emit("event")
    assert seen == ["event"]


def test_subscribers_get_the_kinds_they_asked_for() -> None:
    hub, texts, everything = Observers(), [], []
    hub.subscribe(texts.append, str)
    hub.subscribe(everything.append)
    hub.emit(1)
    hub.emit("one")
    assert (texts, everything) == (["one"], [1, "one"])


def failing(event: object) -> None:
    raise ValueError(f"saw {event}")


def test_what_an_observer_raises_waits_for_the_end_of_the_delivery() -> None:
    loop = RunLoop()
    hub, seen = Observers(loop.keep), []
    hub.subscribe(failing)
    hub.subscribe(seen.append)

    def work() -> None:
        hub.emit(1)
        hub.emit(2)
        seen.append("whole")

    loop.defer(0, work)
    with pytest.raises(ValueError, match="saw 1") as raised:
        loop.step()
    assert raised.value.__notes__ == ["while delivering work 1 of domain 0 (step 1)"]
    assert seen == [1, 2, "whole"]
    loop.defer(0, lambda: None)
    loop.step()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, TimeOverError])
def test_signal_that_comes_while_an_observer_is_called_ends_the_delivery(
    kind: type[BaseException],
) -> None:
    loop = RunLoop()
    hub = Observers(loop.keep)

    def signalled(event: object) -> None:
        raise kind

    def never_returns() -> None:
        for tries in count():
            assert tries < 3
            hub.emit(tries)

    hub.subscribe(signalled)
    loop.defer(0, never_returns)
    with pytest.raises(kind):
        loop.step()


def test_outside_of_deliveries_it_is_raised_at_once() -> None:
    hub = Observers(RunLoop().keep)
    hub.subscribe(failing)
    with pytest.raises(ValueError, match="saw 1"):
        hub.emit(1)


def test_hypercalls_are_seen_with_their_results(site, watched) -> None:
    port = site.front.alloc_unbound(DOMID_SELF, 2)
    site.front.query_size(DOMID_SELF)
    run = site.front.alloc_pages(2)
    assert watched == [
        Hypercall(1, "EVTCHNOP_alloc_unbound", (DOMID_SELF, 2), port),
        Hypercall(1, "GNTTABOP_query_size", (DOMID_SELF,), (0, 1, 4)),
        Hypercall(1, "XENMEM_populate_physmap", (2,), run.first),
    ]


def test_refusals_are_seen_with_their_errno(site, watched) -> None:
    with pytest.raises(HypercallError):
        site.front.send(9)
    assert watched == [Hypercall(1, "EVTCHNOP_send", (9,), -errno.EINVAL)]


def test_a_send_shows_whether_it_had_an_effect(site) -> None:
    far = site.back.alloc_unbound(DOMID_SELF, 1)
    near = site.front.bind_interdomain(2, far)
    site.back.unmask(far)
    sent: list[object] = []
    site.machine.observers.subscribe(sent.append, EventSent)
    site.front.send(near)
    site.front.send(near)
    site.back.close(far)
    site.front.send(near)
    assert sent == [
        EventSent(1, near, 2, far, True),
        EventSent(1, near, 2, far, False),
        EventSent(1, near, 2, 0, False),
    ]


def test_deliveries_are_seen_before_the_handler_runs(site) -> None:
    port = site.front.bind_ipi(0)
    seen: list[object] = []
    site.machine.observers.subscribe(seen.append, EventDelivered)
    site.front.unmask(port)
    site.front.send(port)
    site.run()
    site.front.set_handler(port, lambda: seen.append("handler"))
    site.front.send(port)
    site.run()
    assert seen == [EventDelivered(1, port, False), EventDelivered(1, port, True), "handler"]


def test_the_life_of_a_domain_is_seen(site, watched) -> None:
    domain = site.machine.create_domain(name="mayfly")
    site.machine.shutdown_domain(domain.domid, 3)
    site.machine.destroy_domain(domain.domid)
    virq = VirqRaised(0, VIRQ_DOM_EXC, 1)
    assert watched == [
        DomainCreated(3, "mayfly"),
        DomainShutdown(3, 3),
        virq,
        DomainDestroyed(3, False),
        virq,
    ]


def test_a_zombie_is_seen_as_such(site) -> None:
    front, back = site.kernel(site.front), site.kernel(site.back)
    back.map_grant(1, front.grants.grant_access(2, front.alloc_pages(1).first))
    seen: list[object] = []
    site.machine.observers.subscribe(seen.append, DomainDestroyed)
    site.machine.destroy_domain(1)
    assert seen == [DomainDestroyed(1, True)]


def test_without_observers_nothing_is_held_back_or_built(site) -> None:
    leave = site.machine.observers.subscribe(print)
    leave()
    assert site.machine.grant_tables.observer is None
