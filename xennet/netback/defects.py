"""How a backend that has defects shows them, so that a run can name them."""

from __future__ import annotations

from attrs import frozen


class BackendPanic(Exception):  # noqa: N818 - a panic is what it is called
    """The driver domain's kernel is gone.

    ``reason`` tells what happened with the numbers that led there; ``rule`` names the defect rows
    that end in this place, separated by "/" ("A9", "A1/A2"), or is "mbuf".
    """

    def __init__(self, reason: str, rule: str) -> None:
        super().__init__(f"{reason} [{rule}]")
        self.reason = reason
        self.rule = rule


@frozen
class DefectStruck:
    """In domain ``domid`` defect ``row`` (xennet.netback.xnb) damaged a packet for or from domain
    ``otherend_id``; ``what`` happens to such a packet, in words."""

    domid: int
    otherend_id: int
    row: str
    what: str
