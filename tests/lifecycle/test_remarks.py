"""Remarks: what costs a working vif speed, features or frames."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xennet.lifecycle.remarks import remarks
from xennet.lifecycle.scene import Scene
from xennet.lifecycle.why import why
from xennet.netfront.kinds import FREEBSD, LINUX, WINDOWS, FrontendKind

FRONTEND = "/local/domain/1/device/vif/0"


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene(lambda line: None)
    scene.connect()
    yield scene
    scene.destroy()


def test_of_a_vif_that_is_as_it_should_be_there_is_nothing_to_say(scene: Scene) -> None:
    assert scene.trial()
    assert remarks(scene.vif) == []


@pytest.mark.parametrize("kind", [LINUX, FREEBSD, WINDOWS], ids=lambda kind: kind.name)
def test_field_bug_2_every_kind_says_what_unvalidated_gso_costs(kind: FrontendKind) -> None:
    scene = Scene(lambda line: None, kind)
    scene.connect()
    assert scene.vif.netfront is not None
    scene.vif.netfront.counters.unvalidated = 7
    (said,) = remarks(scene.vif)
    assert said == f"GSO packets that came without data_validated: 7; {kind.unvalidated}"
    assert kind.unvalidated
    assert why(scene.vif) == []
    scene.destroy()


def test_field_bug_10_an_mtu_that_nobody_can_have_is_remarked_on(scene: Scene) -> None:
    scene.host.store.write(f"{FRONTEND}/mtu", "10")
    assert remarks(scene.vif) == [f'{FRONTEND}/mtu = "10" says nothing: the mtu is 1500']


def test_a_hostile_value_is_printable_and_short(scene: Scene) -> None:
    scene.guest.kernel.store.write("device/vif/0/feature-sg", b"\x1b[2J" + b"x" * 500)
    (said,) = remarks(scene.vif)
    assert len(said) < 250
    assert "x" * 60 in said


def test_frames_that_were_lost_are_counted_by_cause(scene: Scene) -> None:
    back, front = scene.vif.netback, scene.vif.netfront
    assert back is not None
    assert front is not None
    front.counters.no_carrier, front.counters.lost = 1, 5
    counters = back.queue_counters[0]
    counters.expired, counters.dropped, counters.lost = 2, 3, 4
    assert [said.rpartition(": ")[2] for said in remarks(scene.vif)] == ["1", "5", "2", "3", "4"]
