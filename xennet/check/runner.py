"""Playing checks against a driver, and what comes of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from attrs import evolve, field, frozen

from xennet.abi.xenbus import XenbusState
from xennet.check.attachment import Attachment
from xennet.check.check import Check, Side, Violation
from xennet.check.event_trace import Trace
from xennet.check.known_failures import KnownFailure
from xennet.check.outcome import Outcome
from xennet.check.peers import PROBES, Peer, new_peer, refused
from xennet.check.rule_book import Rule, RuleBookError, rule_book
from xennet.check.target import DriverEndedError, Liveness, Session, Target
from xennet.interface import HypercallError
from xennet.ring import RingOverflowError
from xennet.testing.notes import Note, raw_words, slot_diff
from xennet.xenbus.errors import XenbusError
from xennet.xenbus.nodes import NodeDirectory
from xennet.xenbus.state import read_state
from xennet.xenstore.errors import XsError

#: The version of the suite: it is raised when a check is added, removed or judges otherwise.
SUITE_VERSION = "1.0"

#: What keeps a play from going on because of what the driver under test did: keys that cannot be
#: read, rings that cannot be mapped, indices that cannot be.
_DRIVERS_FAULTS = (HypercallError, LookupError, RingOverflowError, XenbusError, XsError)

#: The outcomes of a driver that does not run any more, and those with which it has to give
#: everything back at the end.
_ENDED = frozenset({Outcome.CRASHED, Outcome.HUNG})
_JUDGED = frozenset({Outcome.ANSWERED, Outcome.REFUSED, Outcome.SHUT_DOWN})
_LEFT = (XenbusState.Closing, XenbusState.Closed)

#: Checks in a row before whose plays a driver may fail until the others are given up.
HOPELESS = 5

_SLOT = re.compile(r"(?:queue (\d+) )?(tx|rx|ctrl) ring, index (\d+)")


class SuiteError(Exception):
    """A check broke, or the peer or the toolstack: nothing is said about the driver."""


@frozen
class Play:
    """One play of a check: its ``outcome``, and how it was seen (``reason``).

    ``notes``: what the peer did and saw in the play. ``violation``: what it found wrong. ``held``:
    what the driver held at the end. ``frames``: those of the peer, with their times in ns.
        began = self.begin is not None
        return Play(
            outcome,
            self.reason,
            notes,
            self.violation,
            held,
            frames,
            began,
            self.trace,
            self.session.output,
        )
    """

    outcome: Outcome
    reason: str
    notes: tuple[Note, ...]
    violation: Violation | None = None
    held: tuple[str, ...] = ()
    frames: tuple[tuple[int, bytes], ...] = ()
    began: bool = True
    trace: Trace | None = None
    output: str = ""


@frozen
class Result:
    """What came of one check.

    ``outcome``: one of the nine. ``seen``: how the play ended, None if it was not played;
    ``control``: how its control twin ended, None if there is none or it was not played.
    ``problems``: what is not as it has to be, one sentence for each; of a check that was not played
    the features that it lacks. ``good``: whether all is as expected. ``seconds``: how long it took.
    """

    check: Check
    rule: Rule
    outcome: Outcome
    good: bool
    seen: Outcome | None = None
    control: Outcome | None = None
    problems: tuple[str, ...] = ()
    play: Play | None = field(default=None, repr=False)
    twin: Play | None = field(default=None, repr=False)
    known: KnownFailure | None = None
    seconds: float = 0.0

    @property
    def word(self) -> str:
        """The verdict in one word: pass, FAIL, xfail, XPASS, unsupported."""
        words = {Outcome.UNSUPPORTED: "unsupported", Outcome.XFAIL: "xfail", Outcome.XPASS: "XPASS"}
        return words.get(self.outcome, "pass" if self.good else "FAIL")

    def without_trace(self) -> Result:
        """The same without the events and frames of its plays, which are large."""
        bare = [
            None if play is None else evolve(play, trace=None, frames=())
            for play in (self.play, self.twin)
        ]
        return evolve(self, play=bare[0], twin=bare[1])

    @property
    def diff(self) -> list[str]:
        """The slots, indices and nodes in which the play differs from its control twin."""
        if self.play is None or self.twin is None:
            return []
        return slot_diff(self.play.notes, self.twin.notes)

    @property
    def evidence(self) -> dict[str, Any]:
        """Where the failure is: ring, queue, index and raw words of the slot, path of the node, a
        hint; what is not known is left out."""
        play = self.play
        if play is None:
            return {}
        violation = play.violation
        found: dict[str, Any] = _last_slot(play.notes)
        if violation is not None:
            given = {
                "ring": violation.ring,
                "index": violation.index,
                "words": raw_words(violation.raw),
                "path": violation.path,
            }
            if violation.ring or violation.path:
                found = {}
            found |= {key: value for key, value in given.items() if value not in ("", None)}
        hint = (violation.hint if violation is not None else "") or self.check.hint
        return found | ({"hint": hint} if hint else {})


def run_checks(
    target: Target,
    checks: Iterable[Check],
    known: Iterable[KnownFailure] = (),
    *,
    traced: bool = False,
    told: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Play the ``checks`` against ``target``; what fails as one of the ``known`` failures does is
    expected. ``traced``: keep the events of each play. ``told(result)`` is called for each.

    If the driver has not come as far as the play HOPELESS times in a row, the other checks are not
    played: they end as the last of these did.

    Raises SuiteError, which names the check, if the suite or the target breaks.
    """
    listed = {one.check: one for one in known}
    results: list[Result] = []
    in_vain: list[Play] = []
    for one in checks:
        begin = time.perf_counter()
        hopeless = in_vain[-1] if len(in_vain) >= HOPELESS else None
        try:
            result = _run(target, one, listed.get(one.id), traced, begin, hopeless)
        except Exception as error:
            raise SuiteError(f"{one.id}: {type(error).__name__}: {error}") from error
        told(result)
        results.append(result.without_trace())
        if result.play is not None and not result.play.began:
            in_vain.append(result.play)
        elif result.good and result.play is not None:
            in_vain.clear()
    return results


def _run(
    target: Target,
    one: Check,
    known: KnownFailure | None,
    traced: bool,
    begin: float,
    hopeless: Play | None,
) -> Result:
    rule = rule_book().get(one.rule)
    if rule is None:
        raise RuleBookError(f"check {one.id}: there is no rule {one.rule!r}")
    if missing := target.profile.missing(one.needs):
        return Result(one, rule, Outcome.UNSUPPORTED, True, problems=missing)
    twin = None
    if hopeless is not None:
        problem = f"it is not played: the driver was {hopeless.outcome} before it, again and again"
        why = f"{problem} ({hopeless.reason})"
        return Result(one, rule, hopeless.outcome, False, problems=(why,))
    if one.field is not None:
        twin = play_once(target, one, one.field.control, one.control_accepts, traced=traced)
    value = None if one.field is None else one.field.hostile
    play = play_once(target, one, value, one.accepts, traced=traced)
    problems = [*_problems(play, one.accepts)]
    if twin is not None:
        twins = _problems(twin, one.control_accepts)
        problems += [f"the control twin: {problem}" for problem in twins]
    outcome, good = play.outcome, not problems
    if known is not None and problems:
        if known.matches(outcome, problems):
            outcome, good = Outcome.XFAIL, True
        else:
            problems.append(f"it is known to fail otherwise: {known}")
    elif known is not None:
        outcome, good = Outcome.XPASS, False
        problems.append(f"it is known to fail, and does not: {known}")
    return Result(
        one,
        rule,
        outcome,
        good,
        play.outcome,
        None if twin is None else twin.outcome,
        tuple(problems),
        play,
        twin,
        known,
        time.perf_counter() - begin,
    )


def _problems(play: Play, accepts: frozenset[Outcome]) -> Iterator[str]:
    if play.violation is not None:
        yield play.violation.message
    if play.outcome not in accepts:
        expected = ", ".join(sorted(accepts))
        why = f" ({play.reason})" if play.reason else ""
        yield f"it is {play.outcome}{why}; accepted: {expected}"
    if play.held:
        yield f"the driver still holds: {'; '.join(play.held)}"


def play_once(
    target: Target, one: Check, value: object, accepts: frozenset[Outcome], *, traced: bool = False
) -> Play:
    """Play a check once, with ``value``, in a life of the driver of its own."""
    session = target.open(one.nodes, one.queues)
    trace = Trace(session.host.machine) if traced else None
    try:
        return _Playing(session, one, value, accepts, trace).play()
    finally:
        if trace is not None:
            trace.end()
        session.close()


class _Playing:
    """One play while it goes on."""

    def __init__(
        self,
        session: Session,
        one: Check,
        value: object,
        accepts: frozenset[Outcome],
        trace: Trace | None,
    ) -> None:
        self.session, self.one, self.value, self.accepts = session, one, value, accepts
        self.trace = trace
        self.reason = ""
        self.violation: Violation | None = None
        self.peer: Peer | None = None
        self.shared: Attachment | None = None
        self.begin: int | None = None
        self.finish: int | None = None

    def play(self) -> Play:
        outcome = self._guarded(self._outcome)
        held = self._end()
        if self.session.liveness is not Liveness.RESTS and outcome not in _ENDED:
            self.reason = f"when it closes: {self.session.reason}"
            outcome = self._ended()
        if self.one.may_hold or outcome not in _JUDGED:
            held = ()
        notes = () if self.peer is None else tuple(self.peer.notes[self.begin : self.finish])
        frames = () if self.peer is None else tuple(self.peer.frames)
        began = self.begin is not None
        return Play(
            outcome,
            self.reason,
            notes,
            self.violation,
            held,
            frames,
            began,
            self.trace,
            self.session.output,
        )

    def _guarded(self, steps: Callable[[], Outcome]) -> Outcome:
        """What ``steps()`` returns, or the outcome of a driver that ends in the middle."""
        try:
            return steps()
        except DriverEndedError as ended:
            self.reason = str(ended)
            return self._ended()

    def _ended(self) -> Outcome:
        return Outcome.CRASHED if self.session.liveness is Liveness.DEAD else Outcome.HUNG

    def _outcome(self) -> Outcome:
        if self.session.liveness is not Liveness.RESTS:
            raise DriverEndedError(self.session.reason)
        self.peer = peer = new_peer(self.session, self.one.side)
        said: Outcome | None = None
        try:
            if self.one.connect and not peer.enter(self.one.queues):
                self.reason = "it does not connect"
                return Outcome.SHUT_DOWN if self._left() else Outcome.WEDGED
            if self.one.connect:
                self.shared = Attachment.of(peer)
            self.begin = len(peer.notes)
            said = self.one.play(peer, self.value)
            peer.rest()
        except Violation as violation:
            self.violation = violation
        except _DRIVERS_FAULTS as fault:
            self.violation = Violation(f"the play could not go on: {fault}")
        if said is not None:
            return said
        self.finish = len(peer.notes)
        return self._judge(peer)

    def _judge(self, peer: Peer) -> Outcome:
        """The outcome of a move, by what the peer sees after it."""
        peer.rest()
        if self._left():
            return Outcome.SHUT_DOWN
        try:
            peer.drain()
            errors = refused(self.one.side, peer.notes[self.begin :])
            if not self.one.probe:
                return Outcome.REFUSED if errors else Outcome.ANSWERED
            self.reason = self._probed(peer)
        except _DRIVERS_FAULTS as fault:
            self.reason = str(fault)
        if not self.reason:
            return Outcome.REFUSED if errors else Outcome.ANSWERED
        if self._left():
            return Outcome.SHUT_DOWN
        if Outcome.SHUT_DOWN in self.accepts and self._enters_again(peer):
            return Outcome.SHUT_DOWN
        return Outcome.WEDGED

    def _probed(self, peer: Peer) -> str:
        """What is missing of the answer to the last of a few probes; "" if nothing is."""
        missing = ""
        for number in range(PROBES):
            missing = peer.probe(number)
            if not missing:
                break
        return missing

    def _enters_again(self, peer: Peer) -> bool:
        try:
            return peer.enter_again(self.one.queues) and not self._probed(peer)
        except _DRIVERS_FAULTS:
            return False

    def _left(self) -> bool:
        """Whether the driver has given the vif up: it has left Connected, or has told an error, or
        has let go of a ring or channel. The reason says which."""
        host, paths = self.session.host, self.session.vif.paths
        back = self.one.side is Side.NETBACK
        directory = paths.backend if back else paths.frontend
        state = read_state(host.store, directory)
        if state in _LEFT or (self.shared is not None and state != XenbusState.Connected):
            self.reason = f"it went to state {state}"
            return True
        error = NodeDirectory(host.store, _error_directory(directory)).optional_text("error")
        if error:
            self.reason = f"it says: {error}"
            return True
        lost = "" if self.shared is None else self.shared.lost(host.machine)
        self.reason = lost or self.reason
        return bool(lost)

    def _end(self) -> tuple[str, ...]:
        """End the life, the peer in order; what the driver still holds then."""
        if self.peer is not None and self.session.liveness is Liveness.RESTS:
            with suppress(DriverEndedError, *_DRIVERS_FAULTS):
                self.peer.close()
        return self.session.close()


def _last_slot(notes: Sequence[Note]) -> dict[str, Any]:
    """The last slot that the peer wrote, else the last node."""
    for note in reversed(notes):
        if note.what == "wrote" and (found := _SLOT.search(note.where)) is not None:
            queue, ring, index = found.groups()
            said: dict[str, Any] = {"ring": ring, "index": int(index), "words": note.value}
            return said | ({"queue": int(queue)} if queue else {})
    for note in reversed(notes):
        if note.what in ("node", "removed"):
            return {"path": note.where, "value": note.value}
    return {}


def _error_directory(directory: str) -> str:
    """Where a driver writes its errors (xenbus_dev_error): /local/domain/D/error/NODENAME."""
    _, local, domain, domid, nodename = directory.split("/", 4)
    return f"/{local}/{domain}/{domid}/error/{nodename}"
