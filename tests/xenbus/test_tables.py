"""The rows themselves: what is in the tables, and that walks only take allowed steps."""

from __future__ import annotations

from collections import Counter

import pytest

from xennet.abi.xenbus import XenbusState as S
from xennet.xenbus.backend_rules import Afterwards, BackendAction
from xennet.xenbus.frontend_rules import FrontendAction as A
from xennet.xenbus.frontend_rules import Phase
from xennet.xenbus.tables import (
    BACKENDS,
    FREEBSD_FRONTEND,
    FRONTENDS,
    LINUX_BACKEND,
    LINUX_FRONTEND,
    WINDOWS_FRONTEND,
    XNB_BACKEND,
    BackendRules,
    FrontendRules,
)

backends = pytest.mark.parametrize("rules", BACKENDS.values(), ids=BACKENDS)
frontends = pytest.mark.parametrize("rules", FRONTENDS.values(), ids=FRONTENDS)


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
    assert LINUX_BACKEND.walk(S(origin), S(target)) == walk


@pytest.mark.parametrize(
    ("origin", "target", "walk"),
    [
        (2, 4, [4]),
        (2, 5, [5]),
        (2, 6, [5, 6]),
        (4, 5, [5]),
        (4, 6, [5, 6]),
        (5, 4, [4]),
        (5, 6, [6]),
        (6, 4, [4]),
    ],
)
def test_xnb_connects_from_closing_and_closed_without_a_new_init_wait(
    origin: int, target: int, walk: list[int]
) -> None:
    assert XNB_BACKEND.walk(S(origin), S(target)) == walk


@backends
def test_every_target_of_a_row_can_be_reached_unless_the_backend_stays(
    rules: BackendRules,
) -> None:
    # A device that is watched has been in InitWait.
    reachable = {step.origin for step in rules.steps} - {S.Initialising}
    for row in rules.rows:
        for origin in reachable - {row.target} - row.stay:
            assert row.target is None or (origin, row.target) in rules.next


@backends
def test_walks_take_only_allowed_steps(rules: BackendRules) -> None:
    allowed = {(step.origin, step.destination) for step in rules.steps}
    for (origin, _target), hop in rules.next.items():
        assert (origin, hop) in allowed


def test_the_steps_of_linux() -> None:
    allowed = {(step.origin, step.destination) for step in LINUX_BACKEND.steps}
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
def test_a_linux_backend_answers_a_frontend_state(
    frontend: int, action: BackendAction, target: S | None, afterwards: Afterwards
) -> None:
    row = LINUX_BACKEND.row(frontend)
    assert (row.action, row.target, row.afterwards) == (action, target, afterwards)


@pytest.mark.parametrize(
    ("frontend", "action", "target"),
    [
        (0, BackendAction.FATAL, None),
        (1, BackendAction.NOTHING, None),
        (2, BackendAction.FATAL, None),
        (3, BackendAction.WALK, S.Connected),
        (4, BackendAction.WALK, S.Connected),
        (5, BackendAction.WALK, S.Closing),
        (6, BackendAction.WALK, S.Closed),
        (7, BackendAction.FATAL, None),
        (8, BackendAction.FATAL, None),
        (9, BackendAction.FATAL, None),
    ],
)
def test_xnb_answers_a_frontend_state(
    frontend: int, action: BackendAction, target: S | None
) -> None:
    row = XNB_BACKEND.row(frontend)
    assert (row.action, row.target) == (action, target)


def running(rules: FrontendRules, backend: int, own: S) -> tuple[A, ...]:
    return rules.actions(Phase.RUNNING, backend, own)


@frontends
@pytest.mark.parametrize("backend", [1, 3, 7, 8, 9, -1])
@pytest.mark.parametrize("own", list(S))
def test_a_frontend_does_nothing_about_other_backend_states(
    rules: FrontendRules, backend: int, own: S
) -> None:
    assert running(rules, backend, own) == ()


@frontends
@pytest.mark.parametrize("own", list(S))
def test_a_frontend_connects_in_initialising_only(rules: FrontendRules, own: S) -> None:
    expected = (A.CONNECT,) if own is S.Initialising else ()
    assert running(rules, S.InitWait, own) == expected


@frontends
@pytest.mark.parametrize("own", list(S))
def test_a_frontend_announces_on_connected_and_closes_on_closing(
    rules: FrontendRules, own: S
) -> None:
    assert running(rules, S.Connected, own) == (A.ANNOUNCE,)
    assert running(rules, S.Closing, own) == (A.SHOW_CLOSED,)


@frontends
@pytest.mark.parametrize("own", sorted(set(S) - {S.Initialising}))
def test_a_frontend_ends_its_grants_on_closed(rules: FrontendRules, own: S) -> None:
    assert running(rules, S.Closed, own) == (A.DISCONNECT, A.SHOW_CLOSED)


@pytest.mark.parametrize("own", list(S))
def test_a_backend_that_vanishes_unplugs_a_windows_frontend_only(own: S) -> None:
    assert running(WINDOWS_FRONTEND, S.Unknown, own) == (A.UNPLUG,)
    assert running(LINUX_FRONTEND, S.Unknown, own) == ()
    # FreeBSD reads it as Closed.
    assert FREEBSD_FRONTEND.unreadable is S.Closed


@frontends
def test_no_two_rows_of_a_frontend_answer_the_same_states(rules: FrontendRules) -> None:
    seen = Counter(
        (row.phase, backend, own)
        for row in rules.rows
        for backend in row.backend
        for own in row.own
    )
    assert max(seen.values()) == 1


@frontends
def test_a_frontend_that_was_resumed_waits_for_init_wait(rules: FrontendRules) -> None:
    for backend in S:
        expected = (A.RUN,) if backend is S.InitWait else ()
        assert rules.actions(Phase.RESUMING, backend, S.Initialising) == expected


@frontends
def test_exactly_reconfigured_ends_a_reconfiguration(rules: FrontendRules) -> None:
    done = rules.actions(Phase.RECONFIGURING, S.Reconfigured, S.Reconfiguring)
    assert done == (A.SHOW_CONNECTED, A.RECONFIGURED, A.RUN)
    for backend in (S.InitWait, S.Connected, S.Reconfiguring):
        assert rules.actions(Phase.RECONFIGURING, backend, S.Reconfiguring) == ()


def test_every_row_says_why() -> None:
    reasons = []
    for back in BACKENDS.values():
        reasons += [row.why for row in back.rows] + [step.why for step in back.steps]
        reasons += [task.why for task in (*back.probe, *back.probe_failed, *back.removal)]
    for front in FRONTENDS.values():
        reasons += [row.why for row in front.rows] + [step.why for step in front.connect]
    assert reasons
    assert all(reasons)
