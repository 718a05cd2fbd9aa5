"""netmap's native adapter, plain and compiled: the same slots, buffers, requests and memory."""

from __future__ import annotations

from random import Random
from zlib import crc32

import pytest
from both import on_both
from native_world import N, NativeWorld, frame

from xennet.abi.netif import NETRXF_csum_blank, NETRXF_more_data
from xennet.abi.netmap import NS_BUF_CHANGED, NS_MOREFRAG, NS_REPORT

_FLAGS = [0, 0, 0, NS_REPORT | NS_BUF_CHANGED, NS_MOREFRAG]
_LENGTHS = [0, 13, 14, 60, 1514, 2048, 2049, 65535]


@pytest.mark.parametrize("seed", range(4))
def test_a_client_and_a_backend_see_the_same(seed: int) -> None:
    def run() -> tuple[object, ...]:
        random = Random(seed)
        world = NativeWorld(9000, buf_size=4096)
        world.device.state.now_us = lambda: 0
        client, seen, pending = world.client, [], []
        for turn in range(60):
            head, _, tail = world.tx.shown()
            for _ in range(random.randrange((tail - head) % N + 1)):
                index = client.slot(True, head)[0]
                index = random.choice([index] * 20 + [1])
                client.put(head, frame(turn, 100))
                client.set_slot(True, head, index, random.choice(_LENGTHS), random.choice(_FLAGS))
                head = (head + 1) % N
            client.write(True, head, head)
            seen.append(client.txsync())
            packets = world.sent()
            seen.append(packets)
            pending += [ident for packet in packets for ident in packet.ids]
            random.shuffle(pending)
            world.answer(*pending[10:])
            del pending[10:]
            for _ in range(min(random.randrange(40), max(world.posted - 2, 0))):
                flags = random.choice([0, 0, NETRXF_csum_blank, NETRXF_more_data])
                world.raw.rx(frame(turn, random.choice([14, 60, 4096])), flags)
                if flags == NETRXF_more_data:
                    world.raw.rx(b"the rest")
                    break
            world.raw.push_rx()
            seen.append(client.rxsync())
            head, _, tail = world.rx.shown()
            head = (head + random.randrange((tail - head) % N + 1)) % N
            client.write(False, head, head)
            seen.append((client.rxsync(), world.tx.shown(), world.rx.shown(), world.posted))
            seen.append(world.end.refused)
        granted = [crc32(buffers.pages.u8) for buffers in world.raw.queue._shares._granted]
        memory = crc32(client.region.u8), granted
        return (*seen, memory, world.raw.counters, world.raw.broken)

    plain, fast = on_both(run)
    assert plain == fast
