"""Every message of the control ring with every status it can have; both ends, on each site."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import pytest
from control_sites import INVALID_PARAMETER, NOT_SUPPORTED, SUCCESS, Ends, Site

from xennet.abi import netif
from xennet.abi.netif import GREF

ALL_TYPES = 15
GET_FLAGS = netif.XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS
SET_FLAGS = netif.XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS
SET_KEY = netif.XEN_NETIF_CTRL_TYPE_SET_HASH_KEY
GET_SIZE = netif.XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE
SET_SIZE = netif.XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE
SET_MAPPING = netif.XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING
SET_ALGORITHM = netif.XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM
GET_GREFS = netif.XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE
ADD_GREFS = netif.XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING
DEL_GREFS = netif.XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING

NO_SUCH_GREF = 1999


@pytest.fixture
def ends(site: Site) -> Iterator[Ends]:
    ends = Ends(site)
    yield ends
    ends.back.disconnect()
    assert (ends.broken, ends.fatal) == ([], [])


def words(*numbers: int) -> bytes:
    return array("I", numbers).tobytes()


# Algorithm and types


def test_set_hash_algorithm(ends: Ends) -> None:
    assert ends.ask(ends.client.set_hash_algorithm, 1).ok
    assert ends.config.algorithm == 1
    assert ends.request(SET_ALGORITHM, 2) == (INVALID_PARAMETER, 0)
    assert ends.config.algorithm == 1
    assert ends.request(SET_ALGORITHM, 0) == (SUCCESS, 0)
    assert ends.config.algorithm == 0


def test_hash_flags_need_an_algorithm(ends: Ends) -> None:
    assert ends.request(GET_FLAGS) == (NOT_SUPPORTED, 0)
    assert ends.request(SET_FLAGS, 1) == (INVALID_PARAMETER, 0)
    ends.request(SET_ALGORITHM, 1)
    assert ends.request(GET_FLAGS) == (SUCCESS, ALL_TYPES)
    assert ends.ask(ends.client.set_hash_flags, 5).ok
    assert ends.config.types == 5


def test_hash_flags_that_do_not_exist_are_invalid(ends: Ends) -> None:
    ends.request(SET_ALGORITHM, 1)
    assert ends.request(SET_FLAGS, 16) == (INVALID_PARAMETER, 0)
    assert ends.config.types == 0


# Key


@pytest.mark.parametrize("size", [0, 1, 39, 40])
def test_set_hash_key(ends: Ends, size: int) -> None:
    ends.ask(ends.client.set_hash_key, b"\xff" * 40)
    key = bytes(range(1, size + 1))
    assert ends.ask(ends.client.set_hash_key, key).ok
    assert ends.config.key == key.ljust(40, b"\0")


def test_a_key_may_lie_in_a_read_only_page(ends: Ends) -> None:
    assert ends.request(SET_KEY, ends.page(b"key", readonly=True), 3) == (SUCCESS, 0)
    assert ends.config.key[:4] == b"key\0"


def test_a_key_of_length_zero_clears_without_looking_at_the_reference(ends: Ends) -> None:
    ends.ask(ends.client.set_hash_key, b"key")
    assert ends.request(SET_KEY, NO_SUCH_GREF, 0) == (SUCCESS, 0)
    assert ends.config.key == bytes(40)


@pytest.mark.parametrize("size", [41, 4096, 4097, 2**32 - 1])
def test_f24_a_key_that_is_too_long_is_invalid_and_the_old_one_stays(ends: Ends, size: int) -> None:
    ends.ask(ends.client.set_hash_key, b"key")
    assert ends.request(SET_KEY, ends.page(b"other"), size) == (INVALID_PARAMETER, 0)
    assert ends.config.key[:3] == b"key"


@pytest.mark.parametrize("gref", [0, NO_SUCH_GREF, 2**32 - 1])
def test_f24_a_key_behind_a_bad_reference_is_invalid_and_the_old_one_stays(
    ends: Ends, gref: int
) -> None:
    ends.ask(ends.client.set_hash_key, b"key")
    assert ends.request(SET_KEY, gref, 8) == (INVALID_PARAMETER, 0)
    assert ends.config.key[:3] == b"key"


# Mapping


def test_get_hash_mapping_size_is_the_largest_there_may_be(ends: Ends) -> None:
    assert ends.request(GET_SIZE) == (SUCCESS, 128)
    ends.request(SET_SIZE, 5)
    assert ends.request(GET_SIZE) == (SUCCESS, 128)


@pytest.mark.parametrize("size", [0, 1, 100, 128])
def test_set_hash_mapping_size(ends: Ends, size: int) -> None:
    assert ends.ask(ends.client.set_hash_mapping_size, size).ok
    assert ends.config.mapping == [0] * size


@pytest.mark.parametrize("size", [129, 2**32 - 1])
def test_a_mapping_size_above_128_is_invalid(ends: Ends, size: int) -> None:
    ends.request(SET_SIZE, 3)
    assert ends.request(SET_SIZE, size) == (INVALID_PARAMETER, 0)
    assert ends.config.mapping == [0] * 3


def test_set_hash_mapping_in_parts(ends: Ends) -> None:
    ends.request(SET_SIZE, 6)
    assert ends.ask(ends.client.set_hash_mapping, [3, 2, 1]).ok
    assert ends.ask(ends.client.set_hash_mapping, [2, 2], 4).ok
    assert ends.config.mapping == [3, 2, 1, 0, 2, 2]


def test_a_mapping_of_no_entries_succeeds_without_looking_at_the_reference(ends: Ends) -> None:
    ends.request(SET_SIZE, 2)
    assert ends.request(SET_MAPPING, NO_SUCH_GREF, 0, 2) == (SUCCESS, 0)
    assert ends.request(SET_MAPPING, NO_SUCH_GREF, 0, 3) == (INVALID_PARAMETER, 0)


def test_f24_a_mapping_behind_a_bad_reference_is_invalid(ends: Ends) -> None:
    ends.request(SET_SIZE, 2)
    assert ends.request(SET_MAPPING, NO_SUCH_GREF, 2, 0) == (INVALID_PARAMETER, 0)


@pytest.mark.parametrize(
    ("count", "offset"),
    [(5, 0), (1, 4), (2**32 - 1, 1), (2, 2**32 - 1), (2**32 - 4, 4), (2**30, 0), (2**31, 2**31)],
)
def test_xsa_270_a_range_beyond_the_mapping_is_invalid_also_when_the_sum_wraps(
    ends: Ends, count: int, offset: int
) -> None:
    ends.request(SET_SIZE, 4)
    gref = ends.page(words(*[1] * 1024))
    assert ends.request(SET_MAPPING, gref, count, offset) == (INVALID_PARAMETER, 0)
    assert ends.config.mapping == [0, 0, 0, 0]


@pytest.mark.parametrize("queue", [4, 2**31, 2**32 - 1])
def test_f24_a_mapping_to_a_queue_that_does_not_exist_changes_nothing(
    ends: Ends, queue: int
) -> None:
    ends.request(SET_SIZE, 4)
    ends.request(SET_MAPPING, ends.page(words(3, 3)), 2, 0)
    gref = ends.page(words(1, 1, 1, queue))
    assert ends.request(SET_MAPPING, gref, 4, 0) == (INVALID_PARAMETER, 0)
    assert ends.config.mapping == [3, 3, 0, 0]


def test_f24_a_table_rewritten_after_it_was_copied_is_judged_and_used_as_copied(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends.request(SET_SIZE, 2)
    gref = ends.page(words(1, 2))
    page, copy = ends.last_page, ends.site.host.grant_copy

    def copy_and_rewrite(ops: memoryview, count: int) -> None:
        copy(ops, count)
        page.u8[:8] = words(2**32 - 1, 77)

    monkeypatch.setattr(ends.site.host, "grant_copy", copy_and_rewrite)
    assert ends.request(SET_MAPPING, gref, 2, 0) == (SUCCESS, 0)
    assert ends.config.mapping == [1, 2]


# Types that are not there


@pytest.mark.parametrize("kind", [0, 11, 255, 65535, GET_GREFS, ADD_GREFS, DEL_GREFS])
def test_f24_an_unknown_type_is_not_supported(ends: Ends, kind: int) -> None:
    assert ends.request(kind, 0, NO_SUCH_GREF, 1) == (NOT_SUPPORTED, 0)


# Static grants


@pytest.fixture
def static(site: Site) -> Iterator[Ends]:
    ends = Ends(site, queues=2, static_grefs=3)
    yield ends
    ends.back.disconnect()
    assert (ends.broken, ends.fatal) == ([], [])


def in_use(ends: Ends, gref: int) -> bool:
    grants = ends.site.guest.grants
    return bool(grants.status[gref << grants.status_shift] & 0x18)


def test_get_gref_mapping_size(static: Ends) -> None:
    assert static.request(GET_GREFS, 1) == (SUCCESS, 3)
    assert static.request(GET_GREFS, 2) == (INVALID_PARAMETER, 0)


def test_added_grants_are_mapped_and_deleted_ones_are_not(static: Ends) -> None:
    grefs = [static.page(), static.page()]
    assert static.ask(static.client.add_gref_mapping, 1, grefs).ok
    assert [in_use(static, gref) for gref in grefs] == [True, True]
    assert [mappings.grefs for mappings in static.back.mappings] == [(), tuple(grefs)]
    reply = static.ask(static.client.del_gref_mapping, 1, grefs)
    assert (reply.status, reply.data, reply.gref_statuses) == (SUCCESS, 2, [SUCCESS, SUCCESS])
    assert [in_use(static, gref) for gref in grefs] == [False, False]


def test_a_read_only_grant_is_mapped_when_the_flag_says_so(static: Ends) -> None:
    gref = static.page(readonly=True)
    assert static.ask(static.client.add_gref_mapping, 0, [gref]).status == INVALID_PARAMETER
    assert static.ask(static.client.add_gref_mapping, 0, [gref], readonly=True).ok
    assert in_use(static, gref)


def test_one_bad_reference_and_no_grant_of_the_list_is_added(static: Ends) -> None:
    good = static.page()
    reply = static.ask(static.client.add_gref_mapping, 0, [good, NO_SUCH_GREF])
    assert reply.status == INVALID_PARAMETER
    assert not in_use(static, good)
    assert static.back.mappings[0].grefs == ()


def test_a_grant_named_twice_or_mapped_already_refuses_the_list(static: Ends) -> None:
    one, two = static.page(), static.page()
    assert static.ask(static.client.add_gref_mapping, 0, [one, one]).status == INVALID_PARAMETER
    assert static.ask(static.client.add_gref_mapping, 0, [one]).ok
    assert static.ask(static.client.add_gref_mapping, 0, [two, one]).status == INVALID_PARAMETER
    assert static.back.mappings[0].grefs == (one,)
    assert not in_use(static, two)


def test_more_grants_than_the_backend_keeps_are_refused(static: Ends) -> None:
    grefs = [static.page() for _ in range(4)]
    assert static.ask(static.client.add_gref_mapping, 0, grefs).status == INVALID_PARAMETER
    assert static.ask(static.client.add_gref_mapping, 0, grefs[:3]).ok
    assert static.ask(static.client.add_gref_mapping, 0, grefs[3:]).status == INVALID_PARAMETER
    assert static.ask(static.client.add_gref_mapping, 1, grefs[3:]).ok


def test_flags_that_do_not_exist_refuse_the_list(static: Ends) -> None:
    gref = static.page(GREF.pack(static.page(), 2, 0))
    assert static.request(ADD_GREFS, 0, gref, 1) == (INVALID_PARAMETER, 0)


@pytest.mark.parametrize("kind", [ADD_GREFS, DEL_GREFS])
@pytest.mark.parametrize("count", [513, 2**29, 2**29 + 1, 2**32 - 1])
def test_f24_a_mapping_list_longer_than_a_page_is_invalid(
    static: Ends, kind: int, count: int
) -> None:
    gref = static.page(GREF.pack(static.page(), 0, 0))
    assert static.request(kind, 0, gref, count) == (INVALID_PARAMETER, 0)


@pytest.mark.parametrize("kind", [ADD_GREFS, DEL_GREFS])
def test_f24_a_mapping_list_of_a_bad_queue_or_reference_is_invalid(static: Ends, kind: int) -> None:
    gref = static.page(GREF.pack(static.page(), 0, 0))
    assert static.request(kind, 2, gref, 1) == (INVALID_PARAMETER, 0)
    assert static.request(kind, 0, NO_SUCH_GREF, 1) == (INVALID_PARAMETER, 0)


def test_the_list_of_what_is_added_may_be_read_only_and_is_not_written(static: Ends) -> None:
    entry = GREF.pack(static.page(), 0, 0xBEEF)
    gref = static.page(entry, readonly=True)
    assert static.request(ADD_GREFS, 0, gref, 1) == (SUCCESS, 0)
    assert bytes(static.last_page.u8[:8]) == entry


def test_only_entries_that_were_added_are_deleted_and_the_others_say_so(static: Ends) -> None:
    one, two, other = static.page(), static.page(), static.page()
    static.ask(static.client.add_gref_mapping, 0, [one, two])
    reply = static.ask(static.client.del_gref_mapping, 0, [other, one, one])
    assert (reply.status, reply.data) == (SUCCESS, 1)
    assert reply.gref_statuses == [INVALID_PARAMETER, SUCCESS, INVALID_PARAMETER]
    assert static.back.mappings[0].grefs == (two,)


def test_a_list_whose_statuses_cannot_be_written_deletes_nothing(static: Ends) -> None:
    one = static.page()
    static.ask(static.client.add_gref_mapping, 0, [one])
    gref = static.page(GREF.pack(one, 0, 0), readonly=True)
    assert static.request(DEL_GREFS, 0, gref, 1) == (INVALID_PARAMETER, 0)
    assert static.back.mappings[0].grefs == (one,)
    assert in_use(static, one)


def test_an_empty_list_succeeds(static: Ends) -> None:
    assert static.request(ADD_GREFS, 0, NO_SUCH_GREF, 0) == (SUCCESS, 0)
    assert static.request(DEL_GREFS, 0, NO_SUCH_GREF, 0) == (SUCCESS, 0)


def test_disconnecting_unmaps_what_was_added(static: Ends) -> None:
    grefs = [static.page(), static.page()]
    static.ask(static.client.add_gref_mapping, 0, grefs)
    static.back.disconnect()
    assert [in_use(static, gref) for gref in grefs] == [False, False]
