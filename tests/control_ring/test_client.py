"""The frontend's end against a backend that writes the ring by hand."""

from __future__ import annotations

from random import Random

import pytest
from control_sites import RawBackend, Site
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.interface import HypercallError
from xennet.netfront.control_ring import ControlClient, Reply
from xennet.testing.minimal_hypervisor import MinimalMachine

GET_FLAGS, SET_KEY, GET_SIZE, SET_SIZE = 1, 3, 4, 5
RING = 128


def test_responses_are_taken_in_any_order() -> None:
    back = RawBackend()
    replies: dict[int, Reply] = {}
    for size in range(3):
        back.client.request(SET_SIZE, size, done=lambda r, size=size: replies.update({size: r}))
    asked = back.requests()
    assert [row[1:] for row in asked] == [(SET_SIZE, size, 0, 0) for size in range(3)]
    for size in (2, 0, 1):
        back.answer(asked[size][0], SET_SIZE, status=size, data=10 + size)
    back.push()
    assert list(replies) == [2, 0, 1]
    assert {size: (r.status, r.data) for size, r in replies.items()} == {
        size: (size, 10 + size) for size in range(3)
    }
    assert back.client.outstanding == 0


def test_who_raises_at_an_answer_keeps_nobody_from_the_next() -> None:
    back = RawBackend()
    heard: list[int] = []

    def raise_first(_: Reply) -> None:
        heard.append(0)
        raise LookupError

    back.client.request(SET_SIZE, 0, done=raise_first)
    for i in range(1, RING + 3):  # the last ones wait for room
        back.client.request(SET_SIZE, i, done=lambda _, i=i: heard.append(i))
    for ident, kind, *_ in back.requests():
        back.answer(ident, kind)
    with pytest.raises(LookupError):
        back.push()
    for ident, kind, *_ in back.requests():
        back.answer(ident, kind)
    back.push()
    assert heard == list(range(RING + 3))


def test_the_backend_is_notified_when_it_asked_and_only_then() -> None:
    back = RawBackend()
    back.client.request(GET_SIZE)
    back.site.run()
    assert back.events == 1
    back.client.request(GET_SIZE)
    back.site.run()
    assert back.events == 1  # req_event has not moved


def test_requests_beyond_the_ring_wait_and_keep_their_order() -> None:
    back = RawBackend()
    done: list[int] = []
    for i in range(3 * RING):
        back.client.request(SET_SIZE, i, done=lambda _, i=i: done.append(i))
    for _ in range(3):
        asked = back.requests()
        assert len(asked) == RING
        for ident, kind, *_ in asked:
            back.answer(ident, kind)
        back.push()
    assert done == list(range(3 * RING))
    assert back.client.outstanding == 0


def test_the_page_of_a_message_is_not_reused_before_the_answer() -> None:
    back = RawBackend()
    seen: list[bytes] = []
    for key in (b"first", b"other"):
        back.client.set_hash_key(key)
    back.client.request(GET_SIZE)
    for wanted in (b"first", b"other"):
        row = back.requests()[0]
        assert row[1:4:2] == (SET_KEY, 5)
        page = back.site.host.map_grant(1, row[2])
        seen.append(bytes(page.page.u8[:5]))
        back.site.host.unmap_grant(page)
        assert seen[-1] == wanted
        back.answer(row[0], SET_KEY)
        back.push()
    assert back.client.outstanding == 1  # GET_SIZE came behind both


def test_a_callback_may_ask_the_next_thing() -> None:
    back = RawBackend()
    back.client.request(GET_SIZE, done=lambda reply: back.client.request(SET_SIZE, reply.data))
    ((ident, *_),) = back.requests()
    back.answer(ident, GET_SIZE, data=64)
    back.push()
    assert [row[1:3] for row in back.requests()] == [(SET_SIZE, 64)]


def test_a_callback_may_disconnect() -> None:
    back = RawBackend()
    later: list[Reply] = []
    back.client.request(GET_SIZE, done=lambda _: back.client.disconnect() and None)
    back.client.request(GET_SIZE, done=later.append)
    for ident, kind, *_ in back.requests():
        back.answer(ident, kind)
    back.push()
    assert (later, back.broken, back.client.outstanding) == ([], [], 0)


@pytest.mark.parametrize("beyond", [1, 2, RING, 2**31, 2**32 - 2])
def test_b1_a_rsp_prod_past_what_was_requested_breaks_the_client(beyond: int) -> None:
    back = RawBackend()
    replies: list[Reply] = []
    back.client.request(GET_SIZE, done=replies.append)
    back.requests()
    back.ring.sring.rsp_prod = 1 + beyond
    back.notify()
    (error,) = back.broken
    assert (error.rule, error.ring, error.index, error.word) == ("B1", "ctrl", 0, 1 + beyond)
    assert replies == []


def test_b4_a_response_to_nobody_breaks_the_client_after_those_before_it() -> None:
    back = RawBackend()
    replies: list[Reply] = []
    for _ in range(3):
        back.client.request(GET_SIZE, done=replies.append)
    first, second, _ = (row[0] for row in back.requests())
    back.answer(first, GET_SIZE)
    back.answer(first, GET_SIZE)
    back.answer(second, GET_SIZE)
    back.push()
    (error,) = back.broken
    assert (error.rule, error.index, error.word) == ("B4", 1, GET_SIZE << 16 | first)
    assert len(replies) == 1


def test_b4_a_response_of_another_type_breaks_the_client() -> None:
    back = RawBackend()
    back.client.request(GET_SIZE)
    ((ident, *_),) = back.requests()
    back.answer(ident, GET_FLAGS)
    back.push()
    (error,) = back.broken
    assert "type 1 to a request of type 4" in str(error)


def test_a_broken_client_forgets_requests_and_still_gives_everything_back() -> None:
    back = RawBackend()
    back.client.request(GET_SIZE)
    back.ring.sring.rsp_prod = 9
    back.notify()
    back.client.request(GET_SIZE)
    assert back.client.outstanding == 0
    back.site.host.close_port(back.port)
    back.site.host.unmap_grant(back.mapping)
    assert back.client.disconnect() == []
    assert back.site.held() == []


def test_pages_that_the_backend_still_holds_are_kept_until_it_lets_go() -> None:
    back = RawBackend()
    (held,) = back.client.disconnect()
    assert not held.end()
    assert back.client.disconnect() == []
    back.site.host.close_port(back.port)
    back.site.host.unmap_grant(back.mapping)
    assert held.end()
    assert back.site.held() == []


def test_a_client_that_cannot_be_set_up_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = MinimalMachine().domain(1)

    def refuse(_: int) -> int:
        raise HypercallError("EVTCHNOP_alloc_unbound", -28, "no port left")

    free = len(guest.grants.free)
    monkeypatch.setattr(guest, "alloc_unbound", refuse)
    with pytest.raises(HypercallError, match="no port"):
        ControlClient(guest, 0, lambda _: None)
    assert (len(guest.grants.free), guest.machine.frames) == (free, {})


@pytest.mark.parametrize("data", [(1, 2, 3, 4), (2**32,), (-1,)])
def test_numbers_that_no_request_can_hold_are_refused(data: tuple[int, ...]) -> None:
    back = RawBackend()
    with pytest.raises(ValueError, match="32-bit"):
        back.client.request(GET_SIZE, *data)


def test_what_does_not_fit_a_page_is_refused() -> None:
    back = RawBackend()
    with pytest.raises(ValueError, match="4097 bytes"):
        back.client.set_hash_key(bytes(4097))


def test_a_client_without_a_backend_leaves_nothing(site: Site) -> None:
    client = ControlClient(site.guest, site.host.domid, lambda _: None)
    client.set_hash_algorithm(1)
    client.set_hash_key(b"never seen")
    assert client.disconnect() == []
    site.run()
    assert site.held() == []


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 140), st.integers(0, RING), st.none() | st.integers(0, 2**32 - 1), st.randoms()
)
def test_any_responses_either_answer_or_break_and_nothing_leaks(
    asked: int, answered: int, prod: int | None, random: Random
) -> None:
    back = RawBackend()
    replies: list[Reply] = []
    for i in range(asked):
        back.client.request(SET_SIZE, i, done=replies.append)
    back.requests()
    back.ring.sring.u8[64:] = random.randbytes(4096 - 64)
    posted = min(asked, RING)
    good = min(answered, posted)
    for ident in range(good):  # ids are counted up from 0
        back.answer(ident, SET_SIZE)
    back.ring.sring.rsp_prod = good if prod is None else prod
    back.notify()
    if prod is None:
        assert (len(replies), back.broken) == (good, [])
    elif prod > posted:
        assert (len(replies), [error.rule for error in back.broken]) == (0, ["B1"])
    else:
        assert len(replies) >= min(good, prod)
    back.site.host.close_port(back.port)
    back.site.host.unmap_grant(back.mapping)
    assert back.client.disconnect() == []
    assert back.site.held() == []
