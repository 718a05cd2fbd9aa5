"""Each way in which a driver can take a hostile move gets its own outcome, within the bounds."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import mock_drivers as mocks
import pytest
from attrs import evolve
from example_check import bad_slot, one_check, run, target

from xennet.abi.xenbus import XenbusState
from xennet.check.check import PlayFunction, Side, Violation
from xennet.check.outcome import Outcome
from xennet.check.peers import FrontendPeer, new_peer
from xennet.check.python_target import PythonTarget
from xennet.check.runner import HOPELESS, run_checks
from xennet.check.target import Liveness
from xennet.observe import Hypercall


@pytest.mark.parametrize(
    ("driver", "outcome", "reason"),
    [
        (mocks.Answers, Outcome.ANSWERED, ""),
        (mocks.Refuses, Outcome.REFUSED, ""),
        (mocks.ShutsDown, Outcome.SHUT_DOWN, "it went to state 5"),
        (mocks.Unmaps, Outcome.SHUT_DOWN, "it has unmapped ring page"),
        (mocks.FallsSilent, Outcome.WEDGED, "a well-formed request gets no response"),
        (mocks.Wedges, Outcome.WEDGED, "a well-formed request gets no response"),
        (mocks.Loops, Outcome.HUNG, "1 s of CPU time"),
        (mocks.LoopsStubbornly, Outcome.HUNG, "1 s of CPU time"),
        (mocks.Busy, Outcome.HUNG, "within 3000 deliveries"),
        (mocks.Polls, Outcome.REFUSED, ""),
        (mocks.Spins, Outcome.HUNG, "within 3000 deliveries"),
        (mocks.Crashes, Outcome.CRASHED, "ValueError: slot 0 is bad"),
        (mocks.Exits, Outcome.CRASHED, "SystemExit: 0 in bad, "),
    ],
)
def test_a_hostile_move_ends_as_the_driver_takes_it(
    driver: type, outcome: Outcome, reason: str
) -> None:
    result = run(driver, outcome)
    assert (result.seen, result.control, result.problems) == (outcome, Outcome.ANSWERED, ())
    assert result.good
    assert result.play is not None
    assert reason in result.play.reason


def test_silence_until_it_is_connected_again_is_shut_down_where_that_is_accepted() -> None:
    result = run(mocks.FallsSilent, Outcome.REFUSED, Outcome.SHUT_DOWN)
    assert (result.seen, result.good) == (Outcome.SHUT_DOWN, True)


def test_silence_for_ever_is_wedged_even_there() -> None:
    result = run(mocks.Wedges, Outcome.REFUSED, Outcome.SHUT_DOWN)
    assert (result.seen, result.good) == (Outcome.WEDGED, False)


def test_a_driver_that_refuses_everything_fails_the_control() -> None:
    result = run(mocks.RefusesAll, Outcome.REFUSED)
    assert not result.good
    assert result.control is not Outcome.ANSWERED
    assert any(problem.startswith("the control twin: ") for problem in result.problems)


@pytest.mark.parametrize(
    ("driver", "outcome", "reason"),
    [
        (mocks.CrashesAtOnce, Outcome.CRASHED, "RuntimeError: no driver here"),
        (mocks.NeverConnects, Outcome.WEDGED, "it does not connect"),
        (mocks.CrashesWhenItCloses, Outcome.CRASHED, "when it closes: KeyError: 'rings'"),
    ],
)
def test_a_driver_that_fails_apart_from_the_move_fails(
    driver: type, outcome: Outcome, reason: str
) -> None:
    result = run(driver, Outcome.REFUSED)
    assert (result.seen, result.good) == (outcome, False)
    assert result.play is not None
    assert reason in result.play.reason


def test_what_was_raised_is_shown_with_its_file_and_line_in_the_driver() -> None:
    """Also if the driver raised in a function of xennet's, or of a library."""
    for driver, said in (
        (mocks.Crashes, r"ValueError: slot 0 is bad in bad, \S*mock_drivers\.py:\d+"),
        (mocks.CrashesInStore, r"XsError: ENOENT .* in bad, \S*mock_drivers\.py:\d+"),
        (mocks.CrashesInLibrary, r"JSONDecodeError: .* in bad, \S*mock_drivers\.py:\d+"),
    ):
        result = run(driver, Outcome.CRASHED)
        assert result.play is not None
        assert re.fullmatch(said, result.play.reason), result.play.reason
        file, _, line = result.play.reason.rpartition(", ")[2].rpartition(":")
        code = driver.bad.__code__
        assert Path(file).resolve() == Path(code.co_filename).resolve()
        assert code.co_firstlineno < int(line) < code.co_firstlineno + 4


def test_a_factory_that_cannot_be_called_so_is_named() -> None:
    session = PythonTarget("my:make", Side.NETBACK, lambda hv: None).open({})  # type: ignore
    assert session.liveness is Liveness.DEAD
    assert session.reason.startswith("TypeError: ")
    assert "; the factory my:make is called as factory(hv, node)" in session.reason
    assert session.reason.count("<lambda>") == 1  # its own name
    session.close()


@pytest.mark.parametrize("driver", [mocks.BlocksAtOnce, mocks.BlocksWhenCalled])
def test_a_driver_that_blocks_hangs(driver: type) -> None:
    """Whatever else it is in the middle of when its time is over, on a busy machine."""
    blocks = evolve(target(driver), real=0.2)
    results = run_checks(blocks, [one_check(Outcome.REFUSED)])
    assert [result.outcome for result in results] == [Outcome.HUNG]
    assert results[0].play is not None
    assert "it blocks: 0.2 s without coming to rest" in results[0].play.reason
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_what_a_driver_keeps_is_a_failure() -> None:
    result = run(mocks.KeepsItsRings, Outcome.REFUSED)
    assert (result.seen, result.good) == (Outcome.REFUSED, False)
    assert "the driver still holds" in result.problems[0]


def test_the_difference_to_the_control_twin_is_one_slot() -> None:
    result = run(mocks.Answers, Outcome.REFUSED)
    assert result.diff == [
        "wrote queue 0 tx ring, index 0: 00000008 00000fa0 00c80000 | 00000008 00000000 00c80000"
    ]
    assert result.evidence["words"] == "00000008 00000fa0 00c80000"


@pytest.mark.parametrize(
    ("driver", "outcome"),
    [
        (mocks.LoopsAtOnce, Outcome.HUNG),
        (mocks.CrashesAtOnce, Outcome.CRASHED),
        (mocks.NeverConnects, Outcome.WEDGED),
    ],
)
def test_a_driver_that_never_comes_so_far_is_given_up_soon(driver: type, outcome: Outcome) -> None:
    hopeless = target(driver)
    if outcome is Outcome.HUNG:
        hopeless = evolve(hopeless, cpu=0.05)
    results = run_checks(hopeless, [one_check(Outcome.REFUSED)] * 50)
    assert {result.outcome for result in results} == {outcome}
    assert not any(result.good for result in results)
    assert sum(result.play is not None for result in results) == HOPELESS
    assert "it is not played" in results[-1].problems[0]
    assert getattr(driver, "made", 0) in (0, 2 * HOPELESS)  # each with its twin


def test_what_a_driver_prints_is_not_what_the_suite_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(mocks.Exits, Outcome.REFUSED)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "bye\n")


def test_a_driver_may_poll_while_minutes_pass() -> None:
    session = target(mocks.Polls).open({})
    peer = new_peer(session, Side.NETBACK)
    assert peer.enter(1)
    assert session.pass_time(20_000_000_000) is Liveness.RESTS
    assert not peer.probe(0)
    session.close()


def at_each_event(peer: FrontendPeer, offset: int) -> None:
    """A play whose own handler finds something wrong, whenever the driver sends an event."""

    def look() -> None:
        raise Violation("an event came")

    peer.hv.on_event(peer.port(), look)
    bad_slot(peer, offset)


def at_each_hypercall(peer: FrontendPeer, offset: int) -> None:
    """A play that finds something wrong in the middle of what the driver does."""

    def made(call: Hypercall) -> None:
        if call.domid == peer.otherend_id:
            raise Violation("a hypercall was made")

    peer.session.host.machine.observers.subscribe(made, Hypercall)
    bad_slot(peer, offset)


def only_later(peer: FrontendPeer, offset: int) -> None:
    """A play whose handler finds something wrong when the runner's probe is answered."""
    bad_slot(peer, offset)

    def look() -> None:
        raise Violation("an event came")

    peer.hv.on_event(peer.port(), look)


def when_it_closes(peer: FrontendPeer, offset: int) -> None:
    """A play whose watch finds something wrong when the driver is Closed."""
    bad_slot(peer, offset)

    def changed(path: str, token: str) -> None:
        if peer.otherend_state == XenbusState.Closed:
            raise Violation("it is Closed")

    peer.hv.store.watch(f"{peer.otherend.path}/state", "closed", changed)


@pytest.mark.parametrize(
    ("play", "message"),
    [
        (at_each_event, "an event came"),
        (at_each_hypercall, "a hypercall was made"),
        (only_later, "an event came"),
        (when_it_closes, "it is Closed"),
    ],
)
def test_what_the_peer_finds_wrong_in_a_handler_of_its_own_is_no_crash(
    play: PlayFunction, message: str
) -> None:
    one = evolve(one_check(Outcome.REFUSED), play=play)
    (result,) = run_checks(target(mocks.Refuses), [one])
    assert (result.seen, result.good) == (Outcome.REFUSED, False)
    assert result.problems == (message, f"the control twin: {message}")
