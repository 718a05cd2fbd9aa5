"""Bugs on demand: a function runs with one place of its source changed, and is itself again."""

from __future__ import annotations

from pathlib import Path

import pytest

from xennet import PagePoller
from xennet.abi.netif import TX_REQUEST
from xennet.netback import guest_tx
from xennet.netback.guest_tx import read_requests
from xennet.ring import BackRing, tx_ring_page
from xennet.testing.mutated import Mutation, MutationError, function_with, load_mutants, mutated


class Base:
    def size(self) -> int:
        return 1


class Thing(Base):
    """What can be mutated."""

    def size(self) -> int:
        more = 1
        return super().size() + more

    @property
    def shown(self) -> str:
        return f"{self.size()} things"

    @staticmethod
    def fixed() -> int:
        return 7

    @classmethod
    def made(cls) -> str:
        if cls is Thing:
            return "thing"
        return "other"


def outer(factor: int):
    def inner(value: int, *, plus: int = 3) -> int:
        return value * factor + plus

    return inner


def test_a_method_with_super_is_changed_for_objects_that_exist_and_set_back() -> None:
    thing, bound = Thing(), Thing().size
    with mutated(Thing.size, "+ more", "+ 10 * more"):
        assert (thing.size(), bound(), thing.shown) == (11, 11, "11 things")
    assert (thing.size(), bound()) == (2, 2)


def test_properties_static_and_class_methods_and_closures_are_changed() -> None:
    with mutated(Thing.__dict__["shown"], "things", "bugs"):
        assert Thing().shown == "2 bugs"
    with mutated(Thing.fixed, "7", "8"):
        assert Thing.fixed() == 8
    with mutated(Thing.made, '"thing"', '"bug"'):
        assert Thing.made() == "bug"
    twice, thrice = outer(2), outer(3)
    with mutated(twice, "* factor", "- factor"):
        assert (twice(5), thrice(5)) == (6, 18)
    assert twice(5) == 13


def test_lines_keep_their_numbers() -> None:
    lines = [line for *_, line in Thing.size.__code__.co_lines()]
    with mutated(Thing.size, "+ more", "- more"):
        assert [line for *_, line in Thing.size.__code__.co_lines()] == lines


def test_the_text_may_have_several_lines_and_another_indentation() -> None:
    before = 'if cls is Thing:\n    return "thing"'
    with mutated(Thing.made, before, 'if cls is not Thing:\n    return "thing"'):
        assert Thing.made() == "other"


def test_it_is_set_back_when_the_block_raises() -> None:
    with pytest.raises(LookupError), mutated(Thing.fixed, "7", "8"):
        raise LookupError
    assert Thing.fixed() == 7


@pytest.mark.parametrize("text", ["no such text", "l"])
def test_a_text_that_is_not_there_once_is_an_error_and_nothing_changes(text: str) -> None:
    with pytest.raises(MutationError, match="not once"), mutated(Thing.shown.fget, text, ""):
        pass
    with pytest.raises(MutationError, match="not once"):
        function_with("xennet/ring.py", "no such text")


def test_what_is_in_no_function_or_is_none_is_an_error() -> None:
    with pytest.raises(MutationError, match="is in no function"):
        function_with("xennet/netback/guest_tx.py", "FATAL_ADDITIONAL_SLOTS = 20")
    with pytest.raises(MutationError, match="is in no function"):
        function_with("xennet/ring.py", "class FrontRing:")
    with pytest.raises(MutationError, match="no function of Python source"), mutated(len, "a", "b"):
        pass
    change = "value * factor + plus + more"
    with (
        pytest.raises(MutationError, match="other variables"),
        mutated(outer(2), "value * factor", "value"),
    ):
        pass
    assert change


def test_a_mutation_finds_its_function_and_everybody_runs_it() -> None:
    mutation = Mutation(
        "xennet/netback/guest_tx.py",
        "        if first_at + left > PAGE_SIZE:  # F5",
        "        if False:",
    )
    assert function_with(mutation.file, mutation.before) is read_requests
    page = tx_ring_page([TX_REQUEST.pack(8, 4000, 0, 1, 200)])
    poller = PagePoller()
    poller.load(page)
    assert poller.poll() == guest_tx.CROSSES_PAGE
    with mutation.applied():
        poller.load(page)
        assert poller.poll() == guest_tx.OK
    poller.load(page)
    assert poller.poll() == guest_tx.CROSSES_PAGE
    poller.close()


def test_a_method_of_the_package_is_found_by_its_text() -> None:
    found = function_with("xennet/ring.py", "ring.rsp_prod_pvt = ring.req_cons = start")
    assert found is BackRing.attach.__func__


def test_mutants_are_read_from_a_file_and_applied_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text(
        """
[[mutant]]
id = "both"
bug = "two places"
fails = ["something else"]
mutations = [
  { file = "xennet/ring.py", before = "self.sring.rsp_prod = self.rsp_prod_pvt", after = "pass" },
  { file = "xennet/ring.py", before = "nowhere", after = "pass" },
]

[[mutant]]
id = "one"
bug = "one place"
file = "xennet/ring.py"
before = "self.sring.rsp_prod = self.rsp_prod_pvt"
after = "pass"
"""
    )
    mutants = load_mutants(file)
    code = BackRing.push_responses.__code__
    with pytest.raises(MutationError), mutants["both"].applied():
        pass
    assert BackRing.push_responses.__code__ is code
    with mutants["one"].applied():
        assert BackRing.push_responses.__code__ is not code
    assert (mutants["one"].bug, BackRing.push_responses.__code__) == ("one place", code)
