"""struct netif_extra_info: kernels read and write what the Construct definitions say."""

from __future__ import annotations

from array import array
from struct import pack, unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xennet.abi.codec import Codec
from xennet.abi.netif import (
    _XEN_NETIF_CTRL_HASH_TYPE_IPV4,
    _XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP,
    EXTRA_GSO,
    EXTRA_HASH,
    EXTRA_MCAST,
    EXTRA_XDP,
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_HASH,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
    XEN_NETIF_EXTRA_TYPE_MCAST_DEL,
    XEN_NETIF_EXTRA_TYPE_XDP,
)
from xennet.vif.extra import (
    MORE_EXTRAS,
    extra_type,
    gso_of,
    hash_from_backend,
    hash_from_frontend,
    headroom_of,
    mac_of,
    put_gso,
    put_hash,
    put_mcast,
    put_xdp,
)

AT = 3
octet = st.integers(0, 0xFF)
half = st.integers(0, 0xFFFF)
word = st.integers(0, 0xFFFF_FFFF)
more = st.sampled_from([0, 1, 0x100])


def slots() -> array[int]:
    """Words of memory that something else was in."""
    return array("I", (0xEEEE_EEEE for _ in range(8)))


def written(codec: Codec, memory: array[int]) -> tuple[object, ...]:
    """The fields of the slot at word AT; nothing around it was touched."""
    assert [*memory[:AT], *memory[AT + 2 :]] == [0xEEEE_EEEE] * (len(memory) - 2)
    return tuple(codec.unpack_from(memory[AT : AT + 2].tobytes()))


def loaded(codec: Codec, *values: object) -> tuple[int, int]:
    """Both words of a slot with these fields."""
    word0, word1 = unpack("<II", codec.pack(*values))
    return word0, word1


def more_flag(behind: int) -> int:
    return XEN_NETIF_EXTRA_FLAG_MORE if behind else 0


@given(octet, octet, half, word)
def test_type_and_more_are_the_first_two_bytes(
    kind: int, flags: int, rest0: int, rest1: int
) -> None:
    word0, _ = unpack("<II", pack("<BBHI", kind, flags, rest0, rest1))
    assert extra_type(word0) == (kind if kind <= XEN_NETIF_EXTRA_TYPE_XDP else 0)
    assert bool(word0 & MORE_EXTRAS) == bool(flags & XEN_NETIF_EXTRA_FLAG_MORE)


@given(half, octet, octet, half)
def test_gso_is_read(size: int, gso_type: int, pad: int, features: int) -> None:
    words = loaded(EXTRA_GSO, XEN_NETIF_EXTRA_TYPE_GSO, 0, size, gso_type, pad, features)
    assert gso_of(*words) == (size, gso_type)


@given(more, half, octet)
def test_gso_is_written(behind: int, size: int, gso_type: int) -> None:
    memory = slots()
    put_gso(memory, AT, behind, size, gso_type)
    expected = (XEN_NETIF_EXTRA_TYPE_GSO, more_flag(behind), size, gso_type, 0, 0)
    assert written(EXTRA_GSO, memory) == expected


@given(octet, octet, st.binary(min_size=4, max_size=4))
def test_which_hash_counts_depends_on_who_sends_it(kind: int, algorithm: int, value: bytes) -> None:
    word0, word1 = loaded(EXTRA_HASH, XEN_NETIF_EXTRA_TYPE_HASH, 0, kind, algorithm, value)
    known = kind <= _XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP
    info = algorithm << 8 | kind + 1
    assert hash_from_frontend(word0) == (info if known else 0)
    assert hash_from_backend(word0) == (info if known and algorithm else 0)
    assert word1 == int.from_bytes(value, "little")


@pytest.mark.parametrize("algorithm", [0, 1, 0xFF])
def test_a_backend_does_not_look_at_the_algorithm_and_a_frontend_does(algorithm: int) -> None:
    kind = _XEN_NETIF_CTRL_HASH_TYPE_IPV4
    word0, _ = loaded(EXTRA_HASH, XEN_NETIF_EXTRA_TYPE_HASH, 0, kind, algorithm, bytes(4))
    assert hash_from_frontend(word0) == algorithm << 8 | 1
    assert bool(hash_from_backend(word0)) == bool(algorithm)


@given(more, st.integers(0, _XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP), octet, word)
def test_a_hash_is_written(behind: int, kind: int, algorithm: int, value: int) -> None:
    memory = slots()
    put_hash(memory, AT, behind, algorithm << 8 | kind + 1, value)
    octets = value.to_bytes(4, "little")
    expected = (XEN_NETIF_EXTRA_TYPE_HASH, more_flag(behind), kind, algorithm, octets)
    assert written(EXTRA_HASH, memory) == expected


@given(more, half)
def test_a_headroom_is_written_and_read(behind: int, headroom: int) -> None:
    memory = slots()
    put_xdp(memory, AT, behind, headroom)
    assert headroom_of(memory[AT]) == headroom
    fields = written(EXTRA_XDP, memory)
    assert fields[:3] == (XEN_NETIF_EXTRA_TYPE_XDP, more_flag(behind), headroom)
    assert memory[AT + 1] == 0


@given(
    st.sampled_from([XEN_NETIF_EXTRA_TYPE_MCAST_ADD, XEN_NETIF_EXTRA_TYPE_MCAST_DEL]),
    st.binary(min_size=6, max_size=6),
)
def test_an_address_is_written_and_read_first_octet_first(kind: int, address: bytes) -> None:
    memory = slots()
    put_mcast(memory, AT, kind, int.from_bytes(address, "big"))
    assert written(EXTRA_MCAST, memory)[:2] == (kind, 0)
    assert memory[AT : AT + 2].tobytes()[2:] == address
    assert mac_of(memory[AT], memory[AT + 1]) == int.from_bytes(address, "big")
