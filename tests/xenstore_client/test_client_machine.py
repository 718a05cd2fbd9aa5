"""Whatever is asked, in any order: a client over messages, torn to pieces, sees what one in the
process sees."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from xenstore_servers import session_client

from xennet.xenstore import Client, Store, XsError

PATHS = st.sampled_from(["/a", "/a/b", "/a/b/c", "/d", "rel", "/", "//", "/a/", "/a b", "@x", ""])
VALUES = st.one_of(st.binary(max_size=20), st.text(max_size=5), st.integers(0, 99))
PERMS = st.lists(st.sampled_from(["n0", "r5", "b7", "w0x5", "x1", "n"]), max_size=3)
TOKENS = st.sampled_from(["t", "u"])


class SameAnswers(RuleBasedStateMachine):
    """Two stores, the same requests; outcomes and events must be equal."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: tuple[list[Any], list[Any]] = ([], [])
        self.clients = (Client(Store().connect(0)), session_client(Store(), piece=5))
        self.open: list[tuple[Any, Any]] = []

    def both(self, request: Callable[[int, Client], Any]) -> None:
        outcomes = []
        for which, client in enumerate(self.clients):
            try:
                outcomes.append(("done", request(which, client)))
            except XsError as error:
                outcomes.append(("refused", error.errno))
        assert outcomes[0] == outcomes[1]

    def tx(self, which: int) -> Any:
        return self.open[-1][which] if self.open else None

    @rule(path=PATHS, value=VALUES)
    def write(self, path: str, value: Any) -> None:
        self.both(lambda which, client: client.write(path, value, self.tx(which)))

    @rule(path=PATHS, name=st.sampled_from(["read", "directory", "get_perms", "mkdir", "rm"]))
    def ask(self, path: str, name: str) -> None:
        self.both(lambda which, client: getattr(client, name)(path, self.tx(which)))

    @rule(path=PATHS)
    def exists(self, path: str) -> None:
        self.both(lambda which, client: client.exists(path, self.tx(which)))

    @rule(path=PATHS, perms=PERMS)
    def set_perms(self, path: str, perms: list[str]) -> None:
        self.both(lambda which, client: client.set_perms(path, perms, self.tx(which)))

    @rule(path=PATHS, token=TOKENS)
    def watch(self, path: str, token: str) -> None:
        self.both(
            lambda which, client: client.watch(
                path, token, lambda *event: self.heard[which].append(event)
            )
        )

    @rule(path=PATHS, token=TOKENS)
    def unwatch(self, path: str, token: str) -> None:
        self.both(lambda which, client: client.unwatch(path, token))

    @rule()
    def start(self) -> None:
        blocks = tuple(client.transaction() for client in self.clients)
        self.blocks = blocks
        self.open = [tuple(block.__enter__() for block in blocks)]

    @precondition(lambda self: self.open)
    @rule(commit=st.booleans())
    def end(self, commit: bool) -> None:
        self.open = []
        error = None if commit else ZeroDivisionError()

        def leave(which: int, client: Client) -> None:
            with suppress(ZeroDivisionError):
                self.blocks[which].__exit__(error and type(error), error, None)

        self.both(leave)

    @invariant()
    def events_are_the_same(self) -> None:
        for client in self.clients:
            client.poll()
        assert self.heard[0] == self.heard[1]


SameAnswers.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestSameAnswers = SameAnswers.TestCase
