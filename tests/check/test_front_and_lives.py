"""xennet's netfronts under every check of netfronts, its netbacks under those of their lives: what
fails is known, with a reason."""

from __future__ import annotations

import pytest

from xennet.check.builtin_target import BUILTIN
from xennet.check.check import Check, Side, all_checks
from xennet.check.known_failures import KnownFailure, built_in_known_failures
from xennet.check.runner import run_checks

#: What the kinds of netfronts share: kernels of both rings, buffers. One kind plays all.
_SHARED = ("netfront.rx.", "netfront.ring.", "netfront.grant.", "netfront.tx.whole-packets")


def wanted(side: Side, name: str) -> list[Check]:
    checks = all_checks(side)
    if side is Side.NETBACK:
        return [one for one in checks if one.id.startswith(("netback.life.", "netback.store."))]
    return [one for one in checks if name == "linux" or not one.id.startswith(_SHARED)]


def known(side: Side, name: str) -> list[KnownFailure]:
    return built_in_known_failures(f"{side}-{name}", [one.id for one in all_checks(side)])


@pytest.mark.parametrize(("side", "name"), BUILTIN)
def test_every_check_ends_as_expected(side: Side, name: str) -> None:
    checks = wanted(side, name)
    results = run_checks(BUILTIN[side, name], checks, known(side, name))
    bad = [f"{one.check.id}: {'; '.join(one.problems)}" for one in results if not one.good]
    assert bad == []
    assert len(results) == len(checks)


def test_every_check_has_a_hint_for_the_author_of_a_driver() -> None:
    assert [one.id for one in all_checks() if not one.hint] == []
