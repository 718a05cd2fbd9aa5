"""Makes xenstore_servers importable (tests run with importmode=importlib) and starts servers."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from xenstore_servers import PATIENCE, our_daemon, ring_client, session_client

from xennet.bench.real_xenstored import CannotStartError, RealXenstored
from xennet.xenstore import Client, Store


@pytest.fixture(scope="session")
def our_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Socket of one ``xennet xenstored`` for all tests."""
    with our_daemon(tmp_path_factory.mktemp("ours")) as path:
        yield path


@pytest.fixture(scope="session")
def real_socket() -> Iterator[Path]:
    """Socket of one real C xenstored for all tests."""
    try:
        daemon = RealXenstored()
    except CannotStartError as reason:
        pytest.skip(f"the real xenstored cannot run here: {reason}")
    yield Path(daemon.socket_path)
    daemon.stop()


def _in_process(store: Store) -> Client:
    return Client(store.connect(0))


def _torn_messages(store: Store) -> Client:
    return session_client(store, piece=7)


LOCAL = {
    "in process": _in_process,
    "messages": session_client,
    "torn messages": _torn_messages,
    "ring": ring_client,
}
SOCKETS = {"our daemon": "our_socket", "real daemon": "real_socket"}


@pytest.fixture(params=[*LOCAL, *SOCKETS])
def open_client(request: pytest.FixtureRequest) -> Callable[[], Client]:
    """Makes clients of domain 0 of one store, over everything that can carry them."""
    if request.param in LOCAL:
        return functools.partial(LOCAL[request.param], Store())
    path = str(request.getfixturevalue(SOCKETS[request.param]))
    return functools.partial(Client.connect, path, timeout=PATIENCE)


@pytest.fixture
def client(open_client: Callable[[], Client]) -> Iterator[Client]:
    """A client with an empty /t."""
    with open_client() as client:
        client.rm("/t")
        client.mkdir("/t")
        yield client


@pytest.fixture
def rival(open_client: Callable[[], Client]) -> Iterator[Client]:
    """A second client of the same store."""
    with open_client() as rival:
        yield rival
