"""Verdicts of the frontend's kernels: the rule, the words for people, the evidence."""

from __future__ import annotations

from collections.abc import Sequence

from xennet.netfront import guest_rx, guest_tx
from xennet.vif.refusals import REFUSALS


class BackendError(Exception):
    """The backend broke the protocol beyond repair; the device does nothing more until it
    reconnects.

    ``rule`` is the hardening rule, ``ring`` "tx" or "rx", ``index`` the ring index, ``word`` the
    wrong index or the first raw word of the response, ``text`` what is wrong, without them.
    """

    def __init__(self, rule: str, ring: str, index: int, word: int, text: str) -> None:
        super().__init__(f"{ring} ring, index {index}: {text} [{rule}; raw word {word:08x}]")
        self.rule = rule
        self.ring = ring
        self.index = index
        self.word = word
        self.text = text


_TX = {
    guest_tx.PROD_OVERFLOW: ("B1", "rsp_prod is past everything that was requested"),
    guest_tx.BAD_ID: ("B3", "response id is not below 256"),
    guest_tx.NOT_PENDING: ("B4", "response to an id that is not pending"),
    guest_tx.STILL_GRANTED: ("B5", "response came, but the grant is still in use"),
    guest_tx.ILLEGAL_NULL: ("B7", "NULL response, but no extra info slot awaits one"),
}
_RX = {
    guest_rx.PROD_OVERFLOW: ("B1", "rsp_prod is past everything that was requested"),
    guest_rx.PROD_BACKWARDS: ("B2", "rsp_prod moved backwards"),
    guest_rx.STILL_GRANTED: ("B5", "response came, but the grant is still in use"),
}


def tx_error(res: Sequence[int]) -> BackendError:
    """The exception for a verdict of guest_tx.take_responses, from its result vector."""
    rule, text = _TX[res[guest_tx.R_VERDICT]]
    return BackendError(rule, "tx", res[guest_tx.R_INDEX], res[guest_tx.R_WORD0], text)


def rx_error(res: Sequence[int]) -> BackendError:
    """The exception for a verdict of guest_rx.take_responses, from its result vector."""
    rule, text = _RX[res[guest_rx.R_VERDICT]]
    return BackendError(rule, "rx", res[guest_rx.R_INDEX], res[guest_rx.R_WORD0], text)


def drop_reason(res: Sequence[int]) -> str:
    """One line about the last packet that guest_rx.take_responses dropped."""
    refusal = REFUSALS[res[guest_rx.R_DROP]]
    where = f"rx ring, index {res[guest_rx.R_DROP_INDEX]}"
    raw = f"{res[guest_rx.R_DROP_WORD0]:08x} {res[guest_rx.R_DROP_WORD1]:08x}"
    return f"{where}: {refusal.text} [{refusal.rule}; raw words {raw}]"
