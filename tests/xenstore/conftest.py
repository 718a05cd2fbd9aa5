"""Makes the helper modules of this directory importable by name; a store with two guests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from xennet.xenstore import Connection, Store
from xennet.xenstore.likeness import DEFAULT_LIKENESS

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def like() -> str:
    """The daemon that the store is like; a test may be parametrised with others."""
    return DEFAULT_LIKENESS


@pytest.fixture
def store(like: str) -> Store:
    """Domains 5 and 6 are introduced and own their home directories."""
    store = Store(like=like)
    toolstack = store.connect(0)
    for domid in (5, 6):
        store.introduce(domid)
        toolstack.write(f"/local/domain/{domid}", b"")
        toolstack.set_perms(f"/local/domain/{domid}", [f"n{domid}"])
    toolstack.close()
    return store


@pytest.fixture
def dom0(store: Store) -> Connection:
    return store.connect(0)


@pytest.fixture
def dom5(store: Store) -> Connection:
    return store.connect(5)


@pytest.fixture
def dom6(store: Store) -> Connection:
    return store.connect(6)


@pytest.fixture
def events() -> Callable[[Connection], list[tuple[str, str]]]:
    """Takes the waiting events of a connection."""

    def take(connection: Connection) -> list[tuple[str, str]]:
        taken = [(event.path, event.token) for event in connection.events]
        connection.events.clear()
        return taken

    return take
