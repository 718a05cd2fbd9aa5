"""Ports of a run that can be made anew."""

from __future__ import annotations

from xennet.port.base import PortError
from xennet.port.files import STANDARD
from xennet.port.spec import parse

#: Schemes of ports that give the same each time, which is how a step is undone.
_THE_SAME_AGAIN = frozenset(("gen", "tcp", "tcp6", "pcap", "null", "echo"))


def require_the_same_again(spec: str) -> None:
    """Raises PortError for a port that cannot give its frames a second time, or that keeps them."""
    for part in parse(spec):
        scheme = part.scheme.usage.partition(":")[0]
        if scheme not in _THE_SAME_AGAIN or part.file == STANDARD:
            raise PortError(
                f"{spec}: steps are undone by a run that is made anew, which this port cannot be "
                f"in: {', '.join(sorted(_THE_SAME_AGAIN))} can"
            )
