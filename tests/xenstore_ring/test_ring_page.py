"""The page as two byte streams with free-running indices."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ring_domains import CONNECTION, ERROR, REQ_CONS, REQ_PROD, RSP_CONS, SERVER_FEATURES
from ring_domains import blank_page as new_page

from xennet.xenstore.ring_page import RingIndexError, RingPage

INDEX = st.integers(0, (1 << 32) - 1)


def ring_at(index: int) -> tuple[RingPage, memoryview]:
    pages = new_page()
    pages.u32[REQ_CONS] = pages.u32[REQ_PROD] = index
    return RingPage.over(pages), pages.u32


def test_fields_lie_where_the_header_says() -> None:
    pages = new_page()
    page = RingPage.over(pages)
    page.server_features, page.connection, page.error = 3, 1, 2
    assert [pages.u32[i] for i in (SERVER_FEATURES, CONNECTION, ERROR)] == [3, 1, 2]
    page.requests.write(b"ab")
    page.responses.write(b"cde")
    assert bytes(pages.u8[0:2]) == b"ab"
    assert bytes(pages.u8[1024:1027]) == b"cde"
    assert list(pages.u32[REQ_CONS : RSP_CONS + 2]) == [0, 2, 0, 3]


@given(start=INDEX, script=st.lists(st.one_of(st.binary(max_size=1500), st.integers(0, 1500))))
@settings(max_examples=150, deadline=None)
def test_bytes_come_out_as_they_went_in_wherever_the_indices_are(
    start: int, script: list[bytes | int]
) -> None:
    page, u32 = ring_at(start)
    ring, model, passed = page.requests, b"", 0
    for step in script:
        if isinstance(step, bytes):
            room = 1024 - len(model)
            assert ring.room() == room
            assert ring.write(step) == min(room, len(step))
            model += step[:room]
        else:
            assert ring.read(step) == model[:step]
            passed += len(model[:step])
            model = model[step:]
        assert ring.empty == (not model)
        assert ring.full == (len(model) == 1024)
        assert u32[REQ_CONS] == (start + passed) % (1 << 32)
        assert u32[REQ_PROD] == (start + passed + len(model)) % (1 << 32)


def test_data_is_stored_at_the_index_modulo_1024() -> None:
    page, _ = ring_at(0xFFFFFFFE)
    page.requests.write(b"abcd")
    assert page.requests.read() == b"abcd"
    page, u32 = ring_at(0xFFFFFFFE)
    page.requests.write(b"abcd")
    pages = new_page()
    pages.u8[1022:1024], pages.u8[0:2] = b"ab", b"cd"
    pages.u32[REQ_CONS], pages.u32[REQ_PROD] = 0xFFFFFFFE, 2
    assert RingPage.over(pages).requests.read() == b"abcd"
    assert u32[REQ_PROD] == 2


@given(cons=INDEX, distance=st.integers(1025, (1 << 32) - 1))
def test_more_than_1024_bytes_between_the_indices_are_refused_and_nothing_changes(
    cons: int, distance: int
) -> None:
    page, u32 = ring_at(cons)
    prod = u32[REQ_PROD] = (cons + distance) % (1 << 32)
    for use in (page.requests.read, page.requests.room, lambda: page.requests.write(b"x")):
        with pytest.raises(RingIndexError, match=f"= {distance} > 1024"):
            use()
    assert (u32[REQ_CONS], u32[REQ_PROD]) == (cons, prod)
    assert not page.requests.empty
    assert not page.requests.full
