"""Maps, mappings and closes in any order: the machine's books say what the program sees."""

from __future__ import annotations

from collections import Counter

import pytest
from attrs import define, field
from exec_world import BOTH, GNTDEV, READ, Caller, World
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

PAGES = 5


@define(eq=False)
class File:
    fd: int
    open: bool = True


@define(eq=False)
class Map:
    file: File
    offset: int
    pages: list[int]
    flags: int = 0
    listed: bool = True
    at: int = 0
    there: set[int] = field(factory=set)

    @property
    def found(self) -> bool:
        return self.listed and self.file.open


class Books(RuleBasedStateMachine):
    """What is mapped, beside what the machine says."""

    world: World
    grants: list[tuple[object, int]]

    files = Bundle("files")
    maps = Bundle("maps")

    def __init__(self) -> None:
        super().__init__()
        self.program: Caller = self.world.caller()
        self.mapped: list[Map] = []

    def refused(self, call: object) -> None:
        assert callable(call)
        with pytest.raises(OSError):
            call()

    @rule(target=files)
    def open_file(self) -> File:
        return File(self.program.open(GNTDEV))

    @rule(file=consumes(files))
    def close_file(self, file: File) -> None:
        self.program.ask("close", file.fd)
        self.world.settle()
        file.open = False

    @rule(
        target=maps,
        file=files,
        pages=st.lists(st.integers(0, PAGES - 1), min_size=1, max_size=4),
    )
    def map_grants(self, file: File, pages: list[int]) -> Map:
        refs = [(1, self.grants[page][1]) for page in pages]
        return Map(file, self.program.map_grants(file.fd, refs), pages)

    @rule(map=maps)
    def unmap_grants(self, map: Map) -> None:
        def call() -> int:
            return self.program.unmap_grants(map.file.fd, map.offset, len(map.pages))

        if map.found:
            call()
            map.listed = False

    @rule(map=maps, prot=st.sampled_from([READ, BOTH]))
    def mmap(self, map: Map, prot: int) -> None:
        if not map.found:
            return
        count = len(map.pages)
        if map.there or (prot == BOTH and map.flags == READ):
            self.refused(lambda: self.program.mmap(map.file.fd, map.offset, count, prot))
            return
        map.at = self.program.mmap(map.file.fd, map.offset, count, prot)
        map.flags = map.flags or prot
        map.there = set(range(count))
        self.mapped.append(map)

    @rule(map=maps, first=st.integers(0, 3), count=st.integers(1, 4))
    def munmap(self, map: Map, first: int, count: int) -> None:
        gone = set(range(first, min(first + count, len(map.pages)))) & map.there
        if gone:
            # Pages that are gone already may be somebody else's address by now.
            for page in gone:
                self.program.munmap(map.at + page * 4096)
            map.there -= gone

    @rule(map=maps)
    def look(self, map: Map) -> None:
        for page in map.there:
            expected = bytes([map.pages[page] + 1])
            assert self.program.peek(map.at + page * 4096, 1) == expected

    @rule()
    def fork_and_end(self) -> None:
        self.program.ask("fork")
        self.program.open(GNTDEV)
        self.program.ask("exit", 0)

    @rule(target=maps)
    def execute(self) -> object:
        """Another program in the process: the files stay, the mappings do not."""
        self.program.ask("exec")
        for map in self.mapped:
            map.there.clear()
        self.world.hold(lambda: not self.machine_maps())
        return multiple()

    def machine_maps(self) -> Counter[int]:
        mappings = self.world.host.machine.grant_tables.mappings(2)
        return Counter(mapping.gref for mapping in mappings)

    @invariant()
    def books_agree(self) -> None:
        seen = Counter(self.grants[map.pages[page]][1] for map in self.mapped for page in map.there)
        assert self.machine_maps() == seen

    def teardown(self) -> None:
        self.program.end()
        # A child may still be on its way out, with a file of its parent's.
        self.world.hold(lambda: not self.machine_maps() and not self.world.server.files)
        self.world.callers.remove(self.program)


def test_the_books_agree_with_what_a_program_sees(world: World) -> None:
    grants = [world.page() for _ in range(PAGES)]
    for number, (page, _) in enumerate(grants):
        page.u8[0] = number + 1

    class Run(Books):
        pass

    Run.world, Run.grants = world, grants
    few = settings(
        max_examples=12,
        stateful_step_count=25,
        suppress_health_check=[*HealthCheck],
    )
    run_state_machine_as_test(Run, settings=few)
    for page, gref in grants:
        world.give_back(page, gref)
