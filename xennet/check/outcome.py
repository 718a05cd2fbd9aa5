"""How a check can end, and how much that matters."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """How a check ended.

    The first six are seen: the driver goes on and has answered the move; it goes on and has
    answered it with an error, or not passed it on; it has given its vif up (it left Connected,
    wrote an error node, let go of its rings, or says nothing until it is connected again); it is
    Connected, and a well-formed probe gets no answer; it does not come to rest; its program or code
    has ended with an error. UNSUPPORTED is what a profile declares of a feature that a check needs,
    and is never inferred. XFAIL is a failure that the known failures list, XPASS a check that
    passes though it is listed there.
    """

    ANSWERED = "answered"
    REFUSED = "refused"
    SHUT_DOWN = "shut down"
    WEDGED = "wedged"
    HUNG = "hung"
    CRASHED = "crashed"
    UNSUPPORTED = "unsupported"
    XFAIL = "xfail"
    XPASS = "xpass"


#: The outcomes that can be seen, which a check may accept.
SEEN = frozenset(
    {
        Outcome.ANSWERED,
        Outcome.REFUSED,
        Outcome.SHUT_DOWN,
        Outcome.WEDGED,
        Outcome.HUNG,
        Outcome.CRASHED,
    }
)


class Severity(StrEnum):
    """How binding a rule is: its header demands it, or advises it, or only tells it."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    NOTE = "NOTE"


class Tier(StrEnum):
    """What a peer gains where a driver breaks the rule: memory of the driver's domain; that the
    driver, and what else it serves, crashes or hangs; that its own vif stands still; nothing."""

    MEMORY = "memory"
    CRASH = "crash"
    WEDGE = "wedge"
    NONE = "none"
