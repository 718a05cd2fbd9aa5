"""XenStore learns of domains through the hypervisor, and clients of events through the run loop."""

from __future__ import annotations

import pytest

from xennet.observe import StoreOperation
from xennet.runloop import Delivery
from xennet.xenstore import XsError

SHUTDOWN_crash = 3


def test_watch_events_arrive_one_by_one_through_the_run_loop(site) -> None:
    client = site.service.connect(site.dom0)
    heard = []
    client.watch("/a", "token", lambda path, token: heard.append(path))
    client.write("/a/1", "x")
    client.write("/a/2", "x")
    assert heard == []
    assert site.machine.run_loop.ready() == (Delivery("xenstore", 0, 1),)
    for count in (1, 2, 3):
        site.machine.run_loop.step()
        assert len(heard) == count
    assert heard == ["/a", "/a/1", "/a/2"]
    assert site.machine.run_loop.idle


def test_every_client_has_a_delivery_of_its_own(site) -> None:
    heard = []
    for name in ("toolstack", "backend"):
        client = site.service.connect(site.dom0, name)
        client.watch("/a", "token", lambda path, token, name=name: heard.append(name))
    site.machine.run_loop.step(Delivery("xenstore", 0, 2))
    site.run()
    assert heard == ["backend", "toolstack"]


def test_a_callback_that_raises_does_not_hold_up_the_next_event(site) -> None:
    client = site.service.connect(site.dom0)
    heard = []

    def callback(path: str, token: str) -> None:
        heard.append(path)
        if len(heard) == 1:
            raise ValueError("bug in a driver")

    client.watch("/a", "token", callback)
    client.write("/a", "x")
    client.write("/a/b", "x")
    with pytest.raises(ValueError, match="bug in a driver") as raised:
        site.run()
    assert "xenstore 1 of domain 0" in raised.value.__notes__[0]
    site.run()
    assert heard[-1] == "/a/b"


def test_connecting_introduces_a_domain(site) -> None:
    heard = []
    site.service.connect(site.dom0).watch("@introduceDomain", "i", lambda *event: heard.append(1))
    site.run()
    assert not site.service.store.is_introduced(1)
    site.service.connect(site.front)
    assert site.service.store.is_introduced(1)
    site.run()
    assert len(heard) == 2


def test_a_domain_can_own_nodes_before_it_is_introduced(site) -> None:
    client = site.service.connect(site.dom0)
    client.write("/local/domain/1", "")
    client.set_perms("/local/domain/1", ["n1"])
    client.write("/local/domain/9", "")
    with pytest.raises(XsError, match="ENOENT"):
        client.set_perms("/local/domain/9", ["n9"])


def own_node(site) -> None:
    client = site.service.connect(site.dom0)
    client.write("/local/domain/1/device", "")
    client.set_perms("/local/domain/1", ["n1"])
    client.set_perms("/local/domain/1/device", ["n1"])


def released(site) -> list[str]:
    heard: list[str] = []
    site.service.connect(site.dom0).watch(
        "@releaseDomain", "r", lambda path, token: heard.append(path)
    )
    site.run()
    heard.clear()
    return heard


def test_the_death_of_a_domain_removes_its_nodes_and_tells_everybody(site) -> None:
    own_node(site)
    site.service.connect(site.front)
    heard = released(site)
    site.machine.destroy_domain(1)
    site.run()
    assert heard == ["@releaseDomain"]
    assert not site.service.connect(site.dom0).exists("/local/domain/1")
    assert not site.service.store.is_introduced(1)


def test_a_crash_tells_everybody_once_and_removes_nothing(site) -> None:
    own_node(site)
    site.service.connect(site.front)
    heard = released(site)
    site.machine.shutdown_domain(1, SHUTDOWN_crash)
    site.run()
    site.machine.shutdown_domain(2, SHUTDOWN_crash)
    site.run()
    assert heard == ["@releaseDomain"]
    assert site.service.connect(site.dom0).exists("/local/domain/1/device")
    site.machine.destroy_domain(1)
    site.run()
    assert heard == ["@releaseDomain"] * 2


def test_a_zombie_is_dead_for_the_store(site) -> None:
    own_node(site)
    front, back = site.kernel(site.front), site.kernel(site.back)
    back.map_grant(1, front.grants.grant_access(2, front.alloc_pages(1).first))
    site.machine.destroy_domain(1)
    site.run()
    assert site.machine.domain_info(1).dying
    assert not site.service.connect(site.dom0).exists("/local/domain/1")


def test_a_new_domain_of_the_same_number_does_not_inherit(site) -> None:
    own_node(site)
    site.service.connect(site.front)
    heard = released(site)
    site.machine.destroy_domain(1)
    with pytest.raises(ValueError, match="domain 1"):  # xenstored still maps its ring
        site.machine.create_domain(1)
    site.run()
    site.service.connect(site.machine.create_domain(1))
    site.run()
    assert heard == ["@releaseDomain"]
    assert not site.service.connect(site.dom0).exists("/local/domain/1/device")
    assert site.service.store.is_introduced(1)


def test_nor_does_it_inherit_from_one_that_never_was_introduced(site) -> None:
    """It may come before the store looked: VIRQ_DOM_EXC is only one bit."""
    own_node(site)
    site.machine.destroy_domain(1)
    site.machine.create_domain(1)
    assert not site.service.connect(site.dom0).exists("/local/domain/1/device")


def test_the_events_of_a_domain_that_died_are_not_delivered(site) -> None:
    client = site.service.connect(site.front)
    heard = []
    client.watch("/local", "token", lambda *event: heard.append(event))
    site.machine.destroy_domain(1)
    site.run()
    assert heard == []


def test_a_stopped_domain_hears_nothing(site) -> None:
    client = site.service.connect(site.front)
    heard = []
    site.service.connect(site.dom0).write("/tool/x", "1")
    client.watch("@releaseDomain", "token", lambda *event: heard.append(event))
    site.run()
    heard.clear()
    site.machine.shutdown_domain(1, SHUTDOWN_crash)
    site.run()
    site.service.connect(site.dom0).write("/tool/x", "2")
    site.run()
    assert heard == []


def test_store_operations_are_observed_only_while_somebody_listens(site) -> None:
    client = site.service.connect(site.dom0, "toolstack")
    client.write("/quiet", "1")
    seen: list[object] = []
    unsubscribe = site.machine.observers.subscribe(seen.append, StoreOperation)
    client.write("/loud", "2")
    with pytest.raises(XsError):
        client.read("/none")
    unsubscribe()
    client.write("/quiet", "3")
    assert seen == [
        StoreOperation("toolstack", 0, "WRITE", "/loud", b"2", 0, ""),
        StoreOperation("toolstack", 0, "READ", "/none", b"", 0, "ENOENT"),
    ]
    assert site.service.store.observer is None
