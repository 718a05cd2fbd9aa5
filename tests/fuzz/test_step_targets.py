"""Targets whose inputs are steps: what they find, and that in hardened code there is nothing."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xennet.engine.choice import using
from xennet.fuzz.exploration import Explored, Work, explore
from xennet.fuzz.fuzz_input import FuzzInput
from xennet.fuzz.steps_target import StepsTarget
from xennet.fuzz.target_table import open_target
from xennet.testing.mutated import Mutation
from xennet.xenbus import scan

#: Name -> executions in which nothing is to be found.
TARGETS = {"xs-wire": 80, "netmap": 40, "shmif": 15, "lives": 12, "lives-front": 12}


@pytest.fixture(scope="module")
def opened() -> Iterator[dict[str, StepsTarget]]:
    """All of them: counting code takes a while to be made."""
    targets: dict[str, StepsTarget] = {}
    with using("plain"):
        for name in TARGETS:
            one = open_target(name)
            assert isinstance(one, StepsTarget)
            targets[name] = one
    yield targets
    for one in targets.values():
        one.close()


@pytest.fixture(params=TARGETS)
def target(opened: dict[str, StepsTarget], request: pytest.FixtureRequest) -> StepsTarget:
    return opened[request.param]


def explored(target: StepsTarget, executions: int, seed: int = 1) -> Explored:
    return explore(target, Work(target.name, seed, 0, executions))


def test_nothing_is_found_and_coverage_grows(target: StepsTarget) -> None:
    found = explored(target, TARGETS[target.name])
    assert [crash.finding for crash in found.crashes] == []
    assert len(found.inputs) > 5
    assert found.packets


def test_an_input_comes_to_the_same_each_time(target: StepsTarget) -> None:
    random = Random(2)
    one = target.start(random)
    for _ in range(3):
        one = target.mutate(one, random, target.start(random))
        seen = []
        for _ in range(2):
            target.execute(one)
            seen.append((bytes(target.counters), target.trace(), target.packets))
        assert seen[0] == seen[1]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=120), st.sampled_from(["xs-wire", "netmap"]))
def test_any_bytes_can_be_executed(opened: dict[str, StepsTarget], noise: bytes, name: str) -> None:
    assert opened[name].execute(FuzzInput(name, (("steps", noise),))) is None


def test_steps_can_be_left_out_and_have_fields(target: StepsTarget) -> None:
    one = target.start(Random(1))
    steps = target.slots(one)
    assert target.slots(target.without(one, 0)) == steps - 1
    assert len(target.fields(one)) == steps * len(target.step_fields)


class _Toy(StepsTarget):
    """Counts a module that nothing else counts."""

    name = "toy"
    step_fields = (("what", 1),)
    modules = ("xennet.xenbus.scan",)


def test_counting_ends_with_the_last_target_that_is_open() -> None:
    plain = scan.scan_unsigned.__code__
    first, second = _Toy(), _Toy()
    first.close()
    assert scan.scan_unsigned.__code__ is not plain
    second.close()
    assert scan.scan_unsigned.__code__ is plain


TX = "xennet/netback/guest_tx.py"


@pytest.mark.parametrize(
    ("name", "rule", "mutation"),
    [
        (
            "lives",
            "F14",
            Mutation(
                TX, "        grefs[position] = gref\n", "        grefs[position] = page[at]\n"
            ),
        ),
        (
            "lives",
            "response-before-copy",
            Mutation(
                "xennet/netback/tx_pass.py",
                "            if res[guest_tx.R_OPS]:\n"
                "                self._hv.grant_copy(self.ops, res[guest_tx.R_OPS])\n"
                "            batch.count = self._put_responses(log, *self.put_args)\n",
                "            batch.count = self._put_responses(log, *self.put_args)\n"
                "            if res[guest_tx.R_OPS]:\n"
                "                self._hv.grant_copy(self.ops, res[guest_tx.R_OPS])\n",
            ),
        ),
        (
            "xs-wire",
            "xs_wire.reply",
            Mutation(
                "xennet/xenstore/wire.py",
                "    return HEADER.pack(XS_ERROR, req_id, tx_id, len(payload)) + payload",
                "    return HEADER.pack(XS_ERROR, req_id, 0, len(payload)) + payload",
            ),
        ),
    ],
    ids=["read twice", "answered before it is copied", "a reply without its tx_id"],
)
def test_a_bug_is_found_by_its_rule(
    opened: dict[str, StepsTarget], name: str, rule: str, mutation: Mutation
) -> None:
    with mutation.applied():  # over the counting code, which has the source as it stands
        crashes = explored(opened[name], 15).crashes
    assert {crash.finding.rule for crash in crashes} == {rule}
