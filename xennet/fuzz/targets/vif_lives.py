"""The targets ``lives`` and ``lives-front``: the life of a driver whose peer is driven by hand.

A step is one of the peer's life, one of its moves (xennet.testing.moves), or traffic. It is done
before the driver goes on, or at a *point*: right behind an access of the driver to a ring or to a
granted page (xennet.adversary), counted from the last step that was not. So an input says what
happens, and who comes when.

What is wrong, whatever the peer does: an exception of the driver; anything that it still holds at
the end ("leak"); a word of a slot that it loads twice in one step (rule F14); a page of the peer
that it reads after its response is published ("response-before-copy"); something that it publishes
before it is complete ("published-early"); a page that it uses again while its peer has it mapped
("page-in-use", B5); a grant table whose version changes while grants are in use ("version-in-use").
While the peer keeps to the protocol, which points do not change, also: what it never looks at again
("not-heard").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from types import MappingProxyType
from typing import Any

from xennet.abi.grant_table import GTF_permit_access, GTF_type_mask
from xennet.abi.netif import (
    RX_REQUEST,
    TX_REQUEST,
    TX_RESPONSE,
    XEN_NETIF_EXTRA_FLAG_MORE,
    NETTXF_extra_info,
)
from xennet.abi.ring import SRING_HEADER_SIZE
from xennet.abi.words import REQ_PROD, RSP_PROD
from xennet.abi.xen import PAGE_SIZE
from xennet.adversary import LOAD, Access, Adversary
from xennet.engine.choice import using
from xennet.frames import FrameBatch
from xennet.fuzz.fuzz_input import FuzzInput
from xennet.fuzz.steps_target import StepsTarget
from xennet.fuzz.target import Finding
from xennet.port.echo import EchoPort
from xennet.ring import MASK32, SharedRing
from xennet.testing.backend_moves import BACKEND_LIFE, BACKEND_MOVES
from xennet.testing.frontend_moves import FRONTEND_LIFE, FRONTEND_MOVES
from xennet.testing.moves import Move, attempt
from xennet.testing.raw_backend import RawBackend
from xennet.testing.raw_frontend import RawFrontend
from xennet.testing.raw_peer import pattern
from xennet.testing.vif_setup import VifSetup

#: What a step is, by number; 0 is a step of the peer's life.
LIFE, MOVE, SEND, POST, VERSION = range(5)
#: Steps that a peer does which keeps to the protocol.
_FAIR = (LIFE, SEND, POST)
#: What is written into a page when its response is published, and how much of it betrays a reader.
_REUSED = b"\xee" * PAGE_SIZE
_BETRAYED = b"\xee" * 32
_SIZES = (60, 200, 1514, 5000)
_MARGIN = 8
#: Memory that drivers use by themselves: no hypercall is under way behind an access to it, so the
#: peer may make one there.
_DRIVERS_MEMORY = ("tx ring", "rx ring", "ctrl ring", "tx buffers", "rx buffers")


class _Betrayed(EchoPort):
    """An echo that looks for bytes of pages that were used again."""

    def __init__(self) -> None:
        super().__init__()
        self.frame = b""

    def push(self, batch: FrameBatch) -> None:
        for frame in batch:
            if _BETRAYED in bytes(frame):
                self.frame = bytes(frame)
        super().push(batch)


class _Life:
    """One life: a vif, one end of which is driven by steps."""

    def __init__(self, target: LivesTarget, adversary: Adversary) -> None:
        self.target, self.adversary = target, adversary
        self.finding: Finding | None = None
        self.echo = _Betrayed()
        self.setup = target.made(self.echo)
        self.peer = target.peer(self.setup)
        self.peer.settle = self.settle
        self.machine = self.setup.host.machine
        self.planned: list[tuple[int, tuple[int, ...]]] = []
        self.fair = True
        self.loaded: dict[tuple[str, int], int] = {}
        self.step = -1
        self.number = 0
        self.version = 1
        #: The last value of each index that the driver has published.
        self.indices: dict[tuple[str, int], int] = {}

    def settle(self) -> None:
        """Let the driver go on, watched, with what is planned at points."""
        self._settle()
        if self.planned:  # there were fewer points
            late, self.planned = self.planned, []
            for _, values in late:
                self.act(values)
            self._settle()

    def _settle(self) -> None:
        self.number = 0
        self.loaded.clear()
        with self.adversary.watching(self._watch):
            self.setup.settle()

    def play(self, steps: Sequence[tuple[int, ...]]) -> None:
        lived = -1
        for values in steps:
            what, index = values[0] % 5, values[1]
            # Out of its order a life is none that keeps to the protocol.
            self.fair = (
                self.fair and what in _FAIR and (what != LIFE or (index > lived and not values[2]))
            )
            lived = index if what == LIFE else lived
            if values[2]:
                self.planned.append((values[2], values))
                continue
            self.act(values)
            self.settle()
        self.settle()

    def act(self, values: tuple[int, ...]) -> None:
        """Do a step, now."""
        what, index, _, value = values
        target, peer = self.target, self.peer
        what %= 5
        if what == LIFE:
            names = list(target.life)
            name = names[index % len(names)]
            attempt(peer, name, partial(target.life[name], peer))
        elif what == MOVE:
            moves: list[Move[Any]] = list(target.moves.values())
            moves[index % len(moves)].play(peer, value if value else None)
        elif what == VERSION:
            self._switch_version(1 + value % 2)
        elif self.peer.queues and self.peer.queues[0].tx_port >= 0:
            does = target.send if what == SEND else target.post
            attempt(peer, "traffic", partial(does, peer, _SIZES[index % len(_SIZES)]))

    # -- what the driver does ----------------------------------------------------------------------

    def _watch(self, access: Access) -> None:
        if access.memory not in _DRIVERS_MEMORY:
            return
        self.number += 1
        if self.machine.run_loop.steps != self.step:
            self.step = self.machine.run_loop.steps
            self.loaded.clear()
        if access.memory in ("tx ring", "rx ring"):
            if access.at >= SRING_HEADER_SIZE:
                self._slot(access)
            elif access.kind != LOAD:
                self._published(access)
        due = [values for at, values in self.planned if at == self.number]
        if due:
            self.planned = [one for one in self.planned if one[0] != self.number]
            for values in due:
                self.act(values)

    def _published(self, access: Access) -> None:
        key = access.memory, access.word
        before, self.indices[key] = self.indices.get(key, 0), access.value
        if self.peer.queues:  # else the driver is ahead of its peer, which has no rings yet
            self.target.published(self, access, before)

    def _slot(self, access: Access) -> None:
        for at in range(access.at, access.at + access.size, 4):
            key = access.memory, at
            if access.kind != LOAD:
                self.loaded.pop(key, None)
                if self.peer.queues:
                    self.target.stored(self, access)
                continue
            self.loaded[key] = self.loaded.get(key, 0) + 1
            if self.loaded[key] > 1:
                self.found("F14", f"{access}: the word is loaded again in the same step")

    def found(self, rule: str, where: str) -> None:
        """Keep the first finding."""
        self.finding = self.finding or Finding(rule, where)

    def _switch_version(self, version: int) -> None:
        domain = self.setup.vif.guest.domain
        grants = self.machine.grant_tables
        held = [
            gref
            for gref in range(_MARGIN, 64)
            if (grant := grants.grant(domain.domid, gref)) is not None and grant.pin
        ]
        if domain.set_version(version) == 0:
            if held and version != self.version:
                self.found(
                    "version-in-use", f"version {version} while references {held} are in use"
                )
            self.version = version


class LivesTarget(StepsTarget):
    """Lives of one kind of driver. A subclass says which."""

    step_fields = (("what", 1), ("index", 1), ("point", 2), ("value", 4))
    most_steps = 40
    unit_executions = 20
    life: Mapping[str, Any] = MappingProxyType({})
    moves: Mapping[str, Move[Any]] = MappingProxyType({})

    def made(self, echo: EchoPort) -> VifSetup:
        """A host with the vif."""
        raise NotImplementedError

    def peer(self, setup: VifSetup) -> Any:
        """The end that is driven by hand."""
        raise NotImplementedError

    def send(self, peer: Any, size: int) -> None:
        """Well-formed traffic for the driver, announced."""
        raise NotImplementedError

    def post(self, peer: Any, size: int) -> None:
        """What lets the driver send."""
        raise NotImplementedError

    def published(self, life: _Life, access: Access, before: int) -> None:
        """The driver has stored an index or an event field, which was ``before``."""

    def stored(self, life: _Life, access: Access) -> None:
        """The driver has stored a word of a slot."""

    def listen(self, life: _Life) -> None:
        """Find what the driver, which rests and is connected, has not looked at though it was
        published."""
        raise NotImplementedError

    def any_step(self, random: Random) -> tuple[int, ...]:
        what = random.choice((LIFE, MOVE, MOVE, SEND, SEND, POST, VERSION))
        point = random.choice((0, 0, 1 + random.randrange(60), 1 + random.randrange(400)))
        index = random.randrange(max(len(self.moves), len(self.life)))
        return what, index, point, random.choice((0, 0, 0, random.getrandbits(16)))

    def start(self, random: Random) -> FuzzInput:
        """The peer's whole life, with something that comes in between; or the life of a peer that
        keeps to the protocol, up to its end, with traffic at points."""
        # A life's first step is 0 in all its fields but the last, and so it is not left out.
        life = [(LIFE, number, 0, 1) for number in range(len(self.life))]
        if random.randrange(2):
            connected = life[: list(self.life).index("closing")]
            pairs = [self._traffic(random) for _ in range((self.most_steps - len(connected)) // 2)]
            return self._steps([*connected, *(step for pair in pairs for step in pair)])
        steps: list[tuple[int, ...]] = []
        for step in life:
            while random.randrange(6) == 0:
                steps.append(self.any_step(random))
            if random.randrange(2):
                steps += self._traffic(random)
            steps.append(step)
        return self._steps(steps)

    def _traffic(self, random: Random) -> list[tuple[int, ...]]:
        """Traffic, and more of it at a point while the driver looks at it."""
        return [
            (random.choice((SEND, POST)), random.randrange(4), point, 0)
            for point in (1 + random.randrange(40), 0)
        ]

    def _steps(self, steps: Sequence[tuple[int, ...]]) -> FuzzInput:
        return self._input([self.packed(step) for step in steps])

    def play(self, steps: Sequence[tuple[int, ...]]) -> Finding | None:
        adversary = Adversary()
        with using(adversary):  # memory that is set up later in the life is shared, too
            life = _Life(self, adversary)
            try:
                return self._judged(life, steps)
            finally:
                life.setup.host.destroy()

    def _judged(self, life: _Life, steps: Sequence[tuple[int, ...]]) -> Finding | None:
        life.play(steps)
        self.packets = life.echo.counters.frames_out
        if life.echo.frame:
            what = "has what was written after its response was published"
            life.found("response-before-copy", f"a frame of {len(life.echo.frame)} bytes {what}")
        if life.fair and life.peer.connected and life.peer.queues:
            self.listen(life)
        held = life.setup.finish()
        if held:
            life.found("leak", str(held))
        return life.finding


def _ring(life: _Life, access: Access) -> SharedRing:
    """The ring that is accessed, of the peer's first queue."""
    shared: SharedRing = life.peer.shared(access.memory.partition(" ")[0])
    return shared


def _unanswered(ring: SharedRing, at: int) -> bool:
    """Whether the slot at byte ``at`` of the page holds a request without a response."""
    number = (at - SRING_HEADER_SIZE) // ring.slot_size
    return (number - ring.rsp_prod) & ring.nr_ents - 1 < (ring.req_prod - ring.rsp_prod) & MASK32


class BackendLives(LivesTarget):
    """A netback whose frontend is driven by hand."""

    name = "lives"
    modules = (
        "xennet.netback.device",
        "xennet.netback.queue",
        "xennet.netback.tx_pass",
        "xennet.netback.rx_pass",
        "xennet.netback.guest_tx",
        "xennet.netback.guest_rx",
        "xennet.netback.keys",
        "xennet.netback.drain",
        "xennet.xenbus.backend",
    )
    life = FRONTEND_LIFE
    moves = FRONTEND_MOVES

    def made(self, echo: EchoPort) -> VifSetup:
        return VifSetup.make(frontend="raw", host_end=echo)

    def peer(self, setup: VifSetup) -> RawFrontend:
        assert setup.frontend is not None
        return setup.frontend

    def send(self, peer: RawFrontend, size: int) -> None:
        peer.send(pattern(size))
        peer.push_tx()

    def post(self, peer: RawFrontend, size: int) -> None:
        peer.post_rx(1 + size // PAGE_SIZE)
        peer.push_rx()

    def published(self, life: _Life, access: Access, before: int) -> None:
        if access.memory != "tx ring" or access.word != RSP_PROD:
            return
        # The frontend uses the pages of answered requests again at once.
        ring = _ring(life, access)
        for place in range(min((access.value - before) & MASK32, ring.nr_ents)):
            ident, status = TX_RESPONSE.unpack_from(ring.copy_slot(before + place))
            for page in life.peer.queues[0].sent.get(ident, ()) if status <= 0 else ():
                page.run.u8[:] = _REUSED

    def stored(self, life: _Life, access: Access) -> None:
        if life.fair and not _unanswered(_ring(life, access), access.at):
            life.found("published-early", f"{access}: there is no request to be answered")

    def listen(self, life: _Life) -> None:
        driver = life.setup.vif.host_driver
        if driver is not None and driver.error is None:
            ring = life.peer.shared("tx")
            if ring.req_prod != ring.rsp_prod:
                what = f"req_prod {ring.req_prod}, rsp_prod {ring.rsp_prod}, and the driver rests"
                life.found("not-heard", f"tx ring: {what}; req_event {ring.req_event}")


class FrontendLives(LivesTarget):
    """A netfront whose backend is driven by hand."""

    name = "lives-front"
    modules = (
        "xennet.netfront.device",
        "xennet.netfront.queue",
        "xennet.netfront.tx_pass",
        "xennet.netfront.rx_pass",
        "xennet.netfront.guest_tx",
        "xennet.netfront.guest_rx",
        "xennet.netfront.buffers",
        "xennet.netfront.control_ring",
        "xennet.xenbus.frontend",
    )
    life = BACKEND_LIFE
    moves = BACKEND_MOVES

    def made(self, echo: EchoPort) -> VifSetup:
        return VifSetup.make(backend="raw", guest_end=echo)

    def peer(self, setup: VifSetup) -> RawBackend:
        assert setup.backend is not None
        return setup.backend

    def send(self, peer: RawBackend, size: int) -> None:
        peer.deliver(pattern(size))
        peer.push_rx()

    def post(self, peer: RawBackend, size: int) -> None:
        peer.packets()
        peer.push_tx()

    def published(self, life: _Life, access: Access, before: int) -> None:
        if access.word != REQ_PROD:
            return
        ring = _ring(life, access)
        slots = [
            ring.copy_slot(before + i) for i in range((access.value - before) & ring.nr_ents - 1)
        ]
        grants, domid = life.machine.grant_tables, life.setup.vif.guest.domid
        for gref in _references(slots, access.memory):
            grant = grants.grant(domid, gref)
            if grant is None or grant.flags & GTF_type_mask != GTF_permit_access:
                life.found("published-early", f"{access}: reference {gref} grants nothing yet")
            elif grant.pin:
                life.found("page-in-use", f"{access}: the page of reference {gref} is still in use")

    def stored(self, life: _Life, access: Access) -> None:
        if life.fair and _unanswered(_ring(life, access), access.at):
            life.found("published-early", f"{access}: the request is published already")

    def listen(self, life: _Life) -> None:
        driver = life.setup.vif.guest_driver
        if driver is not None and driver.error is None:
            ring = life.peer.shared("rx")
            posted = (ring.req_prod - ring.rsp_prod) & MASK32
            if posted < ring.nr_ents:
                what = f"{ring.nr_ents - posted} buffers are not posted again, and the driver rests"
                life.found("not-heard", f"rx ring: {what}; rsp_event {ring.rsp_event}")


def _references(slots: Sequence[bytes], ring: str) -> list[int]:
    """The grant references of requests; extra infos have none."""
    if ring == "rx ring":
        return [RX_REQUEST.unpack_from(raw)[2] for raw in slots]
    found, extras = [], False
    for raw in slots:
        if extras:
            extras = bool(raw[1] & XEN_NETIF_EXTRA_FLAG_MORE)
            continue
        gref, _, flags, *_rest = TX_REQUEST.unpack_from(raw)
        found.append(gref)
        extras = bool(flags & NETTXF_extra_info)
    return found
