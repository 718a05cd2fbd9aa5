"""The peaks of what quotas limit, held together with the highest of all values that were seen."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from xennet.xenstore.peaks import Peaks

LIMITS = st.sampled_from(["nodes", "memory"])
VALUES = st.integers(0, 5)
DOMAINS = st.sampled_from([0, 5, 6])

steps_ = st.lists(
    st.one_of(
        st.tuples(st.just("saw"), DOMAINS, LIMITS, VALUES),
        st.tuples(st.just("forget"), DOMAINS),
        st.tuples(
            st.just("reset"), st.dictionaries(DOMAINS, st.dictionaries(LIMITS, VALUES, min_size=1))
        ),
    ),
    max_size=40,
)


@given(steps_)
def test_peaks_are_the_highest_values_since_they_were_forgotten_or_reset(
    steps: list[tuple[Any, ...]],
) -> None:
    peaks = Peaks(frozenset({0}))
    own: dict[int, dict[str, int]] = {0: {}, 5: {}, 6: {}}
    guests: dict[str, int] = {}
    for what, *arguments in steps:
        getattr(peaks, what)(*arguments)
        if what == "saw":
            domid, limit, value = arguments
            for each in (own[domid], guests) if domid else (own[domid],):
                each[limit] = max(value, each.get(limit, 0))
        elif what == "forget":
            own[arguments[0]] = {}
        else:
            guests = {}
            own = {domid: dict(arguments[0].get(domid, {})) for domid in own}
        for domid, values in own.items():
            for limit in ("nodes", "memory"):
                assert peaks.of(domid).get(limit, 0) == values.get(limit, 0)
        assert all(peaks.guests.get(each, 0) == guests.get(each, 0) for each in ("nodes", "memory"))
