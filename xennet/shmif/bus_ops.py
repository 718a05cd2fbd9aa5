"""The operations on a locked bus: writing frames and reading them (libshmif shmif_busops.c).

Two kernels, called with the lock held (xennet.shmif.bus_lock):

    put_frames    frames of a batch -> the bus                     (if_shmem.c shmif_snd)
    take_frames   the bus -> a batch, from a reader's position on  (if_shmem.c shmif_rcv)

``bus`` is one argument: ``mem``, the words of struct shmif_mem; ``data``, the bytes behind it;
``header`` and ``header32``, scratch memory for packet headers, as bytes and as words, for the bus
may cut a header anywhere; ``form``, the header's size in bytes and the word of sp_sender.

An offset counts data bytes. A frame lies behind its header; both go on at offset 0 where the data
ends. Any process may have written anything there: every length and offset is judged after it is
loaded and before it is used, and a verdict other than OK names the offset (xennet.shmif.bus_file).
"""

from __future__ import annotations

from typing import TypeAlias

from xennet.abi.shmifvar import (
    BUSMEM_DATASIZE,
    MEM_W_first,
    MEM_W_gen,
    MEM_W_last,
    PKT_W_len,
    PKT_W_sec,
    PKT_W_usec,
)
from xennet.engine.kernel import Bytes, U32Array, U32Words, Vector
from xennet.frames import ETHERNET_HEADER
from xennet.ring import MASK32

#: mem, data, header, header32, form.
BusViews: TypeAlias = "tuple[U32Words, Bytes, Bytes, U32Array, U32Array]"
#: data, offset, length, flags, gso_size, gso_type, hash_info, timestamp of a FrameBatch.
BatchViews: TypeAlias = (
    "tuple[Bytes, U32Array, U32Array, U32Array, U32Array, U32Array, U32Array, Vector]"
)

#: Verdicts, in res[R_VERDICT]; the place is in res[R_PLACE], what is there in res[R_FOUND].
OK = 0
#: shm_first beyond the data, shm_last not in it.
BAD_FIRST = 1
BAD_LAST = 2
#: A packet header with a length that runs past the data, or longer than the reader takes.
BAD_LENGTH = 3
#: Headers, one after the other from shm_first on, that do not lead to the newest frame.
ASTRAY = 4

#: In res[R_MORE].
MORE = 1
FULL = 2

# Indices of the result vector.
R_VERDICT = 0
R_PLACE = 1
R_FOUND = 2
#: Frames that were written, or appended to the batch; bytes of them.
R_FRAMES = 3
R_BYTES = 4
#: MORE if the limit was reached, FULL if the batch has no room for the next frame, else 0.
R_MORE = 5
#: Number of times the reader had fallen behind and lost frames.
R_OVERRUNS = 6
#: Frames that were not appended: shorter than an Ethernet header, sent by the reader itself, for
#: another address, come while the link was down.
R_SHORT = 7
R_OWN = 8
R_FOREIGN = 9
R_DOWN = 10
#: Frames that were not appended because the reader listens to one other sender only.
R_OTHERS = 11
RESULTS = 12

# Indices of a reader's state: the offset of its next frame, the generation (two words) that this
# belongs to, and where the bus stood when it had last fallen behind.
S_NEXT = 0
S_GEN = 1
S_LOST = 3
STATE = 6

# Indices of the card of a reader or writer: its sender id (two words), the six bytes of its MAC
# address, whether it is promiscuous, whether its link is down; whether it listens to one sender
# only, and that one's id (two words).
C_SENDER = 0
C_MAC = 2
C_PROMISCUOUS = 8
C_DOWN = 9
C_ONE = 10
C_PEER = 11

#: Where a reader attaches: before the newest frame, before the oldest, behind the newest.
NEWEST = 0
OLDEST = 1
BEHIND = 2

#: The word of the scratch memory from which on a header is put together; one that is read, also to
#: make room for that, is at its begin.
NEW_HEADER = 6
#: Bytes of the scratch memory.
SCRATCH = 2 * 4 * NEW_HEADER

# Indices of the form.
F_SIZE = 0
F_SENDER = 1

_END = BUSMEM_DATASIZE
#: Longest piece that shmif_busread and shmif_buswrite assert.
_LONGEST = BUSMEM_DATASIZE // 2 - 1
_SECOND, _MICROSECOND = 10**9, 1000


def advance(at: int, count: int) -> int:
    """The offset ``count`` bytes behind ``at`` (shmif_advance): the data's size is taken off at
    most once."""
    return at + count - _END if at + count >= _END else at + count


def copy_out(data: Bytes, at: int, into: Bytes, into_at: int, count: int) -> None:
    """Read ``count`` bytes (less than the data's size) from offset ``at`` on, which may be the
    end."""
    piece = count if count <= _END - at else _END - at
    rest = count - piece
    into[into_at : into_at + piece] = data[at : at + piece]
    if rest:
        into[into_at + piece : into_at + count] = data[0:rest]


def load_header(bus: BusViews, at: int) -> int:
    """Read the packet header at ``at`` into the scratch memory. Returns its sp_len, or -1 if no
    frame of that length can be on a bus."""
    _, data, header, header32, form = bus
    size = form[F_SIZE]
    if at + size <= _END:
        header[0:size] = data[at : at + size]
    else:
        copy_out(data, at, header, 0, size)
    length: int = header32[PKT_W_len]
    return -1 if length > _LONGEST - size else length


def next_packet(bus: BusViews, at: int, res: Vector) -> int:
    """The offset of the header that follows the frame whose header is at ``at`` (shmif_nextpktoff).
    Returns -1, with a verdict in ``res``, if the frame's length is impossible."""
    _, _, _, header32, form = bus
    size = form[F_SIZE]
    length = load_header(bus, at)
    if length < 0:
        res[R_VERDICT] = BAD_LENGTH
        res[R_PLACE] = at
        res[R_FOUND] = header32[PKT_W_len]
        return -1
    behind = at + size + length
    return behind - _END if behind >= _END else behind  # shmif_advance


def check_ends(mem: U32Words, res: Vector) -> None:
    """Judge shm_first and shm_last."""
    first, last = mem[MEM_W_first], mem[MEM_W_last]
    if first > _END:
        res[R_VERDICT] = BAD_FIRST
        res[R_PLACE] = MEM_W_first
        res[R_FOUND] = first
    elif last >= _END:
        res[R_VERDICT] = BAD_LAST
        res[R_PLACE] = MEM_W_last
        res[R_FOUND] = last


def advance_first(bus: BusViews, at: int, count: int, res: Vector) -> None:
    """Drop the oldest frames: as many as ``count`` bytes written from ``at`` on will overwrite
    (shmif_advancefirst). Called before these bytes are written, so the headers are still whole.

    The loop ends: each step leads forward by at least a header and at most half the data, so it
    leaves the window of the comparison, which is shorter.
    """
    mem, _, _, _, form = bus
    size = form[F_SIZE]
    first = mem[MEM_W_first]
    # first + size is not taken modulo the data's size (shmif_busops.c).
    while at <= first + size and at + count > first:
        first = next_packet(bus, first, res)
        if first < 0:
            return
        mem[MEM_W_first] = first


def copy_in(bus: BusViews, at: int, source: Bytes, source_at: int, count: int, res: Vector) -> int:
    """Write ``count`` bytes (less than half the data's size) at offset ``at`` (shmif_buswrite).

    The oldest frames make room first, for each of the two pieces. Returns 1 if the first piece
    ended where the data ends.
    """
    _, data, _, _, _ = bus
    piece = count if count <= _END - at else _END - at
    rest = count - piece
    wrapped = 1 if at + piece == _END else 0
    advance_first(bus, at, piece + wrapped, res)
    if res[R_VERDICT] == OK:
        data[at : at + piece] = source[source_at : source_at + piece]
        if rest:
            advance_first(bus, 0, rest, res)
            if res[R_VERDICT] == OK:
                data[0:rest] = source[source_at + piece : source_at + count]
    return wrapped


def prepare_header(card: U32Array, header32: U32Array, form: U32Array) -> None:
    """Fill in what all packet headers of a sender have in common: its id, and zeros where padding
    is (the seed leaves its stack there)."""
    for word in range(form[F_SIZE] // 4):
        header32[NEW_HEADER + word] = 0
    sender = NEW_HEADER + form[F_SENDER]
    header32[sender] = card[C_SENDER]
    header32[sender + 1] = card[C_SENDER + 1]


def put_cut(
    bus: BusViews, at: int, behind: int, payload: Bytes, start: int, size: int, res: Vector
) -> int:
    """Write a header at ``at`` and a frame's payload at ``behind``, where the end of the data may
    cut either. Returns 1 if one of them reached the end."""
    _, _, header, _, form = bus
    wrapped = copy_in(bus, at, header, 4 * NEW_HEADER, form[F_SIZE], res)
    if res[R_VERDICT] == OK:
        wrapped |= copy_in(bus, behind, payload, start, size, res)
    return wrapped


def put_frames(
    start: int,
    count: int,
    now: int,
    bus: BusViews,
    batch: BatchViews,
    card: U32Array,
    res: Vector,
) -> None:
    """Write frames ``start`` to ``start + count - 1`` of a batch to the bus, one after the other. A
    frame without a time stamp gets the time ``now``, in nanoseconds.

    A frame is published when it is whole: shm_last first, then shm_gen if the frame reached the end
    of the data, which counts once for each frame.
    """
    mem, data, header, header32, form = bus
    payload, offset, length, _, _, _, _, timestamp = batch
    for place in range(RESULTS):
        res[place] = 0
    check_ends(mem, res)
    if res[R_VERDICT] != OK:
        return
    head, written = form[F_SIZE], 0
    prepare_header(card, header32, form)
    at = next_packet(bus, mem[MEM_W_last], res)
    if at < 0:
        return
    for i in range(start, start + count):
        size, source = length[i], offset[i]
        time = timestamp[i] if timestamp[i] else now
        header32[NEW_HEADER + PKT_W_len] = size
        header32[NEW_HEADER + PKT_W_sec] = time // _SECOND & MASK32
        header32[NEW_HEADER + PKT_W_usec] = time % _SECOND // _MICROSECOND
        behind = at + head
        after, wrapped = behind + size, 0
        if after < _END:
            # As two calls of copy_in, one piece each: what makes room for the header and then for
            # the payload makes it for both.
            advance_first(bus, at, head + size, res)
            if res[R_VERDICT] == OK:
                data[at:behind] = header[4 * NEW_HEADER : 4 * NEW_HEADER + head]
                data[behind:after] = payload[source : source + size]
        else:
            behind, after = advance(at, head), advance(advance(at, head), size)
            wrapped = put_cut(bus, at, behind, payload, source, size, res)
        if res[R_VERDICT] != OK:
            break
        mem[MEM_W_last] = at
        if wrapped:
            gen = mem[MEM_W_gen]
            if gen == MASK32:
                mem[MEM_W_gen + 1] = (mem[MEM_W_gen + 1] + 1) & MASK32
            mem[MEM_W_gen] = (gen + 1) & MASK32
        at = after
        res[R_FRAMES] += 1
        written += size
    res[R_BYTES] = written


def attach(where: int, bus: BusViews, state: U32Array, res: Vector) -> None:
    """Put a reader before the newest frame (NEWEST), which is then read again, as shmif_init does;
    before the oldest frame that is whole (OLDEST), as shmif_dumpbus does; or behind the newest one
    (BEHIND), as if all had been read.

    Where the newest frame reached the end of the data, the frames before it belong to the
    generation before; the seed forgets this, and reads the whole bus again.
    """
    mem, _, _, _, _ = bus
    for place in range(RESULTS):
        res[place] = 0
    check_ends(mem, res)
    if res[R_VERDICT] != OK:
        return
    first, last = mem[MEM_W_first], mem[MEM_W_last]
    end = next_packet(bus, last, res)
    if end < 0:
        return
    for place in range(STATE):
        state[place] = 0
    gen, gen_high = mem[MEM_W_gen], mem[MEM_W_gen + 1]
    if where == BEHIND:
        set_position(state, end, gen, gen_high, 0)
        return
    at = first if where == OLDEST else last
    set_position(state, at, gen, gen_high, 1 if at >= end else 0)


def set_position(state: U32Array, at: int, gen: int, gen_high: int, behind: int) -> None:
    """Put a reader at offset ``at``, ``behind`` (0 or 1) generations before the generation ``gen``,
    ``gen_high``."""
    state[S_NEXT] = at
    state[S_GEN] = (gen - behind) & MASK32
    state[S_GEN + 1] = (gen_high - 1) & MASK32 if behind > gen else gen_high


def window(first: int, end: int, behind: int) -> tuple[int, int]:
    """The lowest and the highest offset at which a reader's next frame is still on the bus; 1, 0 if
    the reader has fallen behind wherever it stands (if_shmem.c stillvalid_p).

    ``end``: the offset behind the newest frame; ``behind``: generations between the bus and the
    reader, mod 2^32. Where the data wraps, offsets of the newer generation are one data size
    further on.
    """
    if behind > 1:
        return 1, 0
    if first < end:
        return (first, end) if behind == 0 else (1, 0)
    if behind == 0:
        return first - _END, end
    return first, end + _END


def starts_over(mem: U32Words, state: U32Array, first: int, end: int, res: Vector) -> None:
    """Put a reader that has fallen behind to the oldest frame, and count it.

    The generation there is the one before where the data wraps, the same test as in window:
    the seed compares with the newest frame's offset, and reads for ever if that frame wraps. A
    reader that falls behind again on a bus that has not moved follows headers that lead nowhere.
    """
    gen, last = mem[MEM_W_gen], mem[MEM_W_last]
    if res[R_OVERRUNS] or (
        state[S_LOST] == first + 1 and state[S_LOST + 1] == last and state[S_LOST + 2] == gen
    ):
        res[R_VERDICT] = ASTRAY
        res[R_PLACE] = first
        res[R_FOUND] = last
        return
    res[R_OVERRUNS] += 1
    state[S_LOST] = first + 1  # 0: it never has
    state[S_LOST + 1] = last
    state[S_LOST + 2] = gen
    set_position(state, first, gen, mem[MEM_W_gen + 1], 1 if first >= end else 0)


def wanted(payload: Bytes, at: int, header32: U32Array, sender: int, card: U32Array) -> int:
    """The index in ``res`` of the counter for a frame, decided in the order of shmif_rcv."""
    if card[C_DOWN]:
        return R_DOWN
    if header32[sender] == card[C_SENDER] and header32[sender + 1] == card[C_SENDER + 1]:
        return R_OWN
    if card[C_ONE] and (
        header32[sender] != card[C_PEER] or header32[sender + 1] != card[C_PEER + 1]
    ):
        return R_OTHERS
    if card[C_PROMISCUOUS] or payload[at] & 1:
        return R_FRAMES
    same = 0
    while same < 6 and payload[at + same] == card[C_MAC + same]:
        same += 1
    return R_FRAMES if same == 6 else R_FOREIGN


def take_frames(
    limits: U32Array,
    bus: BusViews,
    batch: BatchViews,
    card: U32Array,
    state: U32Array,
    res: Vector,
) -> None:
    """Read frames from a reader's position on, and append those that it wants to a batch.

    ``limits``: frames and bytes that the batch has, frames that it holds at most, longest frame in
    bytes, frames to look at.
    """
    mem, data, _, header32, form = bus
    payload, offset, length, flags, gso_size, gso_type, hash_info, timestamp = batch
    count, used, head = limits[0], limits[1], form[F_SIZE]
    for place in range(RESULTS):
        res[place] = 0
    check_ends(mem, res)
    if res[R_VERDICT] != OK:
        return
    first, gen, gen_high = mem[MEM_W_first], mem[MEM_W_gen], mem[MEM_W_gen + 1]
    end = next_packet(bus, mem[MEM_W_last], res)
    if end < 0:
        return
    low, high = window(first, end, (gen - state[S_GEN]) & MASK32)
    for _look in range(limits[4]):
        at = state[S_NEXT]
        if at == end and state[S_GEN] == gen and state[S_GEN + 1] == gen_high:
            return
        if at < low or at > high:
            starts_over(mem, state, first, end, res)
            if res[R_VERDICT] != OK:
                return
            at = state[S_NEXT]
            low, high = window(first, end, (gen - state[S_GEN]) & MASK32)
        size = load_header(bus, at)
        if size < 0 or size > limits[3]:
            res[R_VERDICT] = BAD_LENGTH
            res[R_PLACE] = at
            res[R_FOUND] = header32[PKT_W_len]
            return
        behind = at + head if at + head < _END else at + head - _END  # shmif_advance
        after = behind + size
        place = R_SHORT
        if size >= ETHERNET_HEADER:
            if count >= limits[2] or used + size > len(payload):
                res[R_MORE] = FULL
                return
            if after <= _END:
                payload[used : used + size] = data[behind:after]
            else:
                copy_out(data, behind, payload, used, size)
            place = wanted(payload, used, header32, form[F_SENDER], card)
        if place == R_FRAMES:
            offset[count] = used
            length[count] = size
            flags[count] = gso_size[count] = gso_type[count] = hash_info[count] = 0
            seconds, micros = header32[PKT_W_sec], header32[PKT_W_usec]
            timestamp[count] = seconds * _SECOND + micros * _MICROSECOND
            count += 1
            used += size
            res[R_BYTES] += size
        res[place] += 1
        state[S_NEXT] = after if after < _END else after - _END
        # Either of the two reads may have ended where the data ends; that counts once.
        if at + head >= _END or after >= _END:
            set_generation_after(state)
            low, high = window(first, end, (gen - state[S_GEN]) & MASK32)
    res[R_MORE] = MORE


def set_generation_after(state: U32Array) -> None:
    """Advance a reader's generation by one."""
    if state[S_GEN] == MASK32:
        state[S_GEN + 1] = (state[S_GEN + 1] + 1) & MASK32
    state[S_GEN] = (state[S_GEN] + 1) & MASK32
