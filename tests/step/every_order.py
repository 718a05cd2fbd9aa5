"""Every order of a run's frames, one after the other, without any merging: what
xennet.step.explore has to agree with. Of the package it has the machine and its run only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from attrs import frozen

from xennet.engine.choice import using
from xennet.link.vifs import Stage, Vifs
from xennet.port.spec import open_ports
from xennet.run.links import run_ports
from xennet.runloop import Delivery
from xennet.step.stepped_run import Asked


@frozen
class Rest:
    """What is to be seen of a machine when no more frames flow."""

    ring_words: tuple[int, ...]
    memory: int
    now: int

    @property
    def lost(self) -> bool:
        """Whether a transmit request has no response, or a response came where an event had been
        asked for (drivers that have taken all ask for a later one)."""
        tx_req, _, tx_rsp, _, _, _, rx_rsp, rx_event = self.ring_words
        return tx_req != tx_rsp or 0 < rx_event <= rx_rsp


def rest(link: Vifs) -> Rest:
    memory, grants = link.host.machine.memory, link.host.machine.grant_tables
    words: list[int] = []
    for key in ("tx-ring-ref", "rx-ring-ref"):
        gref = int(link.host.store.read(f"{link.paths.frontend}/{key}"))
        grant = grants.grant(1, gref)
        assert grant is not None
        words += memory.u32[grant.frame * 1024 : grant.frame * 1024 + 4]
    owned = [frame for frame, owner in enumerate(memory.owner) if owner < 0x7FF0]
    data = b"".join(memory.u8[frame * 4096 : frame * 4096 + 4096] for frame in owned)
    return Rest(tuple(words), hash(data), link.host.machine.run_loop.now)


class Stopped(BaseException):
    """The run was stopped: ``ready`` deliveries were, or none, and the machine is at ``rest``."""

    def __init__(self, ready: int, rest: Rest | None) -> None:
        self.ready, self.rest = ready, rest


class Chosen:
    """The order of a run loop in which the first of ``choices`` is made where frames begin to
    flow; behind the last one ``then(link)`` is called."""

    def __init__(self, choices: Sequence[int], then: Callable[[Vifs, int], object]) -> None:
        self._left, self._then = list(choices), then
        self._ready: list[Delivery] = []

    def take(self, link: Vifs) -> None:
        self._link = link
        link.host.machine.run_loop.take_turns(self)

    def add(self, delivery: Delivery) -> None:
        self._ready.append(delivery)

    def remove(self, delivery: Delivery) -> None:
        self._ready.remove(delivery)

    def next(self) -> Delivery:
        if self._link.stage < Stage.TRAFFIC:
            return self._ready.pop(0)
        if not self._left:
            self._then(self._link, len(self._ready))
        return self._ready.pop(self._left.pop(0))


def stopped(asked: Asked, choices: Sequence[int]) -> Stopped:
    """The run behind ``choices``: where the next one would be made, or no more frames flow."""

    def stop(link: Vifs, ready: int) -> None:
        raise Stopped(ready, rest(link) if not ready else None)

    def made(link: object) -> None:
        assert isinstance(link, Vifs)
        Chosen(choices, stop).take(link)
        carry = link.carry

        def carried(waiting: Callable[[], int | None] | None = None) -> None:
            carry(waiting)
            stop(link, 0)

        link.carry = carried  # type: ignore[method-assign]

    guests, hosts = open_ports(asked.guests), open_ports(asked.hosts)
    try:
        with using("plain"):
            run_ports(guests, hosts, asked.options, lambda *_: None, made=made)
    except Stopped as where:
        return where
    raise AssertionError("the run was not stopped")


def every_order(asked: Asked) -> Counter[Rest]:
    """How many orders of all deliveries, as long as frames flow, come to each rest."""
    return Counter(_rests(asked, []))


def _rests(asked: Asked, choices: list[int]) -> Iterator[Rest]:
    where = stopped(asked, choices)
    if where.rest is not None:
        yield where.rest
    for choice in range(where.ready):
        yield from _rests(asked, [*choices, choice])
