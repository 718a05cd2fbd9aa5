"""The data path alone: the kernels of both drivers and the grant copy, called by a kernel.

It does what xennet/bench/climit.c does in C, with the project's own kernels, on the memory of a
connected vif: no event is delivered and no port is asked for frames in between. The difference to
the whole link is what Python adds to each pass.
"""

from __future__ import annotations

import time
from typing import Any

from attrs import frozen

from xennet.engine.choice import current
from xennet.engine.kernel import LOG_HEADER, LOG_USED
from xennet.frames import FrameBatch
from xennet.gnttab.copy import grant_copy
from xennet.host.host import DOM0
from xennet.link.vif import VifLink
from xennet.netback.guest_tx import R_OPS, await_requests, put_responses, take_requests
from xennet.netback.tx_pass import TxPass
from xennet.netfront.guest_tx import put_requests, take_responses
from xennet.port import open_port
from xennet.vif.ring_events import new_log, silent_log


def carry(
    total: int,
    batch: int,
    caller: int,
    ops: Any,
    res: Any,
    log: Any,
    put_requests_args: Any,
    take_requests_args: Any,
    copy_args: Any,
    put_responses_args: Any,
    await_requests_args: Any,
    take_responses_args: Any,
) -> int:
    """A kernel: carry ``total`` frames, at most ``batch`` at a time. Returns how many arrived.

    ``*_args`` are the arguments of the kernel of that name, from its fixed part on. Frames have no
    blank checksums: these would have to be judged as well (tx_checksum.py).
    """
    arrived = 0
    while arrived < total:
        left = total - arrived
        put_requests(0, left if left < batch else batch, log, *put_requests_args)
        if take_requests(batch, log, *take_requests_args):
            break
        grant_copy(ops, res[R_OPS], caller, *copy_args)
        got = put_responses(log, *put_responses_args)
        arrived += got
        await_requests(*await_requests_args)
        if got == 0 or take_responses(log, *take_responses_args):
            break
        log[LOG_USED] = LOG_HEADER
    return arrived


@frozen
class DataPath:
    """A contestant: (frame bytes, frames) -> seconds. ``log``: packet records are written."""

    log: bool = False

    def __call__(self, size: int, frames: int) -> float:
        link = VifLink(open_port("null:"), open_port("null:"))
        try:
            link.open()
            front = link.netfront.queue if link.netfront is not None else None
            back = link.netback.queue
            if front is None or back is None:
                raise RuntimeError("the vif did not connect")
            tx = back.tx
            if not isinstance(tx, TxPass):
                raise RuntimeError("the backend has no compiled pass")
            batch = _fill(front.tx.refill(), size)
            engine = current()
            run = engine.kernel(carry)
            args = (
                batch,
                DOM0,
                engine.view(tx.ops),
                engine.view(tx.res),
                engine.view(new_log() if self.log else silent_log()),
                front.tx.put_args,
                tx.take_args,
                link.machine.grant_tables.copy_args,
                tx.put_args,
                tx.await_args,
                front.tx.take_args,
            )
            run(batch, *args)  # compiles, and touches the pages
            started = time.process_time()
            arrived = run(frames, *args)
            seconds = time.process_time() - started
        finally:
            link.destroy()
        if arrived != frames:
            raise RuntimeError(f"{arrived} of {frames} frames arrived")
        return seconds


def _fill(batch: FrameBatch, size: int) -> int:
    """Fill ``batch`` with as many frames as the transmit ring takes at once. Returns how many."""
    frame = bytes(size)
    slots = -(-size // 4096)
    while batch.has_room(size) and (batch.count + 1) * slots <= 256:
        batch.append(frame)
    return batch.count
