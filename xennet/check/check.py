"""What a check is, and all checks that there are.

A check is a function ``play(peer, value)`` with :func:`check` in front. The runner gives it a peer
that is connected to the driver under test, and plays it twice, in two lives of the driver: with the
hostile value of its field, and, as its control twin, with the control value, so that the two
differ in exactly that field. A check without a field is played once; it has no hostile move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from importlib import import_module
from pkgutil import walk_packages
from typing import Any, TypeVar

from attrs import evolve, frozen
from attrs import field as attribute

from xennet.check.outcome import SEEN, Outcome
from xennet.check.profile import require_known

#: The packages whose modules have checks.
_PACKAGES = ("xennet.check.checks_netback", "xennet.check.checks_netfront")


class Side(StrEnum):
    """The driver under test."""

    NETBACK = "netback"
    NETFRONT = "netfront"


class Violation(Exception):  # noqa: N818 (what is raised is the verdict, not an error of ours)
    """The driver under test broke the rule of the check.

    ``message`` is one sentence with what was expected and what was seen. The evidence, as far as
    it is known: ``ring`` ("tx", "rx", "ctrl") and ``index`` of the slot, its ``raw`` bytes,
    the ``path`` of a node in the store, and a ``hint``, one line for the author of the driver.
    """

    def __init__(
        self,
        message: str,
        *,
        ring: str = "",
        index: int | None = None,
        raw: bytes = b"",
        path: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.message, self.ring, self.index = message, ring, index
        self.raw, self.path, self.hint = raw, path, hint


@frozen
class Field:
    """The one field in which a hostile move differs from its control twin: its ``name``, and its
    value in either. The values are what ``play`` makes of them: mostly numbers."""

    name: str
    hostile: Any
    control: Any


#: ``play(peer, value)``: returns None, or the outcome that it has seen itself; the runner then
#: sends no probe. It raises Violation.
PlayFunction = Callable[[Any, Any], Outcome | None]
_P = TypeVar("_P", bound=Callable[..., Any])


@frozen
class Check:
    """One check: ``play`` faces a driver of the ``side``, for the ``rule`` (an id of the rule
    book).

    ``accepts``: the outcomes that keep the rule; ``control_accepts``: those of the control twin.
    ``needs``: the features without which it cannot be played. ``queues``: queues of the vif.
    ``connect``: whether the peer is connected when the play begins; if not the play has to do it.
    ``probe``: whether a well-formed probe follows. ``may_hold``: whether the driver may keep pages
    or grants for ever after such a move. ``nodes``: nodes that the toolstack writes into the
    directory of the driver under test before it starts, as of ``xl network-attach``. ``hint``: one
    line for the author of a driver that fails.
    """

    id: str
    rule: str
    side: Side
    accepts: frozenset[Outcome]
    summary: str
    play: PlayFunction = attribute(repr=False)
    field: Field | None = None
    needs: frozenset[str] = frozenset()
    queues: int = 1
    control_accepts: frozenset[Outcome] = frozenset({Outcome.ANSWERED})
    connect: bool = True
    probe: bool = True
    may_hold: bool = False
    nodes: dict[str, str] = attribute(factory=dict)
    hint: str = ""

    def __attrs_post_init__(self) -> None:
        require_known(self.needs, self.id)
        if not self.accepts or (self.accepts | self.control_accepts) - SEEN:
            raise ValueError(f"{self.id}: it has to accept outcomes that can be seen")
        if not self.summary:
            raise ValueError(f"{self.id}: its function needs a docstring")


_CHECKS: dict[str, Check] = {}


def check(
    *,
    id: str,
    rule: str,
    side: Side,
    accepts: set[Outcome] | frozenset[Outcome] = frozenset({Outcome.ANSWERED}),
    needs: set[str] | frozenset[str] = frozenset(),
    **options: Any,
) -> Callable[[_P], _P]:
    """Make a check of the function below and enter it into the list of all; the arguments are the
    members of :class:`Check`. The first paragraph of its docstring is the summary. Raises
    ValueError for an id that is taken."""

    def enter(play: _P) -> _P:
        summary = " ".join((play.__doc__ or "").partition("\n\n")[0].split())
        if id in _CHECKS:
            raise ValueError(f"there are two checks {id!r}")
        _CHECKS[id] = Check(
            id=id,
            rule=rule,
            side=side,
            accepts=frozenset(accepts),
            needs=frozenset(needs),
            summary=summary,
            play=play,
            **options,
        )
        return play

    return enter


def all_checks(side: Side | None = None) -> list[Check]:
    """All checks, or those of one side, by id. Checks of several queues need "multi-queue"."""
    for package in _PACKAGES:
        for module in walk_packages(import_module(package).__path__, f"{package}."):
            import_module(module.name)
    return sorted(_wanted(side), key=lambda one: one.id)


def _wanted(side: Side | None) -> Iterator[Check]:
    for one in _CHECKS.values():
        if side is None or one.side is side:
            needs = one.needs | ({"multi-queue"} if one.queues > 1 else frozenset())
            yield evolve(one, needs=needs)
