"""Events of two connections against the rules written down plainly."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from xenstore_refusal import errno_of

from xennet.xenstore import Store

# /a is hidden from domain 5, /b and what is made below it is not, its home it owns.
HOME = "/local/domain/5"
NODES = ["/a", "/a/x", "/a/x/y", "/b", "/b/x", "/b/x/y", HOME + "/d", HOME + "/d/e"]
WATCHED = [*NODES, "/", "d", "d/e", HOME, "/b/none"]


class Watches(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.store = Store()
        self.dom0 = self.store.connect(0)
        self.store.introduce(5)
        for path, perms in (("/a", "n0"), ("/b", "r0"), (HOME, "n5")):
            self.dom0.write(path, b"")
            self.dom0.set_perms(path, [perms])
        self.conns = [self.store.connect(0), self.store.connect(5)]
        # Per connection: (absolute path, token, what is cut off), and the events that wait.
        self.watches: list[list[tuple[str, str, str]]] = [[], []]
        self.queues: list[list[tuple[str, str]]] = [[], []]

    def absolute(self, who: int, path: str) -> tuple[str, str]:
        home = f"/local/domain/{(0, 5)[who]}/"
        return (path, "") if path.startswith("/") else (home + path, home)

    def expect(self, who: int, path: str, token: str, cut: str) -> None:
        event = (path.removeprefix(cut), token)
        if event not in self.queues[who]:
            self.queues[who].append(event)

    def fired(self, path: str, exact: bool = False) -> None:
        for who in (0, 1):
            if who == 1 and path.startswith("/a"):
                continue
            for watched, token, cut in self.watches[who]:
                covers = watched in ("/", path) or path.startswith(watched + "/")
                if (path == watched) if exact else covers:
                    self.expect(who, path, token, cut)

    def exists(self, path: str) -> bool:
        return errno_of(lambda: self.dom0.read(path)) is None

    @rule(path=st.sampled_from(NODES))
    def write(self, path: str) -> None:
        self.dom0.write(path, b"")
        self.fired(path)

    @rule(path=st.sampled_from(NODES))
    def mkdir(self, path: str) -> None:
        new = not self.exists(path)
        self.dom0.mkdir(path)
        if new:
            self.fired(path)

    @rule(path=st.sampled_from([p for p in NODES if p not in ("/a", "/b")]))
    def rm(self, path: str) -> None:
        removed = []
        if self.exists(path):
            todo = [path]
            while todo:
                here = todo.pop()
                removed.append(here)
                todo += [f"{here}/{name}" for name in self.dom0.directory(here)]
            self.dom0.rm(path)
            for gone in reversed(removed[1:]):
                self.fired(gone, exact=True)
            self.fired(path)

    @rule(first=st.sampled_from(NODES), second=st.sampled_from(NODES), commit=st.booleans())
    def transaction(self, first: str, second: str, commit: bool) -> None:
        tx = self.dom0.transaction_start()
        for path in (first, second, first):
            self.dom0.write(path, b"1", tx)
        self.dom0.transaction_end(tx, commit)
        if commit:
            for path in dict.fromkeys([first, second]):
                self.fired(path)

    @rule(who=st.integers(0, 1), path=st.sampled_from(WATCHED), token=st.sampled_from("tu"))
    def watch(self, who: int, path: str, token: str) -> None:
        full, cut = self.absolute(who, path)
        known = (full, token) in [watch[:2] for watch in self.watches[who]]
        refused = errno_of(lambda: self.conns[who].watch(path, token))
        assert refused == ("EEXIST" if known else None)
        if not known:
            self.watches[who].append((full, token, cut))
            self.expect(who, full, token, cut)

    @rule(who=st.integers(0, 1), path=st.sampled_from(WATCHED), token=st.sampled_from("tu"))
    def unwatch(self, who: int, path: str, token: str) -> None:
        full, _ = self.absolute(who, path)
        kept = [watch for watch in self.watches[who] if watch[:2] != (full, token)]
        known = len(kept) < len(self.watches[who])
        refused = errno_of(lambda: self.conns[who].unwatch(path, token))
        assert refused == (None if known else "ENOENT")
        self.watches[who] = kept

    @rule(who=st.integers(0, 1), count=st.integers(1, 8))
    def take(self, who: int, count: int) -> None:
        for _ in range(min(count, len(self.queues[who]))):
            event = self.conns[who].events.popleft()
            assert (event.path, event.token) == self.queues[who].pop(0)

    @rule(who=st.integers(0, 1))
    def reset(self, who: int) -> None:
        self.conns[who].reset_watches()
        self.watches[who].clear()

    @invariant()
    def queues_agree(self) -> None:
        for conn, queue in zip(self.conns, self.queues, strict=True):
            assert [(event.path, event.token) for event in conn.events] == queue
        assert self.store.watches_of(5) == len(self.watches[1])


TestWatches = Watches.TestCase
TestWatches.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
