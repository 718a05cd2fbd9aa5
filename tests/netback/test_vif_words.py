"""The multicast list that the queues of a vif share, against a plain list."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.netback.vif_words import (
    MCAST_MAX,
    W_MCAST,
    W_MCAST_COUNT,
    mcast_add,
    mcast_del,
    mcast_match,
    new_vif_words,
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("aaad"), st.integers(0, 5)), max_size=200),
)
def test_the_list_is_a_list_of_64_that_keeps_duplicates(steps: list[tuple[str, int]]) -> None:
    words, model = new_vif_words(), []
    for step, mac in steps:
        if step == "a":
            assert mcast_add(words, mac) == (len(model) < MCAST_MAX)
            model += [mac] if len(model) < MCAST_MAX else []
        else:
            mcast_del(words, mac)
            if mac in model:
                model.remove(mac)
        assert list(words[W_MCAST : W_MCAST + words[W_MCAST_COUNT]]) == model
        for other in range(6):
            assert mcast_match(words, other) == (other in model)


def test_an_address_that_was_added_twice_is_there_until_it_is_deleted_twice() -> None:
    words = new_vif_words()
    assert mcast_add(words, 7)
    assert mcast_add(words, 7)
    mcast_del(words, 7)
    assert mcast_match(words, 7)
    mcast_del(words, 7)
    assert not mcast_match(words, 7)
