"""The why report: silence for a vif that works, else the node or counter that is in the way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xennet.lifecycle.stage import Stage
from xennet.lifecycle.why import why

BACKEND = "/local/domain/0/backend/vif/1/0"
FRONTEND = "/local/domain/1/device/vif/0"


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(lambda line: None)
    stage.connect()
    yield stage
    stage.house.destroy()


def test_a_vif_that_works_has_no_reason(stage: Stage) -> None:
    assert stage.trial()
    assert why(stage.vif) == []


def test_an_error_node_of_an_earlier_life_is_no_reason(stage: Stage) -> None:
    stage.house.store.write("/local/domain/0/error/backend/vif/1/0/error", "2 long ago")
    assert why(stage.vif) == []


def test_a_carrier_of_0_is_named(stage: Stage) -> None:
    stage.house.store.write(f"{BACKEND}/carrier", "0")
    assert why(stage.vif) == [f"the backend has no carrier: {BACKEND}/carrier = 0"]


def test_a_missing_key_is_named_also_while_the_old_one_still_works(stage: Stage) -> None:
    stage.house.store.rm(f"{FRONTEND}/rx-ring-ref")
    (reason,) = why(stage.vif)
    assert f"{FRONTEND}/rx-ring-ref" in reason


def test_a_state_that_is_none_is_shown_as_it_is(stage: Stage) -> None:
    stage.house.store.write(f"{BACKEND}/state", "9")
    assert f"the backend is not Connected: {BACKEND}/state = 9 (not a XenbusState)" in why(
        stage.vif
    )


def test_a_queue_without_buffers_for_too_long_is_stalled(stage: Stage) -> None:
    stage.in_guest.room = 0
    stage.host_sends(300)
    for _ in range(8):  # Packets wait 10 s each; the queue is stalled after 60.
        stage.host_sends(10)
        stage.settle_with_timers()
    assert [reason for reason in why(stage.vif) if "queue 0 of vif1.0 is stalled" in reason]


def test_unplugged_drivers_are_missing_on_both_sides(stage: Stage) -> None:
    stage.house.unplug(stage.vif)
    stage.house.settle()
    assert [reason for reason in why(stage.vif) if reason.startswith("no driver of domain")] == [
        f"no driver of domain 1 serves {FRONTEND}",
        f"no driver of domain 0 serves {BACKEND}",
    ]
