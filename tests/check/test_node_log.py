"""What a driver writes into its directory is logged from its first start on, in order."""

from __future__ import annotations

import pytest

from xennet.check.builtin_target import BUILTIN
from xennet.check.check import Side


@pytest.mark.parametrize("name", ["linux", "xnb"])
def test_a_netback_writes_its_features_before_initwait(name: str) -> None:
    session = BUILTIN[Side.NETBACK, name].open({}, 1)
    written = session.log.written
    assert written.index(("feature-rx-copy", b"1")) < written.index(("state", b"2"))
    session.close()


def test_a_netfront_is_logged_from_its_first_state_on() -> None:
    session = BUILTIN[Side.NETFRONT, "windows"].open({}, 1)
    assert ("state", b"5") in session.log.written  # its first cycle
    session.close()
