"""The rows themselves: what is in the tables, and that walks only take allowed steps."""

from __future__ import annotations

import pytest

from xennet.abi.xenbus import XenbusState as S
from xennet.xenbus.tables import (
    BACKEND_NEXT,
    BACKEND_ROWS,
    BACKEND_STEPS,
    FRONTEND_ROWS,
    Afterwards,
    BackendAction,
    FrontendAction,
    backend_row,
    backend_walk,
    frontend_action,
)


@pytest.mark.parametrize(
    ("origin", "target", "walk"),
    [
        (1, 2, [2]),
        (1, 4, [2, 4]),
        (1, 5, [2, 5]),
        (1, 6, [6]),
        (2, 4, [4]),
        (2, 5, [5]),
        (2, 6, [5, 6]),
        (4, 2, [5, 6, 2]),
        (4, 5, [5]),
        (4, 6, [5, 6]),
        (5, 2, [6, 2]),
        (5, 4, [6, 2, 4]),
        (5, 6, [6]),
        (6, 2, [2]),
        (6, 4, [2, 4]),
        (6, 5, [5]),
        (4, 4, []),
    ],
)
def test_a_backend_takes_the_shortest_allowed_walk(
    origin: int, target: int, walk: list[int]
) -> None:
    assert backend_walk(S(origin), S(target)) == walk


def test_every_target_of_a_row_can_be_reached_from_every_state_a_backend_can_be_in() -> None:
    reachable = {step.origin for step in BACKEND_STEPS}
    targets = {row.target for row in BACKEND_ROWS if row.target is not None}
    for origin in reachable:
        for target in targets - {origin}:
            assert (origin, target) in BACKEND_NEXT


def test_walks_take_only_allowed_steps() -> None:
    allowed = {(step.origin, step.destination) for step in BACKEND_STEPS}
    for (origin, _target), hop in BACKEND_NEXT.items():
        assert (origin, hop) in allowed
    assert allowed == {(1, 2), (1, 6), (2, 4), (2, 5), (4, 5), (5, 6), (6, 2), (6, 5)}


@pytest.mark.parametrize(
    ("frontend", "action", "target", "afterwards"),
    [
        (0, BackendAction.WALK, S.Closed, Afterwards.REMOVE),
        (1, BackendAction.WALK, S.InitWait, Afterwards.KEEP),
        (3, BackendAction.NOTHING, None, Afterwards.KEEP),
        (4, BackendAction.WALK, S.Connected, Afterwards.KEEP),
        (5, BackendAction.WALK, S.Closing, Afterwards.KEEP),
        (6, BackendAction.WALK, S.Closed, Afterwards.REMOVE_IF_OFFLINE),
        (7, BackendAction.RECONFIGURE, None, Afterwards.KEEP),
        (2, BackendAction.FATAL, None, Afterwards.KEEP),
        (8, BackendAction.FATAL, None, Afterwards.KEEP),
        (9, BackendAction.FATAL, None, Afterwards.KEEP),
        (-1, BackendAction.FATAL, None, Afterwards.KEEP),
    ],
)
def test_a_backend_answers_a_frontend_state(
    frontend: int, action: BackendAction, target: S | None, afterwards: Afterwards
) -> None:
    row = backend_row(frontend)
    assert (row.action, row.target, row.afterwards) == (action, target, afterwards)


@pytest.mark.parametrize("backend", [0, 1, 3, 7, 8, 9, -1])
@pytest.mark.parametrize("own", list(S))
def test_a_frontend_does_nothing_about_other_backend_states(backend: int, own: S) -> None:
    assert frontend_action(backend, own) is FrontendAction.NOTHING


@pytest.mark.parametrize("own", list(S))
def test_a_frontend_connects_in_initialising_only(own: S) -> None:
    expected = FrontendAction.CONNECT if own is S.Initialising else FrontendAction.NOTHING
    assert frontend_action(S.InitWait, own) is expected


@pytest.mark.parametrize("own", list(S))
def test_a_frontend_announces_on_connected_and_closes_on_closing(own: S) -> None:
    assert frontend_action(S.Connected, own) is FrontendAction.ANNOUNCE
    assert frontend_action(S.Closing, own) is FrontendAction.CLOSE


@pytest.mark.parametrize("own", list(S))
def test_a_frontend_closes_on_closed_unless_it_has(own: S) -> None:
    expected = FrontendAction.NOTHING if own is S.Closed else FrontendAction.CLOSE
    assert frontend_action(S.Closed, own) is expected


def test_every_row_says_why() -> None:
    for row in (*BACKEND_ROWS, *BACKEND_STEPS, *FRONTEND_ROWS):
        assert row.why
