"""Framing of messages, without a store."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xennet.xenstore.wire import (
    Decoder,
    Message,
    ProtocolError,
    decode_text,
    encode,
    encode_error,
    encode_event,
    encode_text,
    strings,
)

words = st.integers(0, 0xFFFFFFFF)
messages = st.lists(st.builds(Message, words, words, words, st.binary(max_size=60)), max_size=8)


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@given(messages, st.lists(st.integers(0, 1000), max_size=12))
def test_any_split_of_a_stream_gives_the_same_messages(
    sent: list[Message], cuts: list[int]
) -> None:
    decoder = Decoder()
    stream = b"".join(encode(*message) for message in sent)
    got = [m for piece in in_pieces(stream, cuts) for m in decoder.feed(piece)]
    assert got == sent
    assert not decoder.waiting


@given(messages)
def test_reading_only_what_is_wanted_completes_one_message_at_a_time(sent: list[Message]) -> None:
    decoder = Decoder()
    stream = b"".join(encode(*message) for message in sent)
    got = []
    while stream:
        size = decoder.wanted
        assert 0 < size <= 4096
        got += (new := decoder.feed(stream[:size]))
        assert len(new) <= 1
        stream = stream[size:]
    assert got == sent


def test_header_is_four_little_endian_words() -> None:
    assert encode(2, 0x01020304, 5, b"/a\0") == bytes.fromhex(
        "02000000 04030201 05000000 03000000 2f6100"
    )


def test_error_is_the_name_with_a_nul() -> None:
    assert encode_error("ENOENT", 7, 1) == encode(16, 7, 1, b"ENOENT\0")


def test_error_without_a_name_on_the_wire_travels_as_einval() -> None:
    assert encode_error("EBADF", 0, 0) == encode(16, 0, 0, b"EINVAL\0")


def test_event_belongs_to_no_request() -> None:
    assert encode_event("/w", "t") == encode(15, 0, 0, b"/w\0t\0")


def test_longest_payload_is_4096_bytes() -> None:
    assert Decoder().feed(encode(2, 0, 0, b"x" * 4096)) == [Message(2, 0, 0, b"x" * 4096)]
    with pytest.raises(ValueError, match="4097"):
        encode(2, 0, 0, b"x" * 4097)


def test_longer_payload_is_refused_at_the_header_after_what_came_before() -> None:
    decoder = Decoder()
    bad = bytes.fromhex("02000000 09000000 00000000 01100000")
    with pytest.raises(ProtocolError, match="req_id 9 says len 4097") as caught:
        decoder.feed(encode(2, 1, 0, b"/\0") + bad)
    assert caught.value.messages == [Message(2, 1, 0, b"/\0")]
    with pytest.raises(ProtocolError) as again:
        decoder.feed(b"more")
    assert again.value.messages == []


def test_header_of_15_bytes_is_not_judged_yet() -> None:
    assert Decoder().feed(b"\xff" * 15) == []


@given(st.binary(max_size=40))
def test_text_survives_whatever_its_bytes_are(data: bytes) -> None:
    assert encode_text(decode_text(data)) == data


def test_strings_ignores_what_follows_the_last_nul() -> None:
    assert strings(b"a\0\0b\0junk") == ["a", "", "b"]
    assert strings(b"junk") == []
