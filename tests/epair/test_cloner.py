"""Epairs are made and destroyed by name (if_epair.c: match, create, destroy)."""

from __future__ import annotations

import sys
from errno import EEXIST, EINVAL, ENOSPC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xennet.epair.cloner import CloneError, Cloner, jenkins_hash32, pair_macs
from xennet.epair.driver import NetisrDriver
from xennet.ifnet import DrvFlags, Flags, Interfaces, LinkState
from xennet.runloop import RunLoop


def cloner(**options: object) -> Cloner:
    return Cloner(Interfaces(), NetisrDriver(RunLoop()), **options)  # type: ignore[arg-type]


def refused(made_by: Cloner, name: str) -> int:
    with pytest.raises(CloneError) as error:
        made_by.create(name)
    return error.value.errno or 0


@pytest.mark.parametrize(
    ("name", "matches"),
    [
        ("epair", True),
        ("epair0", True),
        ("epair12", True),
        ("epair0a", False),
        ("epair0b", False),
        ("epai", False),
        ("epair-1", False),
        ("tap0", False),
    ],
)
def test_the_cloner_takes_epair_and_epair_with_digits(name: str, matches: bool) -> None:
    assert cloner().match(name) is matches


def test_units_are_the_lowest_that_are_free() -> None:
    made_by = cloner()
    assert [made_by.create().unit for _ in range(3)] == [0, 1, 2]
    made_by.destroy(made_by.interfaces["epair1a"])
    assert made_by.create().a.name == "epair1a"
    assert made_by.create("epair7").b.name == "epair7b"


def test_both_sides_run_with_the_link_up_and_are_not_brought_up() -> None:
    pair = cloner().create()
    for side, name in ((pair.a, "epair0a"), (pair.b, "epair0b")):
        assert side.name == name
        assert side.drv_flags == DrvFlags.RUNNING
        assert side.flags == Flags.BROADCAST | Flags.SIMPLEX | Flags.MULTICAST
        assert side.link_state is LinkState.UP
        assert side.baudrate == 10**10
        assert side.send_limit == 50


def test_a_taken_unit_is_eexist() -> None:
    made_by = cloner()
    made_by.create("epair3")
    assert refused(made_by, "epair3") == EEXIST


@pytest.mark.parametrize("letter", "ab")
@pytest.mark.parametrize(("leaks", "left"), [(True, {5}), (False, set())])
def test_an_interface_that_is_there_is_eexist_and_the_seed_loses_the_unit(
    letter: str, leaks: bool, left: set[int]
) -> None:
    made_by = cloner(leaks_units=leaks)
    made_by.interfaces.add(f"epair5{letter}")
    assert refused(made_by, "epair5") == EEXIST
    assert made_by.units == left


def test_a_name_without_place_for_the_letter_is_enospc_and_gives_the_unit_back() -> None:
    made_by = cloner()
    # Ten digits and five letters fill the 15 characters of a name.
    made_by.units = set()
    assert refused(made_by, "epair0123456789") == EINVAL  # a unit with a 0 in front
    assert refused(made_by, "epair99999") == EINVAL  # no such unit
    assert made_by.units == set()


def test_a_name_that_is_not_the_cloners_is_einval() -> None:
    assert refused(cloner(), "epair0a") == EINVAL


def test_there_is_an_end_of_units() -> None:
    made_by = cloner()
    made_by.units = set(range(0x8000))
    assert refused(made_by, "epair") == ENOSPC


@pytest.mark.skipif(sys.byteorder != "little", reason="the vector is one of a little endian host")
def test_the_address_is_a_hash_of_index_and_hostid() -> None:
    assert jenkins_hash32((1, 0xDEADBEEF, 0x12345678), 0) == 0x77B7BE7E
    a, b = pair_macs(1, 0x12345678_DEADBEEF)
    assert (a.hex(":"), b.hex(":")) == ("02:7e:be:b7:77:0a", "02:7e:be:b7:77:0b")


def test_addresses_differ_although_indices_are_used_again() -> None:
    made_by = cloner(hostid=1)
    first = made_by.create()
    macs = {first.a.mac, first.b.mac}
    made_by.destroy(first.a)
    again = made_by.create()
    assert again.a.index == first.a.index
    assert not {again.a.mac, again.b.mac} & macs


def test_a_hostid_of_0_is_random_bits_for_each_pair() -> None:
    bits = iter((5, 6))
    made_by = cloner(random_bits=lambda: next(bits))
    assert [made_by.create().a.mac for _ in range(2)] == [pair_macs(1, 5)[0], pair_macs(3, 6)[0]]


def test_either_side_destroys_the_pair_once() -> None:
    made_by = cloner()
    pair = made_by.create()
    made_by.destroy(pair.b)
    assert list(made_by.interfaces) == []
    assert made_by.units == set()
    assert [side.link_state for side in (pair.a, pair.b)] == [LinkState.DOWN] * 2
    assert not pair.a.running
    made_by.destroy(pair.a)
    other = made_by.create()
    made_by.destroy(pair.a)  # of the one that is gone
    assert other.a.name in made_by.interfaces


def reference(key: list[int], init: int) -> int:
    """lookup3's hashword, step by step as its author wrote it."""
    mask = 0xFFFFFFFF

    def rot(x: int, k: int) -> int:
        return (x << k | x >> (32 - k)) & mask

    a = b = c = (0xDEADBEEF + (len(key) << 2) + init) & mask
    k = list(key)
    while len(k) > 3:
        a, b, c = (a + k[0]) & mask, (b + k[1]) & mask, (c + k[2]) & mask
        a = (a - c & mask) ^ rot(c, 4)
        c = (c + b) & mask
        b = (b - a & mask) ^ rot(a, 6)
        a = (a + c) & mask
        c = (c - b & mask) ^ rot(b, 8)
        b = (b + a) & mask
        a = (a - c & mask) ^ rot(c, 16)
        c = (c + b) & mask
        b = (b - a & mask) ^ rot(a, 19)
        a = (a + c) & mask
        c = (c - b & mask) ^ rot(b, 4)
        b = (b + a) & mask
        k = k[3:]
    if not k:
        return c
    k += [0] * (3 - len(k))
    a, b, c = (a + k[0]) & mask, (b + k[1]) & mask, (c + k[2]) & mask
    c = (c ^ b) - rot(b, 14) & mask
    a = (a ^ c) - rot(c, 11) & mask
    b = (b ^ a) - rot(a, 25) & mask
    c = (c ^ b) - rot(b, 16) & mask
    a = (a ^ c) - rot(c, 4) & mask
    b = (b ^ a) - rot(a, 14) & mask
    return (c ^ b) - rot(b, 24) & mask


@given(st.lists(st.integers(0, 0xFFFFFFFF), max_size=12), st.integers(0, 0xFFFFFFFF))
def test_the_hash_of_any_words_is_lookup3s(words: list[int], init: int) -> None:
    assert jenkins_hash32(tuple(words), init) == reference(words, init)
