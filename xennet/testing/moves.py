"""Named misbehaviour of a hand-driven peer, and the lives it disturbs.

A :class:`Move` is one thing that a peer must not do, or that nobody expects. It is done at any
moment of the peer's life, and says whether it could be done then. Its ``value`` is what is hostile
about it; another one may be given::

    FRONTEND_MOVES["slot-beyond-page"].play(front)          # 4000 + 200 bytes: rule F5
    FRONTEND_MOVES["slot-beyond-page"].play(front, 97)      # 4000 + 97

:data:`~xennet.testing.frontend_moves.FRONTEND_MOVES` and
:data:`~xennet.testing.backend_moves.BACKEND_MOVES` have them by name. A normal life is a row of
steps (``FRONTEND_LIFE``, ``BACKEND_LIFE``), and :func:`live` puts moves in front of any of them::

    live(front, FRONTEND_LIFE, [Planned("take", FRONTEND_MOVES["grant-ended"])])

:func:`at_point` does something between two accesses of a driver in the same process. That is how a
slot is rewritten that was read already (double fetch), and a grant ends in the middle of a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from attrs import field, frozen

from xennet.adversary import Access, Adversary
from xennet.interface import HypercallError, OutOfFramesError
from xennet.ring import RingOverflowError
from xennet.testing.raw_peer import RawPeer
from xennet.xenbus.errors import XenbusError
from xennet.xenstore.errors import XsError

P = TypeVar("P", bound=RawPeer[Any])

#: What tells a peer that something cannot be done now: it has no ring, no buffer, no such grant, no
#: memory; the other end's index cannot be; the store refuses.
IMPOSSIBLE = (
    LookupError,
    RingOverflowError,
    HypercallError,
    OutOfFramesError,
    XenbusError,
    XsError,
)


@frozen
class Move(Generic[P]):
    """A misbehaviour called ``name``.

    ``concerns``: the rule of the protocol that it breaks or that says what becomes of it, by its id
    (``xennet check explain``). ``rule``: its row in docs/hardening.md, "" if there is none and it
    has to be survived all the same. ``value``: what is hostile about it, unless told otherwise.
    ``text``: what it does, in a sentence.
    """

    name: str
    concerns: str
    rule: str
    value: int
    text: str
    does: Callable[[P, int], object] = field(repr=False)

    def play(self, peer: P, value: int | None = None) -> bool:
        """Do it, with a ``value`` of 0..2^32-1. Returns whether it could be done: False if the peer
        lacks what it takes, which its notes say. The other end has not acted on it yet."""
        value = self.value if value is None else value
        peer.note("move", f"{self.name} ({value})")
        return attempt(peer, self.name, lambda: self.does(peer, value))


def attempt(peer: RawPeer[Any], what: str, call: Callable[[], object]) -> bool:
    """Call something that may be IMPOSSIBLE now; a note says why. Returns whether it was done."""
    try:
        call()
    except IMPOSSIBLE as error:
        peer.note("could not", what, f"{type(error).__name__}: {error}")
        return False
    return True


Moves: TypeAlias = dict[str, Move[P]]
Step: TypeAlias = Callable[[P], object]


def into(
    table: Moves[P], concerns: str, rule: str, value: int = 0
) -> Callable[[Callable[[P, int], object]], Callable[[P, int], object]]:
    """A decorator that puts a function into ``table`` as a move: the name is the function's with
    dashes, the text its docstring."""

    def put(does: Callable[[P, int], object]) -> Callable[[P, int], object]:
        name = does.__name__.replace("_", "-")
        text = " ".join((does.__doc__ or "").replace("``", "").split())
        table[name] = Move(name, concerns, rule, value, text, does)
        return does

    return put


@frozen
class Planned(Generic[P]):
    """A move to be done in front of a step; ``value`` None for the move's own."""

    step: str
    move: Move[P]
    value: int | None = None


def live(
    peer: P,
    life: Mapping[str, Step[P]],
    plan: Sequence[Planned[P]] = (),
    *,
    steps: Sequence[str] | None = None,
    settle: bool = True,
) -> list[str]:
    """Have a peer live through the steps of a life, with the moves that are planned.

    ``steps``: their names in another order, None for that of the life; the moves in front of a step
    are done where it is first.

    A step that is not possible any more after what was done is left out. ``settle``: everything
    settles after each step and each move, so that the other end acts on it. Returns the names of
    the moves that could be done.
    """
    done = []
    left = list(plan)
    for name in life if steps is None else steps:
        for planned in [one for one in left if one.step == name]:
            left.remove(planned)
            if planned.move.play(peer, planned.value):
                done.append(planned.move.name)
            if settle:
                peer.settle()
        peer.note("step", name)
        attempt(peer, name, partial(life[name], peer))
        if settle:
            peer.settle()
    return done


@contextmanager
def at_point(
    adversary: Adversary,
    number: int,
    act: Callable[[], object],
    where: Callable[[Access], bool] = lambda access: True,
) -> Iterator[list[Access]]:
    """Within the block ``act()`` is called once, right behind the access to shared memory that is
    the ``number``-th (from 1) of those that ``where`` picks.

    The driver whose accesses they are has been set up with ``adversary`` as the engine
    (xennet.adversary). Yields a list that has the access then; it stays empty if there are fewer.
    """
    met: list[Access] = []
    seen = 0

    def watch(access: Access) -> None:
        nonlocal seen
        if where(access):
            seen += 1
            if seen == number:
                met.append(access)
                act()

    with adversary.watching(watch):
        yield met
