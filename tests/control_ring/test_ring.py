"""The backend's end against a frontend that writes the ring by hand."""

from __future__ import annotations

from random import Random

import pytest
from control_sites import NOT_SUPPORTED, SUCCESS, Ends, RawFrontend, Site
from how_many import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.abi.netif import CTRL_REQUEST, CTRL_RESPONSE, GREF
from xennet.interface import HypercallError
from xennet.ring import RingOverflowError
from xennet.vif.late_eoi import JIFFY
from xennet.vif.ring_events import RingEvent

GET_SIZE, SET_SIZE, SET_ALGORITHM, ADD_GREFS = 4, 5, 7, 9
RING = 128


def test_a_response_repeats_id_and_type_of_its_request() -> None:
    front = RawFrontend()
    front.connect()
    front.request(GET_SIZE, ident=0xBEEF)
    front.request(4711, ident=7)
    front.push()
    assert front.responses() == [(0xBEEF, GET_SIZE, SUCCESS, 128), (7, 4711, NOT_SUPPORTED, 0)]


def test_f24_a_message_that_is_refused_is_told_with_its_rule() -> None:
    front = RawFrontend(start=7)
    host = front.site.host
    host.interest(RingEvent).any = True
    front.connect()
    front.request(GET_SIZE)
    front.request(4711)
    front.push()
    (event,) = [event for event in host.events if isinstance(event, RingEvent)]
    assert (event.rule, event.ring, event.index) == ("F24", "ctrl", 8)
    assert dict(event.values) == {"type": 4711, "status": NOT_SUPPORTED}


def test_xsa_216_a_response_overwrites_the_whole_slot() -> None:
    front = RawFrontend()
    front.connect()
    front.put(CTRL_REQUEST.pack(1, GET_SIZE, *[0xDEADBEEF] * 3))
    front.push()
    assert front.raw_responses() == [CTRL_RESPONSE.pack(1, GET_SIZE, SUCCESS, 128) + bytes(4)]


def test_requests_posted_before_the_backend_connects_are_served() -> None:
    front = RawFrontend(start=5000)
    front.request(GET_SIZE)
    front.push()
    front.connect()
    assert front.responses() == [(0, GET_SIZE, SUCCESS, 128)]


@pytest.mark.parametrize("start", [0, 2**31 - 60, 2**32 - 60, 2**32 - 1])
def test_a_whole_ring_of_requests_is_served_in_order_also_where_indices_wrap(start: int) -> None:
    front = RawFrontend(start=start)
    front.connect()
    for turn in range(3):
        for i in range(RING):
            front.request(SET_SIZE, i, ident=turn * RING + i)
        front.push()
        assert [row[0] for row in front.responses()] == [turn * RING + i for i in range(RING)]
        assert len(front.config.mapping) == RING - 1


def test_the_frontend_is_notified_when_it_asked_and_only_then() -> None:
    front = RawFrontend()
    front.connect()
    front.request(GET_SIZE)
    front.push()
    assert front.events == 1
    front.ring.sring.rsp_event = front.ring.rsp_cons + 100
    front.request(GET_SIZE)
    front.push()
    assert (front.events, len(front.responses())) == (1, 2)


def test_a_request_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    front = RawFrontend()
    back = front.connect()
    read = type(back.ring.sring).copy_slot
    times: list[int] = []

    def read_and_rewrite(sring: object, index: int) -> bytes:
        raw = read(sring, index)  # type: ignore[arg-type]
        times.append(index)
        front.ring.sring.write_slot(index, CTRL_REQUEST.pack(99, SET_SIZE, 5, 0, 0))
        return raw

    front.request(SET_ALGORITHM, 1, ident=3)
    with monkeypatch.context() as patch:
        patch.setattr(type(back.ring.sring), "copy_slot", read_and_rewrite)
        front.push()
    assert times == [0]
    assert front.responses() == [(3, SET_ALGORITHM, SUCCESS, 0)]
    assert (front.config.algorithm, front.config.mapping) == (1, [])


@pytest.mark.parametrize("ahead", [RING + 1, 5000, 2**31, 2**32 - 1])
def test_f1_a_req_prod_that_cannot_be_ends_the_ring(ahead: int) -> None:
    front = RawFrontend(start=77)
    front.connect()
    front.ring.sring.req_prod = 77 + ahead
    front.notify()
    (error,) = front.fatal
    assert (error.rule, error.ring, error.index) == ("F1", "ctrl", 77)
    assert error.raw == ((77 + ahead) % 2**32,)
    front.ring.sring.req_prod = 78
    front.notify()
    assert front.ring.sring.rsp_prod == 77
    assert len(front.fatal) == 1


@pytest.mark.parametrize("late", [True, False])
def test_f19_events_without_requests_delay_the_next_ones(late: bool) -> None:
    front = RawFrontend()
    front.options["late_eoi"] = late
    front.connect()
    for _ in range(10):
        front.notify()
    # That of the bind is forgiven, the next delays the others.
    assert front.counters.spurious == (2 if late else 11)
    front.request(GET_SIZE, ident=5)
    front.push()
    assert len(front.responses()) == (0 if late else 1)
    front.site.machine.advance(JIFFY)
    front.site.run()
    assert front.ring.sring.rsp_prod == 1
    assert front.counters.jiffies_eoi_delayed == int(late)


def test_f22_more_than_a_ring_of_requests_at_connect_is_refused() -> None:
    front = RawFrontend()
    front.ring.sring.req_prod = RING + 1
    with pytest.raises(RingOverflowError, match="ctrl ring: req_prod 129"):
        front.connect()
    assert host_holds(front) == (0, 0, 0)


@pytest.mark.parametrize("key", ["ring_ref", "event_channel"])
def test_f21_a_bad_reference_or_port_leaves_nothing_held(key: str) -> None:
    front = RawFrontend()
    with pytest.raises(HypercallError):
        front.connect(**{key: 1999})
    assert host_holds(front) == (0, 0, 0)


def host_holds(front: RawFrontend) -> tuple[int, int, int]:
    frames = sum(frame.owner == 0 for frame in front.site.machine.frames.values())
    return len(front.site.host.mappings), len(front.site.host.ports), frames


def test_disconnecting_forgets_what_was_configured_and_serves_nothing_more() -> None:
    front = RawFrontend()
    back = front.connect()
    front.request(SET_ALGORITHM, 1)
    front.push()
    assert front.config.algorithm == 1
    front.request(SET_ALGORITHM, 1)
    front.publish()
    front.site.machine.queue.popleft()()  # the event comes; what it asks for is still to be done
    assert front.site.machine.queue
    back.disconnect()
    back.disconnect()
    front.site.run()
    assert front.config.algorithm == 0
    assert len(front.responses()) == 1
    assert host_holds(front) == (0, 0, 0)


def test_a_frontend_that_always_has_another_request_does_not_keep_the_backend_for_ever() -> None:
    front = RawFrontend()
    back = front.connect()
    serve = back._serve
    served: list[int] = []

    def serve_and_ask_again() -> None:
        serve()
        served.append(1)
        front.ring.rsp_cons += 1
        front.request(GET_SIZE)
        front.ring.push_requests()

    back._serve = serve_and_ask_again  # type: ignore[method-assign]
    for _ in range(RING):
        front.request(GET_SIZE)
    front.ring.push_requests()
    assert back.poll()  # there is more, for which the run loop is asked
    assert len(served) == RING


def test_both_ends_on_any_site_leave_nothing(site: Site) -> None:
    before = site.held()
    ends = Ends(site, static_grefs=8)
    for i in range(300):
        assert ends.request(SET_SIZE, i % 100) == (SUCCESS, 0)
    assert ends.ask(ends.client.set_hash_key, b"k" * 40).ok
    ends.close()
    assert site.held() == before == []


@settings(max_examples=examples(225), deadline=None)
@given(st.data())
def test_any_bytes_are_answered_and_nothing_leaks(data: st.DataObject) -> None:
    start = data.draw(st.sampled_from([0, 2**31 - 3, 2**32 - 3]) | st.integers(0, 2**32 - 1))
    front = RawFrontend(start=start, queues=2, static_grefs=data.draw(st.sampled_from([0, 5])))
    guest = front.site.guest
    pages = guest.alloc_pages(3)
    grefs = [guest.grants.grant_access(0, pages.first + i, readonly=i == 2) for i in range(3)]
    frames = len(front.site.machine.frames)
    for i in range(3):
        for at in range(0, 64, 8):
            ref = data.draw(st.sampled_from([*grefs, 0, 1, 3]))
            flags = data.draw(st.sampled_from([0, 0, 1, 4]))
            pages.u8[4096 * i + at : 4096 * i + at + 8] = GREF.pack(ref, flags, 7)
    front.connect()
    number = st.sampled_from(
        [*grefs, 0, 1, 2, 3, 4, 40, 41, 128, 129, 512, 513, 2**31, 2**32 - 1]
    ) | st.integers(0, 2**32 - 1)
    likely = st.builds(
        CTRL_REQUEST.pack, st.integers(0, 65535), st.integers(0, 11), number, number, number
    )
    posted = data.draw(
        st.lists(likely | st.binary(min_size=16, max_size=16), min_size=1, max_size=60)
    )
    for at in range(0, len(posted), 17):
        part = posted[at : at + 17]
        for raw in part:
            front.put(raw)
        front.push()
        answered = front.responses()
        assert [row[:2] for row in answered] == [CTRL_REQUEST.unpack_from(r)[:2] for r in part]
        assert all(status in (0, 1, 2, 3) for _, _, status, _ in answered)
    assert front.fatal == []
    assert all(queue < 2 for queue in front.config.mapping)
    assert len(front.config.mapping) <= 128
    front.back.disconnect()
    assert host_holds(front) == (0, 0, 0)
    assert len(front.site.machine.frames) == frames
    assert all(guest.grants.end_access(gref) for gref in grefs)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, RING + 2))
def test_a_damaged_ring_page_never_raises(seed: int, start: int, ahead: int) -> None:
    front, random = RawFrontend(start=start, static_grefs=2), Random(seed)
    back = front.connect()
    front.ring.sring.u8[64:] = random.randbytes(4096 - 64)
    front.ring.sring.req_prod = start + ahead
    front.ring.sring.rsp_event = random.getrandbits(32)
    front.notify()
    served = (front.ring.sring.rsp_prod - start) % 2**32
    assert (served, len(front.fatal)) == ((ahead, 0) if ahead <= RING else (0, 1))
    back.disconnect()
    assert host_holds(front) == (0, 0, 0)
