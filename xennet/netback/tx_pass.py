"""A pass over the guest-transmit ring: its memory, its kernels, the grant copy between them."""

from __future__ import annotations

from array import array
from collections.abc import Callable

from xennet.abi.words import COPY_STRIDE, TX_SLOTS
from xennet.engine.choice import current, is_compiled
from xennet.frames import CSUM_BLANK, FrameBatch
from xennet.netback import guest_tx, tx_checksum
from xennet.netback.known_headers import KnownHeaders
from xennet.netback.pass_setup import PassSetup
from xennet.vif.passlog import PassLog


class TxPass:
    """Runs the kernels of one guest-transmit ring.

    It has TX_SLOTS staging pages, and checks every frame, whatever the frontend's features say.
    After :meth:`run`, ``batch`` holds the packets and ``res`` (indices
    guest_tx.R_*) what happened. ``take_args``, ``put_args``, ``judge_args`` and ``await_args``
    are the fixed arguments of the kernels, and ``ops`` is the copy table, for those who call the
    kernels of ``engine`` themselves.
    """

    def __init__(self, setup: PassSetup) -> None:
        hv, ring, stage = setup.hv, setup.ring, setup.stage
        self._hv = hv
        self.config = setup.config
        self.batch = FrameBatch(stage.u8, TX_SLOTS)
        self.res = array("q", bytes(8 * guest_tx.RESULTS))
        self._state = array("q", bytes(8 * guest_tx.STATES))
        self.credit = guest_tx.UNLIMITED
        self.ops = memoryview(bytearray(4 * COPY_STRIDE * guest_tx.MAX_OPS)).cast("I")

        self.engine = engine = current()
        self.log = PassLog(hv, engine)
        view = engine.view
        rings = view(ring.sring.u32), view(ring.pvt)
        ops = view(self.ops)
        slots = (*(view(_words(TX_SLOTS)) for _ in range(4)), view(_words(guest_tx.EXTRA_WORDS)))
        frames, res = self.batch.for_kernels(view), view(self.res)
        self._take_requests = engine.kernel(guest_tx.take_requests)
        self.take_args = (
            rings,
            setup.otherend_id,
            view(self.config),
            slots,
            ops,
            stage.first,
            frames,
            view(self._state),
            res,
        )
        self._put_responses = engine.kernel(guest_tx.put_responses)
        self.put_args = (rings, slots, ops, frames, res)
        self._judge_checksums: Callable[..., int] = KnownHeaders().judge
        if is_compiled(engine):
            self._judge_checksums = engine.kernel(tx_checksum.judge_checksums)
        self.judge_args = (slots, frames, res)
        self._await_requests = engine.kernel(guest_tx.await_requests)
        self.await_args = (rings,)

    def __repr__(self) -> str:
        return f"<TxPass {self.batch.count} frames in hand>"

    @property
    def credit(self) -> int:
        """Bytes that may still be taken. Each packet costs the size in its first request."""
        return self._state[guest_tx.S_CREDIT]

    @credit.setter
    def credit(self, value: int) -> None:
        self._state[guest_tx.S_CREDIT] = value

    def run(self, max_packets: int) -> int:
        """Take at most ``max_packets`` packets off the ring and answer them. Returns the verdict.

        Responses are published; ``res[R_NOTIFY]`` tells whether they have to be announced, and
        ``res[R_LIMITED]`` is the size of the next request if ``credit`` does not cover it, else 0.
        """
        log = self.log.arg() if self.log.interest.any else self.log.silent
        most = min(max_packets, self.batch.max_frames)
        return self.answer(self._take_requests(most, log, *self.take_args))

    def answer(self, verdict: int) -> int:
        """Copy and answer what the kernel take_requests has taken. Returns its ``verdict``."""
        res, batch = self.res, self.batch
        wanted = self.log.interest.any
        log = self.log.arg() if wanted else self.log.silent
        batch.clear()
        if res[guest_tx.R_SLOTS]:
            if res[guest_tx.R_OPS]:
                self._hv.grant_copy(self.ops, res[guest_tx.R_OPS])
            batch.count = self._put_responses(log, *self.put_args)
            if res[guest_tx.R_FLAGS_SEEN] & CSUM_BLANK:
                batch.count = self._judge_checksums(log, *self.judge_args)
            batch.used = res[guest_tx.R_BYTES]
            if wanted:
                self.log.emit()
        return verdict

    def await_requests(self) -> bool:
        """Ask for an event. Returns True if requests are there already."""
        return self._await_requests(*self.await_args) != 0


def _words(count: int) -> array[int]:
    return array("I", bytes(4 * count))
