"""Each move does what it says to xennet's drivers, and none, in any order, does anything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field
from how_many import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from xennet.abi.xenbus import XenbusState
from xennet.adversary import LOAD, Access, Adversary
from xennet.check.rule_book import rule_book
from xennet.engine.choice import using
from xennet.netfront.kinds import KINDS
from xennet.port.echo import EchoPort
from xennet.port.null import NullPort
from xennet.testing.backend_moves import BACKEND_LIFE, BACKEND_MOVES
from xennet.testing.frontend_moves import FRONTEND_LIFE, FRONTEND_MOVES
from xennet.testing.moves import at_point, live
from xennet.testing.raw_backend import RawBackend
from xennet.testing.raw_frontend import RawFrontend
from xennet.testing.strategies import backend_plans, frontend_plans
from xennet.testing.vif_setup import VifSetup
from xennet.vif.ring_events import RingEvent

FRAME = bytes(range(14)) + bytes(46)


@define
class Scene:
    """A vif with a hand-driven ``peer`` at one of its ends; ``seen`` are the rules of what the
    driver at the other one refused."""

    setup: VifSetup
    seen: set[str] = field(factory=set)

    def __attrs_post_init__(self) -> None:
        def note(event: RingEvent) -> None:
            self.seen.add(event.rule)

        self.setup.host.machine.observers.subscribe(note, RingEvent)

    @property
    def peer(self) -> Any:
        return self.setup.frontend or self.setup.backend

    @property
    def driver(self) -> Any:
        """xennet's driver."""
        vif = self.setup.vif
        return vif.netfront if self.setup.frontend is None else vif.netback

    @property
    def error(self) -> str:
        """The rule for which the peer was disabled."""
        error = self.driver.error
        return error.rule if error is not None else ""


def facing_netback() -> Scene:
    return Scene(VifSetup.make(frontend="raw"))


def facing_netfront(kind: str = "linux") -> Scene:
    return Scene(VifSetup.make(backend="raw", kind=KINDS[kind]))


# -- each move, alone, on a vif that is connected --------------------------------------------------

Check = Callable[[Scene], bool]

#: Nothing stops: the ring goes on, and nothing is refused.
GOES_ON: Check = lambda scene: scene.error == "" and scene.seen <= {""}  # noqa: E731


def disabled(rule: str) -> Check:
    return lambda scene: scene.error == rule


def refused(rule: str) -> Check:
    return lambda scene: scene.error == "" and rule in scene.seen


def closed(scene: Scene) -> bool:
    return scene.peer.otherend_state in (XenbusState.Closing, XenbusState.Closed)


def statuses(*wanted: int) -> Check:
    return lambda scene: GOES_ON(scene) and scene.peer.statuses() == list(wanted)


def spurious(scene: Scene) -> bool:
    return GOES_ON(scene) and scene.driver.counters.spurious > 0


def kept_back(scene: Scene) -> bool:
    """Work of which nobody is told stays where it is until somebody tells."""
    unseen = scene.peer.statuses() == []
    scene.peer.notify("tx")
    scene.peer.settle()
    return unseen and scene.peer.statuses() == [0]


FRONTEND: dict[str, Check] = {
    "tx-req-prod-jump": disabled("F1"),
    "tx-req-prod-back": disabled("F1"),
    "rx-req-prod-jump": disabled("F1"),
    "rx-req-prod-back": disabled("F1"),
    "ctrl-req-prod-jump": disabled("F1"),
    "events-out-of-reach": GOES_ON,
    "indices-of-the-backend": GOES_ON,
    "more-data-last": disabled("F2"),
    "too-many-slots": disabled("F3"),
    "slot-beyond-rest": refused("F4"),
    "slot-beyond-page": disabled("F5"),
    "short-packet": refused("F6"),
    "empty-slots": statuses(0, 0, 0, 0),
    "extra-missing": disabled("F8"),
    "extra-type": disabled("F9"),
    "extras-without-end": disabled("F8"),
    "gso-empty": disabled("F10"),
    "gso-type": disabled("F10"),
    "multicast-list-full": refused("F11"),
    "extra-twice": lambda scene: scene.error == "" and scene.peer.statuses() == [0, 1, 1],
    "tiny-slots": statuses(*[0] * 19),
    "gso-without-blank": lambda scene: scene.driver.counters.csum_fixup == 1,
    "blank-on-garbage": refused("F17"),
    "ring-overrun": disabled("F1"),
    "grant-never-made": refused("F13"),
    "grant-ended": refused("F13"),
    "buffer-read-only": refused("F13"),
    "one-page-many-times": GOES_ON,
    "slot-rewritten": GOES_ON,
    "packet-rewritten": disabled("F5"),
    "no-buffers": lambda scene: GOES_ON(scene) and scene.peer.packets() == [],
    "events-without-work": spurious,
    "work-without-event": kept_back,
    "channels-closed": GOES_ON,
    "responses-left": GOES_ON,
    "ctrl-type": refused("F24"),
    "ctrl-gref": refused("F24"),
    "ctrl-wrap": refused("F24"),
    "state-jump": closed,
    "state-garbage": closed,
    "state-flicker": lambda scene: scene.peer.connected,
    "strings": GOES_ON,
    "directory-removed": closed,
    "node-removed": GOES_ON,
    "quota-full": lambda scene: GOES_ON(scene) and scene.peer.echo(FRAME) is not None,
}
#: Moves about receive buffers, which therefore are the first.
WITHOUT_BUFFERS = {"buffer-read-only", "no-buffers"}
#: What is looked at when a connection begins: the state of the backend afterwards.
AT_CONNECT = {
    "keys-missing": XenbusState.Closing,
    "keys-garbage": XenbusState.Closing,
    "rings-the-same": XenbusState.Connected,
    "keys-of-others": XenbusState.Closing,
    "queue-count": XenbusState.Closing,
    "rings-overfull": XenbusState.Closing,
    "rings-inside-a-packet": XenbusState.Connected,
}


def carries_on(scene: Scene) -> bool:
    came = scene.peer.echo(FRAME)
    return scene.error == "" and came is not None and came.frame == FRAME


BACKEND: dict[str, Check] = {
    "tx-rsp-prod-jump": disabled("B1"),
    "rx-rsp-prod-jump": disabled("B1"),
    "tx-rsp-prod-back": disabled("B1"),
    "rx-rsp-prod-back": disabled("B1"),  # B2 where some were left unconsumed
    "events-out-of-reach": GOES_ON,
    "indices-of-the-frontend": GOES_ON,
    "id-out-of-range": disabled("B3"),
    "id-forged": disabled("B4"),
    "id-repeated": disabled("B4"),
    "responses-withheld": GOES_ON,
    "response-while-mapped": disabled("B5"),
    "buffer-kept-mapped": disabled("B5"),
    "tx-refused": refused("B6"),
    "pages-never-mapped": GOES_ON,
    "null-for-data": disabled("B7"),
    "tx-status": GOES_ON,
    "rx-status-negative": refused("B8"),
    "rx-beyond-page": refused("B8"),
    "rx-id": GOES_ON,
    "rx-more-data-last": refused("B10"),
    "rx-too-many-slots": refused("B11"),
    "rx-extra-missing": refused("B12"),
    "rx-extra-type": refused("B12"),
    "rx-extras-without-end": refused("B12"),
    "rx-gso": refused("B13"),
    "rx-headroom": refused("B14"),
    "rx-short": refused("B20"),
    "rx-long": refused("B20"),
    "rx-blank-on-garbage": refused("B21"),
    "rx-overrun": disabled("B1"),
    "responses-rewritten": GOES_ON,
    "events-without-work": spurious,
    "work-without-event": GOES_ON,
    "channels-closed": GOES_ON,
    "rings-unmapped": GOES_ON,
    "state-jump": closed,
    "state-garbage": carries_on,
    "state-flicker": lambda scene: scene.error == "",
    "features-changed": carries_on,
    "features-garbage": carries_on,
    "init-wait-never": carries_on,
    "directory-removed": carries_on,
    "node-removed": carries_on,
}


def finished(scene: Scene) -> None:
    """Nothing is left of either end."""
    left = scene.setup.finish()
    assert not left, str(left)


@pytest.mark.parametrize("name", FRONTEND)
def test_a_move_of_a_frontend_does_what_it_says(name: str) -> None:
    scene = facing_netback()
    assert scene.peer.connect(ctrl=True)
    if name not in WITHOUT_BUFFERS:
        scene.peer.post_rx(8)
        scene.peer.push_rx()
        scene.peer.settle()
    assert FRONTEND_MOVES[name].play(scene.peer)
    scene.peer.settle()
    assert FRONTEND[name](scene), (scene.error, scene.seen, scene.peer.otherend_state)
    finished(scene)


@pytest.mark.parametrize("name", AT_CONNECT)
def test_a_move_before_the_connection_does_what_it_says(name: str) -> None:
    scene = facing_netback()
    front = scene.peer
    front.settle()
    front.allocate()
    assert FRONTEND_MOVES[name].play(front)
    front.connect()
    assert front.otherend_state == AT_CONNECT[name]
    front.notify("tx")
    front.settle()
    finished(scene)


@pytest.mark.parametrize("name", BACKEND)
def test_a_move_of_a_backend_does_what_it_says(name: str) -> None:
    scene = facing_netfront()
    assert scene.peer.connect()
    for _ in range(4):
        scene.peer.deliver(FRAME)
    scene.peer.push_rx()
    scene.peer.settle()
    assert BACKEND_MOVES[name].play(scene.peer)
    scene.peer.settle()
    assert BACKEND[name](scene), (scene.error, scene.seen, scene.peer.otherend_state)
    finished(scene)


def test_every_move_is_tried() -> None:
    assert {*FRONTEND, *AT_CONNECT} == set(FRONTEND_MOVES)
    assert {*BACKEND, "responses-late"} == set(BACKEND_MOVES)


def test_a_move_has_rules_and_a_sentence() -> None:
    known = rule_book()
    for move in (*FRONTEND_MOVES.values(), *BACKEND_MOVES.values()):
        assert move.concerns in known, move
        assert move.rule == "" or move.rule[0] in "FB"
        assert move.text.endswith(".")


def test_what_is_answered_late_counts_in_its_own_connection_and_in_no_other() -> None:
    scene = facing_netfront()
    back = scene.peer
    assert back.connect()
    assert not BACKEND_MOVES["responses-late"].play(back)
    assert not BACKEND_MOVES["responses-withheld"].play(back)
    assert str(back.notes[-1]).startswith("could not responses-withheld: LookupError")
    for _ in range(2):
        back.deliver(FRAME)
    back.push_rx()
    back.settle()
    assert BACKEND_MOVES["responses-withheld"].play(back)
    kept = list(back.withheld)
    assert BACKEND_MOVES["responses-late"].play(back)
    back.settle()
    assert scene.error == ""
    back.withheld = kept
    assert BACKEND_MOVES["responses-late"].play(back)
    back.settle()
    assert scene.error in ("B1", "B4")
    finished(scene)


# -- between two accesses --------------------------------------------------------------------------


def points(act: Callable[[RawFrontend], object], where: Callable[[Access], bool]) -> list[Any]:
    """For each access of netback's pass that ``where`` picks: (responses, rules, frames) after
    ``act`` was done there."""
    results: list[Any] = []
    while True:
        adversary = Adversary()
        with using(adversary):
            scene = facing_netback()
            scene.peer.connect()
            scene.peer.post_rx(8)
            scene.peer.push_rx()
            scene.peer.settle()
            page = scene.peer.page(FRAME)
            scene.peer.tx(60, ident=9, gref=page.gref)
            scene.peer.push_tx()
            with at_point(adversary, len(results) + 1, lambda: act(scene.peer), where) as met:  # noqa: B023
                scene.peer.settle()
            if not met:
                return results
            answers = [(one.id, one.status) for one in scene.peer.responses(arm=False)]
            results.append((answers, scene.error, [one.frame for one in scene.peer.packets()]))
            finished(scene)


def of_slot(access: Access) -> bool:
    return access.memory == "tx ring" and access.kind == LOAD and access.at >= 64


def test_a_slot_that_is_rewritten_between_its_loads_is_taken_as_it_was_loaded() -> None:
    """Double fetch (XSA-155, rule F14): behind its last load a slot is not looked at again."""
    results = points(lambda front: FRONTEND_MOVES["slot-rewritten"].play(front), of_slot)
    assert len(results) >= 3
    assert results[-1] == ([(9, 0)], "", [FRAME])


def test_a_grant_that_ends_in_the_middle_of_a_copy_is_used_to_its_end_or_not_at_all() -> None:
    def end(front: RawFrontend) -> None:
        front.end(front._pages[-1])

    results = points(end, lambda access: access.memory in ("grant table", "arena"))
    assert len(results) > 3
    for answers, error, frames in results:
        assert error == ""
        assert (answers, frames) in (([(9, 0)], [FRAME]), ([(9, -1)], []))
    assert results[-1][0] == [(9, 0)]


POINTS = st.integers(1, 30) | st.integers(1, 400)
VALUES = st.none() | st.integers(0, 20) | st.integers(0, 0xFFFFFFFF)


@settings(max_examples=examples(90))
@given(move=st.sampled_from([*FRONTEND_MOVES.values()]), value=VALUES, number=POINTS)
def test_netback_survives_any_move_at_any_point(move: Any, value: int | None, number: int) -> None:
    adversary = Adversary()
    with using(adversary):
        scene = facing_netback()
        front = scene.peer
        assert front.connect(ctrl=True)
        front.post_rx(8)
        front.push_rx()
        front.send(FRAME.ljust(9000, b"x"))
        front.push_tx()
        front.ctrl(4)
        front.push_ctrl()
        with at_point(adversary, number, lambda: move.play(front, value)):
            front.settle()
        finished(scene)
        scene.setup.host.destroy()


@settings(max_examples=examples(90))
@given(move=st.sampled_from([*BACKEND_MOVES.values()]), value=VALUES, number=POINTS)
def test_netfront_survives_any_move_at_any_point(move: Any, value: int | None, number: int) -> None:
    adversary = Adversary()
    with using(adversary):
        scene = facing_netfront()
        back = scene.peer
        assert back.connect()
        for _ in range(4):
            back.deliver(FRAME.ljust(5000, b"x"))
        back.push_rx()
        with at_point(adversary, number, lambda: move.play(back, value)):
            back.settle()
        finished(scene)
        scene.setup.host.destroy()


# -- any moves, at any steps -----------------------------------------------------------------------


@settings(max_examples=examples(90))
@given(plan=frontend_plans(), settle=st.booleans())
def test_netback_survives_any_moves_of_a_frontend(plan: Any, settle: bool) -> None:
    scene = facing_netback()
    live(scene.peer, FRONTEND_LIFE, plan, settle=settle)
    finished(scene)
    # The next guest is served as if nothing had happened.
    host = scene.setup.host
    guest = host.add_guest(drivers=None)
    host.plug(guest, 0, NullPort(), EchoPort())
    fresh = RawFrontend(guest.kernel, settle=scene.setup.settle)
    assert fresh.connect()
    assert fresh.echo(FRAME) is not None
    assert fresh.close() == []
    host.destroy()


@settings(max_examples=examples(90))
@given(plan=backend_plans(), settle=st.booleans(), kind=st.sampled_from(list(KINDS)))
def test_netfront_survives_any_moves_of_a_backend(plan: Any, settle: bool, kind: str) -> None:
    scene = facing_netfront(kind)
    live(scene.peer, BACKEND_LIFE, plan, settle=settle)
    finished(scene)
    # The guest's next vif works as if nothing had happened.
    host = scene.setup.host
    vif = host.plug(scene.setup.vif.guest, 1, EchoPort(), NullPort())
    fresh = RawBackend(host.dom0.kernel, "backend/vif/1/1", settle=scene.setup.settle)
    assert fresh.connect()
    assert fresh.echo(FRAME) is not None
    fresh.close()
    host.unplug(vif)
    host.settle()
    assert not host.leaks(), str(host.leaks())
    host.destroy()
