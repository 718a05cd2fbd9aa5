"""Playing checks against a driver, and what comes of it."""

from __future__ import annotations

import re
import shlex
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from attrs import evolve, field, frozen

from xennet.abi.xenbus import XenbusState
from xennet.check.attachment import Attachment
from xennet.check.broken_step import Place
from xennet.check.check import Check, Side, Violation, all_checks
from xennet.check.event_trace import EventTrace
from xennet.check.known_failures import KnownFailure
from xennet.check.outcome import Outcome
from xennet.check.peers import PROBES, Peer, error_directory, new_peer, refused
from xennet.check.profile import unannounced
from xennet.check.rule_book import Rule, rule_book
from xennet.check.target import DriverEndedError, Liveness, Session, Target
from xennet.choices import OLDEST
from xennet.interface import HypercallError
from xennet.ring import RingOverflowError
from xennet.testing.notes import Note, raw_words, slot_diff
from xennet.trace.recorder import NotMadeWithinError, Recorder, recording
from xennet.workers.mapping import Workers
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

#: Checks that a driver is asked first: if it comes as far as the play in none, the others are given
#: up.
HOPELESS = 5

_SLOT = re.compile(r"(?:queue (\d+) )?(tx|rx|ctrl) ring, index (\d+)")


class SuiteError(Exception):
    """A check broke, or the peer or the toolstack: nothing is said about the driver."""


@frozen
class Play:
    """One play of a check: its ``outcome``, and how it was seen (``reason``).

    ``notes``: what the peer did and saw in the play. ``violation``: what it found wrong. ``held``:
    what the driver held at the end. ``frames``: those of the peer, with their times in ns.
    ``began``: whether it came as far as the check itself. ``trace``: the events of the machine, the
    lines of a stream of docs/trace.md; none unless they are traced and something is wrong.
    ``output``: what the driver's program has written. ``choices``: which deliveries were next, as
    text; None if nobody chose. ``unannounced``: features that the check needs and that the driver
    has not announced.
    """

    outcome: Outcome
    reason: str
    notes: tuple[Note, ...]
    violation: Violation | None = None
    held: tuple[str, ...] = ()
    frames: tuple[tuple[int, bytes], ...] = ()
    began: bool = True
    trace: tuple[str, ...] = ()
    output: str = ""
    choices: str | None = None
    unannounced: tuple[str, ...] = ()


@frozen
class Result:
    """What came of one check.

    ``outcome``: one of the nine. ``seen``: how the play ended, None if it was not played;
    ``control``: how its control twin ended, None if there is none or it was not played.
    ``problems``: what is not as it has to be, one sentence for each; of a check that was not played
    the features that it lacks. ``good``: whether all is as expected. ``seconds``: how long it took.
    ``again``: the command that plays the check in the same way, if one does; "" of what is good.
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
    again: str = ""

    @property
    def word(self) -> str:
        """The verdict in one word: pass, FAIL, xfail, XPASS, unsupported."""
        words = {Outcome.UNSUPPORTED: "unsupported", Outcome.XFAIL: "xfail", Outcome.XPASS: "XPASS"}
        return words.get(self.outcome, "pass" if self.good else "FAIL")

    def without_trace(self) -> Result:
        """The same without the events and frames of its plays, which are large."""
        bare = [
            None if play is None else evolve(play, trace=(), frames=())
            for play in (self.play, self.twin)
        ]
        return evolve(self, play=bare[0], twin=bare[1])

    @property
    def unannounced(self) -> tuple[str, ...]:
        """Of what fails, the features that it needs and that the driver has not announced."""
        return () if self.good or self.play is None else self.play.unannounced

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
        hint = (violation.hint if violation is not None else "") or self.check.hint
        return _where(play) | ({"hint": hint} if hint else {})


@frozen
class Plays:
    """What was played of a check, and in how many ``seconds``: the ``play`` and its ``twin``, or
    nothing, for features that are ``missing`` or because the driver is ``hopeless`` (this is how
    an earlier play of it ended)."""

    play: Play | None = None
    twin: Play | None = None
    missing: tuple[str, ...] = ()
    hopeless: Play | None = None
    seconds: float = 0.0


def run_checks(
    target: Target,
    checks: Iterable[Check],
    known: Iterable[KnownFailure] = (),
    *,
    traced: bool = False,
    told: Callable[[Result], None] = lambda result: None,
    workers: Workers | None = None,
) -> list[Result]:
    """Play the ``checks`` against ``target``; what fails as one of the ``known`` failures does is
    expected. ``traced``: keep the events of plays with problems. ``told(result)`` is called for
    each, in order. ``workers``: those who play, other processes for example, to which ``target``
    and the ids of checks are sent.

    If the driver has not come as far as the play in the first HOPELESS checks, the others are not
    played: they end as the last of these did.

    Raises SuiteError, which names the check, if the suite or the target breaks.
    """
    listed = {one.check: one for one in known}
    left = deque(checks)
    results: list[Result] = []
    tried: list[Play] = []

    def finish(one: Check, plays: Plays) -> None:
        result = judged(one, plays, listed.get(one.id))
        if not result.good and plays.play is not None and (words := words_of(target, one)):
            result = evolve(result, again=shlex.join(("xennet", *words)))
        told(result)
        results.append(result.without_trace())

    while left and len(tried) < HOPELESS:
        one = left.popleft()
        plays = play_check(target, one, traced=traced)
        if plays.play is not None:
            tried.append(plays.play)
        finish(one, plays)
    if tried and not any(play.began for play in tried):
        for one in left:
            missing = target.profile.missing(one.needs)
            finish(one, Plays(missing=missing, hopeless=tried[-1]))
    elif workers is None:
        for one in left:
            finish(one, play_check(target, one, traced=traced))
    else:
        jobs = [_Job(target, one.id, traced) for one in left]
        for one, plays in zip(left, workers.map(_play_job, jobs), strict=True):
            finish(one, plays)
    return results


@frozen
class _Job:
    """A check for another process, which knows it by its id."""

    target: Target
    check: str
    traced: bool


def _play_job(job: _Job) -> Plays:
    one = next((one for one in all_checks() if one.id == job.check), None)
    if one is None:
        raise SuiteError(f"{job.check}: workers know the checks of the package only")
    return play_check(job.target, one, traced=job.traced)


def play_check(target: Target, one: Check, *, traced: bool = False) -> Plays:
    """Play a check and its control twin. Raises SuiteError if the suite or the target breaks."""
    if missing := target.profile.missing(one.needs):
        return Plays(missing=missing)
    begin = time.perf_counter()
    twin = twins = None
    try:
        if one.field is not None:
            twin, twins = play_once(
                target, one, one.field.control, one.control_accepts, traced=traced
            )
        value = None if one.field is None else one.field.hostile
        play, trace = play_once(target, one, value, one.accepts, traced=traced)
    except Exception as error:
        raise SuiteError(f"{one.id}: {type(error).__name__}: {error}") from error
    if trace is not None and _all_problems(one, play, twin):
        play = _with_trace(target, one, value, play, trace, one.accepts)
        if twin is not None and twins is not None and one.field is not None:
            control = one.field.control
            twin = _with_trace(target, one, control, twin, twins, one.control_accepts)
    return Plays(play, twin, seconds=time.perf_counter() - begin)


def _with_trace(
    target: Target,
    one: Check,
    value: object,
    play: Play,
    trace: EventTrace,
    accepts: frozenset[Outcome],
) -> Play:
    """The play with its trace: that of the same play once more, with each access to memory, if it
    ends in the same way; else the one that was kept of it, ``trace``."""
    problems = list(_problems(play, accepts))
    if play.outcome is not Outcome.HUNG:
        # A program has a machine of its own, which no recorder reaches.
        with suppress(NotMadeWithinError), recording() as recorder:
            again, recorded = play_once(target, one, value, accepts, recorder=recorder)
            same = again.outcome == play.outcome and list(_problems(again, accepts)) == problems
            if recorded is not None and recorded.whole and same:
                trace = recorded
    place = Place.of(trace.domid, _where(play))
    lines = trace.lines(
        one.rule, play.outcome, problems, place, command=words_of(target, one), choices=play.choices
    )
    return evolve(play, trace=tuple(lines))


def words_of(target: Target, one: Check) -> tuple[str, ...]:
    """The words of the command that plays ``one`` in the same way; none if none does."""
    if not target.words:
        return ()
    words = ("check", str(target.side), *target.words, "--only", one.id)
    choices = getattr(target, "choices", OLDEST)
    return (*words, "--choices", str(choices)) if choices.others else words


def _where(play: Play) -> dict[str, Any]:
    """Where the failure of a play is, as :attr:`Result.evidence` says it."""
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
    return found


def judged(one: Check, plays: Plays, known: KnownFailure | None = None) -> Result:
    """The result of a check that was played. Raises SuiteError if there is no such rule."""
    rule = rule_book().get(one.rule)
    if rule is None:
        raise SuiteError(f"{one.id}: there is no rule {one.rule!r}")
    if plays.missing:
        return Result(one, rule, Outcome.UNSUPPORTED, True, problems=plays.missing)
    if plays.play is None:
        assert plays.hopeless is not None
        outcome, reason = plays.hopeless.outcome, plays.hopeless.reason
        why = f"it is not played: the driver was {outcome} before it, again and again ({reason})"
        return Result(one, rule, outcome, False, problems=(why,))
    play, twin = plays.play, plays.twin
    problems = _all_problems(one, play, twin)
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
        plays.seconds,
    )


def _all_problems(one: Check, play: Play, twin: Play | None) -> list[str]:
    problems = [*_problems(play, one.accepts)]
    if twin is not None:
        of_twin = _problems(twin, one.control_accepts)
        problems += [f"the control twin: {problem}" for problem in of_twin]
    return problems


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
    target: Target,
    one: Check,
    value: object,
    accepts: frozenset[Outcome],
    *,
    traced: bool = False,
    recorder: Recorder | None = None,
) -> tuple[Play, EventTrace | None]:
    """Play a check once, with ``value``, in a life of the driver of its own. Returns the play, and
    the events of its machine if they are ``traced``, or with accesses to memory if there is a
    ``recorder``."""
    session = target.open(one.nodes, one.queues)
    trace = None
    if traced or recorder is not None:
        vif = session.vif
        domid = vif.owner.domid if one.side is Side.NETBACK else vif.guest.domid
        trace = EventTrace(session.host.machine, domid, recorder)
    try:
        return _Playing(session, one, value, accepts, trace).play(), trace
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
        trace: EventTrace | None,
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
        self._seen()
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
            output=self.session.output,
            choices=self.session.choices,
            unannounced=unannounced(self.one.side, self.one.needs, self.session.log.written),
        )

    def _seen(self) -> None:
        """What is wrong, if anything is, is seen now."""
        if self.trace is not None:
            self.trace.seen()

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
            self._seen()
        except _DRIVERS_FAULTS as fault:
            self._seen()
            self.violation = Violation(f"the play could not go on: {fault}")
        if said is not None:
            return said
        self.finish = len(peer.notes)
        try:
            return self._judge(peer)
        except Violation as violation:  # of a handler that the play has left
            self.violation = self.violation or violation
            errors = refused(self.one.side, peer.notes[self.begin :])
            return Outcome.REFUSED if errors else Outcome.ANSWERED

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
        error = NodeDirectory(host.store, error_directory(directory)).optional_text("error")
        if error:
            self.reason = f"it says: {error}"
            return True
        lost = "" if self.shared is None else self.shared.lost(host.machine)
        self.reason = lost or self.reason
        return bool(lost)

    def _end(self) -> tuple[str, ...]:
        """End the life, the peer in order; what the driver still holds then."""
        try:
            if self.peer is not None and self.session.liveness is Liveness.RESTS:
                with suppress(DriverEndedError, *_DRIVERS_FAULTS):
                    self.peer.close()
            return self.session.close()
        except Violation as violation:  # of a handler that the play has left
            self.violation = self.violation or violation
            with suppress(Violation):
                self.session.close()
            return ()


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
