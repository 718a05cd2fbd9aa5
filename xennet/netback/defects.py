"""How a backend with defects shows them, so that a run can name them."""

from __future__ import annotations

from xennet.observe import DefectStruck as DefectStruck


class BackendPanic(Exception):  # noqa: N818 - a panic is what it is called
    """The driver domain's kernel has ended.

    ``reason`` tells what happened, with numbers; ``rule`` names the defect rows that end in this
    place, separated by "/" ("A9", "A1/A2"), or is "mbuf".
    """

    def __init__(self, reason: str, rule: str) -> None:
        super().__init__(f"{reason} [{rule}]")
        self.reason = reason
        self.rule = rule
