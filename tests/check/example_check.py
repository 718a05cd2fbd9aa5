"""A check to play against drivers of the tests, and its results."""

from __future__ import annotations

from xennet.check.check import Check, Field, Side
from xennet.check.known_failures import KnownFailure
from xennet.check.outcome import Outcome
from xennet.check.peers import FrontendPeer
from xennet.check.python_target import PythonTarget
from xennet.check.runner import Result, run_checks

ID = "netback.tx.example"


def bad_slot(peer: FrontendPeer, offset: int) -> None:
    peer.tx(200, offset=offset)
    peer.push_tx()
    peer.rest()


def one_check(*accepts: Outcome, needs: frozenset[str] = frozenset()) -> Check:
    """A slot that reaches out of its page, which may end as ``accepts`` says."""
    return Check(
        id=ID,
        rule="netif.tx.slot-in-page",
        side=Side.NETBACK,
        accepts=frozenset(accepts),
        summary="A slot that reaches out of its page is not copied.",
        play=bad_slot,
        field=Field("offset", hostile=4000, control=0),
        needs=needs,
    )


def target(driver: type) -> PythonTarget:
    return PythonTarget(driver.__name__, Side.NETBACK, driver, cpu=1.0, deliveries=3000)


def run(
    driver: type, *accepts: Outcome, known: KnownFailure | None = None, traced: bool = False
) -> Result:
    """The result of the check against ``driver``."""
    results: list[Result] = []
    listed = [] if known is None else [known]
    run_checks(target(driver), [one_check(*accepts)], listed, traced=traced, told=results.append)
    return results[0]
