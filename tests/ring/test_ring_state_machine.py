"""Front and back of one ring in any order of steps, against two plain lists and counters.

The model knows no modulus and no slots: requests and responses are numbered for ever, each side
sleeps until message number so-and-so exists.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from xennet.ring import BackRing, FrontRing, RingOverflowError, SharedRing

MASK32 = 0xFFFFFFFF


class RingMachine(RuleBasedStateMachine):
    @initialize(
        start=st.one_of(st.integers(0, MASK32), st.integers(MASK32 - 40, MASK32)),
        order=st.integers(0, 5),
    )
    def connect(self, start: int, order: int) -> None:
        self.nr = 1 << order
        u8 = memoryview(bytearray(4096))
        self.sring = SharedRing(u8, u8.cast("I"), nr_ents=self.nr, slot_size=12)
        self.sring.init()
        self.start = start
        self.sring.req_prod = self.sring.rsp_prod = start
        self.sring.req_event = self.sring.rsp_event = start + 1
        self.front = FrontRing.attach(self.sring, start)
        self.back = BackRing.attach(self.sring)
        # The model: every request ever written and every response ever written, by number.
        self.requests: list[bytes] = []
        self.responses: list[bytes] = []
        self.req_published = self.req_taken = 0
        self.rsp_published = self.rsp_taken = 0
        self.back_wakes_at = self.front_wakes_at = 1
        self.back_asleep = self.front_asleep = False

    # The frontend

    @precondition(lambda self: len(self.requests) - self.rsp_taken < self.nr)
    @rule(tag=st.binary(min_size=12, max_size=12))
    def front_writes_request(self, tag: bytes) -> None:
        assert not self.front.full
        self.sring.write_slot(self.front.req_prod_pvt, tag)
        self.front.req_prod_pvt += 1
        self.requests.append(tag)

    @rule()
    def front_pushes(self) -> None:
        asked = self.req_published < self.back_wakes_at <= len(self.requests)
        something_new = len(self.requests) > self.req_published
        assert self.front.push_requests_and_check_notify() is asked
        if self.back_asleep and something_new:
            assert asked, "a sleeping backend was not woken"
            self.back_asleep = False
        self.req_published = len(self.requests)

    @rule()
    def front_pushes_silently(self) -> None:
        if not self.back_asleep:  # a frontend that polls may; one with a sleeping peer must not
            self.front.push_requests()
            self.req_published = len(self.requests)

    @precondition(lambda self: self.rsp_published > self.rsp_taken)
    @rule()
    def front_takes_response(self) -> None:
        assert self.front.unconsumed_responses == self.rsp_published - self.rsp_taken
        assert self.front.response_prod() == (self.start + self.rsp_published) & MASK32
        raw = self.sring.copy_slot(self.front.rsp_cons)
        self.front.rsp_cons += 1
        # The response, and behind it what its request left in the slot.
        expected = self.responses[self.rsp_taken] + self.requests[self.rsp_taken][4:]
        assert raw == expected
        self.rsp_taken += 1

    @rule()
    def front_wants_to_sleep(self) -> None:
        left = self.rsp_published > self.rsp_taken
        assert self.front.final_check_for_responses() is left
        if not left:
            self.front_wakes_at = self.rsp_taken + 1
            self.front_asleep = True

    # The backend

    @precondition(lambda self: self.req_published > self.req_taken)
    @rule()
    def back_takes_request(self) -> None:
        assert self.back.request_prod() == (self.start + self.req_published) & MASK32
        raw = self.sring.copy_slot(self.back.req_cons)
        self.back.req_cons += 1
        assert raw == self.requests[self.req_taken]
        self.req_taken += 1

    @precondition(lambda self: self.req_taken > len(self.responses))
    @rule(tag=st.binary(min_size=4, max_size=4))
    def back_writes_response(self, tag: bytes) -> None:
        self.sring.write_slot(self.back.rsp_prod_pvt, tag)
        self.back.rsp_prod_pvt += 1
        self.responses.append(tag)

    @rule()
    def back_pushes(self) -> None:
        asked = self.rsp_published < self.front_wakes_at <= len(self.responses)
        something_new = len(self.responses) > self.rsp_published
        assert self.back.push_responses_and_check_notify() is asked
        if self.front_asleep and something_new:
            assert asked, "a sleeping frontend was not woken"
            self.front_asleep = False
        self.rsp_published = len(self.responses)

    @rule()
    def back_wants_to_sleep(self) -> None:
        left = self.req_published > self.req_taken
        assert self.back.final_check_for_requests() is left
        if not left:
            self.back_wakes_at = self.req_taken + 1
            self.back_asleep = True

    # Lies

    @rule(ahead=st.integers(1, MASK32))
    def a_lying_peer_is_noticed_by_either_side(self, ahead: int) -> None:
        honest = self.sring.req_prod, self.sring.rsp_prod
        for ring, read, base in (
            (self.back, "request_prod", self.back.rsp_prod_pvt),
            (self.front, "response_prod", self.front.rsp_cons),
        ):
            lie = (base + self.nr + ahead) & MASK32
            believable = (lie - base) & MASK32 <= self.nr
            self.sring.req_prod = self.sring.rsp_prod = lie
            try:
                getattr(ring, read)()
                assert believable
            except RingOverflowError:
                assert not believable
            self.sring.req_prod, self.sring.rsp_prod = honest

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "nr"):
            return
        assert self.front.free_requests == self.nr - (len(self.requests) - self.rsp_taken)
        assert self.front.full is (len(self.requests) - self.rsp_taken == self.nr)
        assert self.back.unconsumed_requests == self.req_published - self.req_taken
        assert self.front.unconsumed_responses == self.rsp_published - self.rsp_taken
        ahead = self.req_published - len(self.responses)
        assert self.back.request_cons_overflow(self.sring.req_prod) is (ahead >= self.nr)


TestRingMachine = RingMachine.TestCase
TestRingMachine.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)
