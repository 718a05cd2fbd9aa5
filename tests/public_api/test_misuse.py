"""Wrong use of the library gets one error, at once, that says what to do instead."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, cast

import pytest

from xennet import Host, LinkError, VifLink, open_port
from xennet.frames import (
    EVERYTHING,
    NOTHING,
    Endpoint,
    FrameBatch,
    Offload,
    require_endpoint,
)
from xennet.host import Setup
from xennet.lifecycle.stack import Stack
from xennet.link import Vifs
from xennet.port.null import NullPort


@pytest.fixture
def link() -> Iterator[VifLink]:
    link = VifLink(open_port("gen:60x10"), open_port("null:"))
    yield link
    link.destroy()


@pytest.mark.parametrize("call", ["carry", "kick", "trickle"])
def test_a_link_that_is_not_open_carries_nothing_and_says_so(link: VifLink, call: str) -> None:
    with pytest.raises(LinkError, match=rf"{call}\(\) of a link that is not open yet: first open"):
        getattr(link, call)()


@pytest.mark.parametrize("call", ["open", "carry", "kick"])
def test_a_link_that_was_closed_is_not_used_again(link: VifLink, call: str) -> None:
    link.open()
    link.close()
    with pytest.raises(LinkError, match=rf"{call}\(\) of a link that is closed"):
        getattr(link, call)()


def test_a_link_is_opened_once(link: VifLink) -> None:
    link.open()
    with pytest.raises(LinkError, match=r"open\(\) of a link that is open: first open\(\), once"):
        link.open()
    link.carry()
    assert link.netback.counters.tx.packets == 10


def test_a_link_that_was_switched_off_is_closed(link: VifLink) -> None:
    link.open()
    link.destroy()
    link.close()
    with pytest.raises(LinkError, match="closed"):
        link.carry()


def test_no_pair_is_joined_by_an_open_link(link: VifLink) -> None:
    link.open()
    with pytest.raises(LinkError, match=r"join\(\)"):
        link.join(NullPort(), NullPort())


def test_a_link_needs_a_pair_for_each_vif_of_its_setup() -> None:
    vifs = Vifs(Setup(guests=2, vifs=2))
    vifs.join(NullPort(), NullPort())
    with pytest.raises(LinkError, match="2 guests with 2 vifs each are set up, but 1 pairs"):
        vifs.open()
    vifs.destroy()


def test_a_vif_that_is_not_there_yet_has_no_drivers(link: VifLink) -> None:
    assert link.netfront is None
    for name in ("vif", "netback"):
        with pytest.raises(LinkError, match="not been plugged in"):
            getattr(link, name)


def test_the_run_loop_can_be_stepped_after_a_kick(link: VifLink) -> None:
    link.open()
    link.kick()
    loop, seen = link.machine.run_loop, []
    while loop.step() is not None:
        seen.append(link.netback.counters.tx.packets)
    assert seen[0] == 0
    assert seen[-1] == 10


WRONG: list[tuple[Any, str]] = [
    ("gen:60x1", r"'gen:60x1' is a port's specification; open_port\('gen:60x1'\) opens it"),
    (None, "guest.*: None is no port or other xennet.frames.Endpoint, it has no pull, push"),
    (42, "42 is no port"),
]


@pytest.mark.parametrize(("end", "said"), WRONG)
def test_what_is_no_port_is_refused_where_it_is_given(end: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        VifLink(end, NullPort())
    host = Host()
    guest = host.add_guest()
    with pytest.raises(TypeError, match=said):
        host.plug(guest, 0, end, NullPort())
    assert not guest.vifs
    host.destroy()


class Old:
    """An endpoint as scripts have them that were written before ``carries`` and ``listen``."""

    room = 1 << 30

    def __init__(self) -> None:
        self.name = "old"
        self.left = 3
        self.came: list[bytes] = []

    def pull(self, batch: FrameBatch) -> int:
        given = 0
        while self.left and batch.has_room(60):
            batch.append(bytes(60))
            self.left -= 1
            given += 1
        return given

    def push(self, batch: FrameBatch) -> None:
        self.came += [bytes(frame) for frame in batch]

    def negotiated(self, offload: Offload) -> None:
        self.offload = offload


class Half(Old):
    """It has heard of edges, which asked for ``carries`` early."""

    carries = NOTHING


class Heir(Old, Endpoint):
    """What it inherits from the protocol is a declaration, and not what it says."""


@pytest.mark.parametrize(
    ("old", "lacks"),
    [(Old, "carries and no listen"), (Half, "listen"), (Heir, "carries")],
)
def test_an_endpoint_from_before_goes_on_and_is_told_what_to_add(old: Any, lacks: str) -> None:
    guest, host = old(), open_port("null:")
    said = f"guest: .* has no {lacks}, which every endpoint has now: inherit from xennet.BaseEnd"
    with pytest.warns(DeprecationWarning, match=said) as caught:
        link = VifLink(guest, host)
    assert [warning.filename for warning in caught] == [__file__]
    link.open()
    link.carry()
    link.close()
    link.destroy()
    assert host.counters.frames_out == 3
    assert guest.offload.sg


def test_a_completed_endpoint_has_all_that_it_had_and_what_it_lacked() -> None:
    for old, carries in ((Old, EVERYTHING), (Half, NOTHING), (Heir, EVERYTHING)):
        with pytest.warns(DeprecationWarning, match="it: .* has no"):
            end: Any = require_endpoint("it", cast("Endpoint", old()))
        assert require_endpoint("it", end) is end  # not twice
        assert end.carries == carries
        end.listen(lambda: None)
        assert (end.name, end.left, end.room) == ("old", 3, 1 << 30)
        with pytest.raises(AttributeError, match="nothing"):
            _ = end.nothing
        assert deepcopy(end).name == "old"


def test_the_host_tells_both_ends_whom_to_wake() -> None:
    host = Host()
    guest = host.add_guest()
    ends = Stack(), Stack()
    vif = host.plug(guest, 0, *ends)
    host.boot()
    host.settle()
    for end, other in (ends, ends[::-1]):
        end.to_send = 5
        host.settle()
        assert other.received == 0
        end.wake()
        host.settle()
        assert other.received == 5
    there, successor = Host(), Stack()
    there.dom0.load()
    there.restore(host.save(guest), host_ends={0: successor})
    there.settle()
    there.require_connected(vif)
    for end, other in ((ends[0], successor), (successor, ends[0])):
        before = other.received
        end.to_send = 3
        end.wake()
        there.settle()
        assert other.received - before == 3
    host.destroy()
    there.destroy()


def test_a_handle_in_use_is_refused_and_its_vif_stays() -> None:
    host = Host()
    guest = host.add_guest()
    vif = host.plug(guest, 0, NullPort(), NullPort())
    with pytest.raises(LinkError, match="handle 0 of domain 1 is in use: /libxl/1/device/vif/0"):
        host.plug(guest, 0, NullPort(), NullPort())
    assert guest.vifs == {0: vif}
    host.boot()
    host.settle()
    host.require_connected(vif)
    host.unplug(vif)
    host.settle()
    again = host.plug(guest, 0, NullPort(), NullPort())  # it is free now
    host.settle()
    host.require_connected(again)
    host.destroy()


@pytest.mark.parametrize(
    ("domid", "frame", "said"),
    [
        ("x", 1, "a domain id is a whole number, not 'x'"),
        (0, 1.5, r"a frame number \(PageRun.first\) is a whole number, not 1.5"),
        (0, None, "a frame number"),
    ],
)
def test_a_grant_of_what_is_no_number_is_a_type_error(domid: Any, frame: Any, said: str) -> None:
    host = Host()
    grants = host.add_guest().kernel.grants
    held = grants.held
    with pytest.raises(TypeError, match=said):
        grants.grant_access(domid, frame)
    assert grants.held == held
    host.destroy()


def test_a_page_run_where_its_number_is_wanted_is_shown() -> None:
    host = Host()
    kernel = host.add_guest().kernel
    page = kernel.alloc_pages(1)
    with pytest.raises(TypeError, match=r"PageRun.first\) is a whole number, not <PageRun 1 from"):
        kernel.grants.grant_access(0, page)  # type: ignore[arg-type]
    host.destroy()


@pytest.mark.parametrize("value", [4.5, None, [4], object()])
def test_a_store_value_that_is_no_value_is_refused(value: Any) -> None:
    host = Host()
    with pytest.raises(TypeError, match="a node's value is bytes, text or a whole number, not"):
        host.store.write("/tool/x", value)
    with pytest.raises(TypeError, match="a node's value"):
        host.store.transact(lambda tx: tx.write("/tool/x", value))
    assert not host.store.exists("/tool/x")
    host.destroy()


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (True, b"1"),
        (False, b"0"),
        (-3, b"-3"),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        ("ä", "ä".encode()),
    ],
)
def test_store_values_of_every_kind_that_has_bytes(value: Any, stored: bytes) -> None:
    host = Host()
    host.store.write("/tool/x", value)
    assert host.store.read("/tool/x") == stored
    host.destroy()
