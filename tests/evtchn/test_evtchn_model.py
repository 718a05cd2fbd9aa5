"""Three domains do anything with their ports; a plain model says what each bit must be.

Each domain has one of the two ABIs. After every step every page in which a domain sees its events
must be what the model says, and every event that was sent after the last run of its handler
must still be on its way.
"""

from __future__ import annotations

import pytest
from evtchn_models import VCPUS, FifoModelDomain, ModelDomain
from how_many import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from xennet.abi.xen import DOMID_SELF, VIRQ_TIMER
from xennet.hypervisor import Machine
from xennet.interface import HypercallError

DOMAINS = (0, 1, 2)
MODELS = {"2l": ModelDomain, "fifo": FifoModelDomain}
STATES = ("unbound", "interdomain", "virq", "ipi")


domids = st.sampled_from(DOMAINS)
abis = st.sampled_from(tuple(MODELS))
#: Below 9 one of the open ports (of those that can be bound to), else a port number as it stands.
picks = st.integers(0, 11)


class EventChannelMachine(RuleBasedStateMachine):
    @initialize(abis=st.tuples(abis, abis, abis))
    def boot(self, abis: tuple[str, ...]) -> None:
        self.machine = Machine(64, max_grant_frames=1)
        self.model: dict[int, ModelDomain] = {}
        for domid, abi in zip(DOMAINS, abis, strict=True):
            self.create(domid, abi)

    def teardown(self) -> None:
        if hasattr(self, "machine"):
            self.everything_arrives_in_the_end()
            self.machine.close()

    def pick(self, domid: int, pick: int, states: tuple[str, ...] = STATES) -> int:
        ports = self.model[domid].ports
        fitting = sorted(number for number, port in ports.items() if port.state in states)
        return fitting[pick % len(fitting)] if fitting and pick < 9 else pick % 4

    def create(self, domid: int, abi: str) -> None:
        self.machine.create_domain(domid, vcpus=VCPUS, evtchn_abi=abi)
        self.model[domid] = MODELS[abi]()

    def handler(self, domid: int, port: int):
        def run() -> None:
            model = self.model[domid]
            model.runs[port] = model.runs.get(port, 0) + 1
            model.ports[port].owed = False

        return run

    def expect(self, allowed: bool, call, *args):
        """Make the call; it must succeed exactly if the model allows it."""
        if allowed:
            return call(*args)
        with pytest.raises(HypercallError):
            call(*args)
        return None

    def opened(self, domid: int, expected: int, actual: int | None, live: bool) -> None:
        assert actual == expected
        self.machine.domain(domid).set_handler(expected, self.handler(domid, expected))
        if live:
            self.machine.domain(domid).unmask(expected)
            self.model[domid].unmask(expected)

    def drop(self, domid: int, port: int) -> None:
        """The model closes a port."""
        closed = self.model[domid].ports.pop(port)
        self.model[domid].close(port)
        if closed.state == "interdomain":
            peer_domid, peer_port = closed.peer
            peer = self.model[peer_domid].ports[peer_port]
            peer.state, peer.peer, peer.allowed = "unbound", None, domid

    @rule(domid=domids, remote=st.sampled_from((*DOMAINS, DOMID_SELF)), live=st.booleans())
    def alloc_unbound(self, domid: int, remote: int, live: bool) -> None:
        port = self.machine.domain(domid).alloc_unbound(DOMID_SELF, remote)
        allowed = domid if remote == DOMID_SELF else remote
        self.opened(domid, self.model[domid].open("unbound", allowed=allowed), port, live)

    @rule(domid=domids, remote=domids, pick=picks, live=st.booleans())
    def bind_interdomain(self, domid: int, remote: int, pick: int, live: bool) -> None:
        self.bind_to(domid, remote, self.pick(remote, pick, ("unbound",)), live)

    def bind_to(self, domid: int, remote: int, port: int, live: bool) -> None:
        far = self.model[remote].ports.get(port)
        allowed = far is not None and far.state == "unbound" and far.allowed == domid
        local = self.expect(allowed, self.machine.domain(domid).bind_interdomain, remote, port)
        if allowed:
            expected = self.model[domid].open("interdomain", peer=(remote, port))
            far.state, far.peer, far.allowed = "interdomain", (domid, expected), None
            self.model[domid].set_pending(expected)
            self.model[domid].ports[expected].owed = True
            self.opened(domid, expected, local, live)

    @rule(domid=domids, remote=domids, live=st.booleans())
    def connect(self, domid: int, remote: int, live: bool) -> None:
        """A whole channel at once, which chance alone makes too seldom."""
        self.alloc_unbound(remote, domid, live)
        waiting = [n for n, p in self.model[remote].ports.items() if p.state == "unbound"]
        port = max(n for n in waiting if self.model[remote].ports[n].allowed == domid)
        self.bind_to(domid, remote, port, live)

    @rule(domid=domids, vcpu=st.integers(0, VCPUS), live=st.booleans())
    def bind_ipi(self, domid: int, vcpu: int, live: bool) -> None:
        port = self.expect(vcpu < VCPUS, self.machine.domain(domid).bind_ipi, vcpu)
        if port is not None:
            expected = self.model[domid].open("ipi", vcpu=vcpu)
            self.model[domid].ports[expected].peer = (domid, expected)
            self.opened(domid, expected, port, live)

    @rule(domid=domids, vcpu=st.integers(0, VCPUS - 1), live=st.booleans())
    def bind_virq(self, domid: int, vcpu: int, live: bool) -> None:
        taken = any(
            port.state == "virq" and port.vcpu == vcpu for port in self.model[domid].ports.values()
        )
        port = self.expect(not taken, self.machine.domain(domid).bind_virq, VIRQ_TIMER, vcpu)
        if port is not None:
            self.opened(domid, self.model[domid].open("virq", vcpu=vcpu), port, live)

    @rule(domid=domids, vcpu=st.integers(0, VCPUS - 1))
    def raise_virq(self, domid: int, vcpu: int) -> None:
        bound = [
            number
            for number, port in self.model[domid].ports.items()
            if port.state == "virq" and port.vcpu == vcpu
        ]
        assert self.machine.channels.raise_virq(domid, VIRQ_TIMER, vcpu) == bool(bound)
        for port in bound:
            self.model[domid].set_pending(port)
            self.model[domid].ports[port].owed = True

    @rule(domid=domids, pick=picks, vcpu=st.integers(0, VCPUS - 1))
    def bind_vcpu(self, domid: int, pick: int, vcpu: int) -> None:
        port = self.pick(domid, pick)
        bound = self.model[domid].ports.get(port)
        allowed = bound is not None and bound.state in ("unbound", "interdomain")
        self.expect(allowed, self.machine.domain(domid).bind_vcpu, port, vcpu)
        if allowed:
            bound.vcpu = vcpu

    @rule(domid=domids, pick=picks, priority=st.sampled_from((0, 3, 7, 15)))
    def set_priority(self, domid: int, pick: int, priority: int) -> None:
        port, model = self.pick(domid, pick), self.model[domid]
        allowed = isinstance(model, FifoModelDomain) and port in model.ports
        self.expect(allowed, self.machine.domain(domid).set_priority, port, priority)
        if allowed:
            model.priorities[port] = priority

    @rule(domid=domids, pick=picks)
    def send(self, domid: int, pick: int) -> None:
        port = self.pick(domid, pick)
        sender = self.model[domid].ports.get(port)
        allowed = sender is not None and sender.state != "virq"
        self.expect(allowed, self.machine.domain(domid).send, port)
        if allowed and sender.peer is not None:
            peer_domid, peer_port = sender.peer
            self.model[peer_domid].set_pending(peer_port)
            self.model[peer_domid].ports[peer_port].owed = True

    @rule(domid=domids, pick=picks)
    def close(self, domid: int, pick: int) -> None:
        port = self.pick(domid, pick)
        allowed = port in self.model[domid].ports
        self.expect(allowed, self.machine.domain(domid).close, port)
        if allowed:
            self.drop(domid, port)
            self.model[domid].masked.add(port)

    @rule(domid=domids, pick=picks)
    def mask(self, domid: int, pick: int) -> None:
        port = self.pick(domid, pick)
        self.machine.domain(domid).mask(port)
        self.model[domid].masked.add(port)

    @rule(domid=domids, pick=picks)
    def unmask(self, domid: int, pick: int) -> None:
        port = self.pick(domid, pick)
        self.machine.domain(domid).unmask(port)
        self.model[domid].unmask(port)

    @rule(domid=domids, really=st.integers(0, 5))
    def reset(self, domid: int, really: int) -> None:
        if really:  # seldom, it empties the table
            return
        self.machine.domain(domid).reset(DOMID_SELF)
        for port in sorted(self.model[domid].ports):
            self.drop(domid, port)
        self.model[domid].reset()
        if isinstance(self.model[domid], FifoModelDomain):
            assert self.machine.domain(domid).evtchn_abi == "2l"
            self.machine.domain(domid).use_fifo_events()

    @rule(domid=st.sampled_from((1, 2)), really=st.integers(0, 3), abi=abis)
    def destroy_and_create_again(self, domid: int, really: int, abi: str) -> None:
        if really:
            return
        self.machine.destroy_domain(domid)
        for port in sorted(self.model[domid].ports):
            self.drop(domid, port)
        assert all(delivery.domid != domid for delivery in self.machine.run_loop.ready())
        self.create(domid, abi)

    @precondition(lambda self: not self.machine.run_loop.idle)
    @rule(data=st.data())
    def deliver_one(self, data: st.DataObject) -> None:
        ready = self.machine.run_loop.ready()
        chosen = data.draw(st.sampled_from(ready))
        model = self.model[chosen.domid]
        before = model.runs.get(chosen.ident, 0)
        handled = model.upcall_for(chosen.ident)
        assert self.machine.run_loop.step(chosen) == chosen
        assert model.runs.get(chosen.ident, 0) == before + handled

    def everything_arrives_in_the_end(self) -> None:
        for domid, model in self.model.items():
            for port in model.ports:
                self.machine.domain(domid).unmask(port)
        self.machine.run_loop.run_until_idle()
        for model in self.model.values():
            assert not [number for number, port in model.ports.items() if port.owed]

    @invariant()
    def every_page_is_what_the_model_says(self) -> None:
        for domid, model in self.model.items():
            pages = {"shared info": bytes(self.machine.domain(domid).shared_info.u8)}
            events = self.machine._records[domid].event_pages
            if events is not None:
                pages["words"] = bytes(events.array[0].u8)
                for vcpu, page in enumerate(events.control):
                    pages[f"control block {vcpu}"] = bytes(page.u8[:72])
            assert pages == model.pages()

    @invariant()
    def every_deliverable_event_is_ready(self) -> None:
        ready = {(delivery.domid, delivery.ident) for delivery in self.machine.run_loop.ready()}
        for domid, model in self.model.items():
            assert {(domid, port) for port in model.pending - model.masked} <= ready

    @invariant()
    def owed_events_are_pending(self) -> None:
        for model in self.model.values():
            assert {n for n, port in model.ports.items() if port.owed} <= model.pending

    @invariant()
    def open_ports_are_those_of_the_model(self) -> None:
        names = {1: "unbound", 2: "interdomain", 4: "virq", 5: "ipi"}
        for domid, model in self.model.items():
            channels = self.machine.channels.open_channels(domid)
            assert {c.port: (names[c.state], c.vcpu) for c in channels} == {
                number: (port.state, port.vcpu) for number, port in model.ports.items()
            }


TestEventChannelMachine = EventChannelMachine.TestCase
TestEventChannelMachine.settings = settings(max_examples=examples(90), stateful_step_count=40)
