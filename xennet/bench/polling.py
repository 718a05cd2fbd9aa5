"""Calls of the harness entry per second, on structured random ring pages."""

from __future__ import annotations

import time
from functools import cache
from random import Random

from attrs import frozen

from xennet.abi.netif import TX_REQUEST
from xennet.abi.xen import PAGE_SIZE
from xennet.engine.choice import using
from xennet.netback.poll_page import FIRST_GREF, PAGES, PagePoller
from xennet.ring import tx_ring_page


@cache
def pages(count: int = 1000, seed: int = 5) -> tuple[bytes, ...]:
    """Ring pages of 1 to 8 requests that are nearly right: about half of them have an error."""
    random = Random(seed)
    return tuple(_page(random) for _ in range(count))


def _page(random: Random) -> bytes:
    requests = random.randint(1, 8)
    return tx_ring_page(
        [
            TX_REQUEST.pack(
                random.choice([FIRST_GREF + random.randrange(PAGES)] * 2 + [random.randrange(600)]),
                random.choice([0, 0, random.randrange(PAGE_SIZE)]),
                random.choice([0, 0, 0, 1, 4, 8]),
                i,
                random.choice([14, 60, 100, 1514, random.randrange(5000)]),
            )
            for i in range(requests)
        ]
    )


@frozen
class PollPage:
    """A contestant: (unused, calls) -> seconds, with the copying of each page into place."""

    engine: str

    def __call__(self, _size: int, calls: int) -> float:
        with using(self.engine):
            poller = PagePoller()
        ring, poll, corpus = poller.ring_page, poller.poll, pages()
        poll()
        rounds = max(1, calls // len(corpus))
        started = time.process_time()
        for _ in range(rounds):
            for page in corpus:
                ring[:] = page
                poll()
        seconds = time.process_time() - started
        poller.close()
        return seconds * calls / (rounds * len(corpus))
