"""Fatal verdicts of the backend's kernels: the rule, the words for people, the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from xennet.netback import guest_rx, guest_tx


class FrontendError(Exception):
    """The frontend broke the protocol beyond repair; the vif is disabled until it reconnects.

    ``rule`` is the hardening rule, ``ring`` "tx" or "rx", ``index`` the ring index, ``raw`` the
    words that were read there, ``text`` what is wrong, without them.
    """

    def __init__(self, rule: str, ring: str, index: int, raw: tuple[int, ...], text: str) -> None:
        shown = " ".join(f"{word:08x}" for word in raw)
        super().__init__(f"{ring} ring, index {index}: {text} [{rule}; raw words {shown or '-'}]")
        self.rule = rule
        self.ring = ring
        self.index = index
        self.raw = raw
        self.text = text


class _Verdict(NamedTuple):
    rule: str
    text: str
    words: int  # how many words of evidence the kernel leaves


_TX = {
    guest_tx.PROD_OVERFLOW: _Verdict("F1", "req_prod is more than a ring past req_cons", 1),
    guest_tx.MISSING_SLOTS: _Verdict("F2", "more_data, but no request behind it", 0),
    guest_tx.TOO_MANY_SLOTS: _Verdict("F3", "more than 20 additional slots in a packet", 0),
    guest_tx.CROSSES_PAGE: _Verdict("F5", "offset + size reach beyond the page", 3),
    guest_tx.MISSING_EXTRA: _Verdict("F8", "extra_info, but no slot behind it", 0),
    guest_tx.BAD_EXTRA_TYPE: _Verdict("F9", "extra info of type 0 or of an unknown type", 2),
    guest_tx.GSO_SIZE_ZERO: _Verdict("F10", "GSO with segments of size 0", 2),
    guest_tx.BAD_GSO_TYPE: _Verdict("F10", "GSO of neither TCPv4 nor TCPv6", 2),
}
_RX = {
    guest_rx.PROD_OVERFLOW: _Verdict("F1", "req_prod is more than a ring past req_cons", 1),
}


def tx_error(res: Sequence[int]) -> FrontendError:
    """The exception for a fatal verdict of guest_tx.take_requests, from its result vector."""
    verdict = _TX[res[guest_tx.R_VERDICT]]
    raw = tuple(res[guest_tx.R_WORD0 : guest_tx.R_WORD0 + verdict.words])
    return FrontendError(verdict.rule, "tx", res[guest_tx.R_INDEX], raw, verdict.text)


def rx_error(res: Sequence[int]) -> FrontendError:
    """The exception for a fatal verdict of guest_rx.take_requests, from its result vector."""
    verdict = _RX[res[guest_rx.R_VERDICT]]
    raw = (res[guest_rx.R_WORD0],)
    return FrontendError(verdict.rule, "rx", res[guest_rx.R_INDEX], raw, verdict.text)
