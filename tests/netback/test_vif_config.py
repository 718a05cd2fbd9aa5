"""The multicast list that the queues of a vif share, against a plain list."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.netback.vif_config import (
    C_MCAST,
    C_MCAST_COUNT,
    MCAST_MAX,
    mcast_add,
    mcast_del,
    mcast_match,
    new_vif_config,
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("aaad"), st.integers(0, 5)), max_size=200),
)
def test_the_list_is_a_list_of_64_that_keeps_duplicates(steps: list[tuple[str, int]]) -> None:
    config, model = new_vif_config(), []
    for step, mac in steps:
        if step == "a":
            assert mcast_add(config, mac) == (len(model) < MCAST_MAX)
            model += [mac] if len(model) < MCAST_MAX else []
        else:
            mcast_del(config, mac)
            if mac in model:
                model.remove(mac)
        assert list(config[C_MCAST : C_MCAST + config[C_MCAST_COUNT]]) == model
        for other in range(6):
            assert mcast_match(config, other) == (other in model)


def test_an_address_that_was_added_twice_is_there_until_it_is_deleted_twice() -> None:
    config = new_vif_config()
    assert mcast_add(config, 7)
    assert mcast_add(config, 7)
    mcast_del(config, 7)
    assert mcast_match(config, 7)
    mcast_del(config, 7)
    assert not mcast_match(config, 7)
