"""Makes the helper modules of this directory importable by name; a server with two guests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from wire_talk import Talk

from xennet.xenstore import Store
from xennet.xenstore.handlers import Server
from xennet.xenstore.likeness import DEFAULT_LIKENESS


@pytest.fixture
def like() -> str:
    """The daemon that the store is like; a test may be parametrised with others."""
    return DEFAULT_LIKENESS


@pytest.fixture
def store(like: str) -> Store:
    """Domains 5 and 6 are introduced and own their home directories, 7 only exists."""
    store = Store(like=like)
    toolstack = store.connect(0)
    for domid in (5, 6):
        store.introduce(domid)
        toolstack.write(f"/local/domain/{domid}", b"")
        toolstack.set_perms(f"/local/domain/{domid}", [f"n{domid}"])
    toolstack.close()
    store.domain_created(7)
    return store


@pytest.fixture
def server(store: Store) -> Server:
    return Server(store)


@pytest.fixture
def dom0(server: Server) -> Talk:
    return Talk(server)


@pytest.fixture
def dom5(server: Server) -> Talk:
    return Talk(server, 5)
