"""Two connections, any interleaving of transactions, against a store that copies everything."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from xenstore_refusal import errno_of

from xennet.xenstore import Store, XsError
from xennet.xenstore.path import SPECIALS

PATHS = st.sampled_from(["/a", "/a/b", "/a/b/c", "/a/c", "/d", "/d/b/c"])
VALUES = st.sampled_from([b"", b"1", b"2"])
MUTATIONS = ("write", "mkdir", "rm")


@dataclass
class PlainNode:
    value: bytes = b""
    children: list[str] = field(default_factory=list)
    version: int = 0


class RefusalError(Exception):
    pass


def above(path: str) -> str:
    return path[: path.rindex("/")] or "/"


class PlainStore:
    """A dict of nodes; ``clock`` numbers the writes."""

    def __init__(self) -> None:
        self.nodes = {"/": PlainNode()}
        self.clock = 0

    def get(self, path: str) -> PlainNode | None:
        return self.nodes.get(path)

    def put(self, path: str, node: PlainNode | None) -> None:
        if node is None:
            self.nodes.pop(path, None)
        else:
            self.clock += 1
            node.version = self.clock
            self.nodes[path] = node


class PlainTransaction:
    """Sees each node as it was when first touched; notes the version it had."""

    def __init__(self, store: PlainStore) -> None:
        self.store = store
        self.mine: dict[str, PlainNode | None] = {}
        self.touched: dict[str, int | None] = {}
        self.changed: dict[str, None] = {}
        self.log: list[tuple[str, str, bytes, object]] = []

    def get(self, path: str) -> PlainNode | None:
        if path not in self.mine:
            node = copy.deepcopy(self.store.get(path))
            self.mine[path] = node
            self.touched[path] = node.version if node else None
        return self.mine[path]

    def put(self, path: str, node: PlainNode | None) -> None:
        self.mine[path] = node
        self.changed[path] = None

    def conflicts(self) -> bool:
        return any(
            (node.version if (node := self.store.get(path)) else None) != version
            for path, version in self.touched.items()
        )


Plain = PlainStore | PlainTransaction


def perform(plain: Plain, op: str, path: str, value: bytes) -> object:
    """The request's answer; raises RefusalError with the errno's name."""
    node = plain.get(path)
    if op == "rm":
        return remove(plain, path, node)
    if op in ("write", "mkdir"):
        if node is None:
            create(plain, path, value if op == "write" else b"")
        elif op == "write":
            node.value = value
            plain.put(path, node)
        return None
    if node is None:
        anchor(plain, path)
        raise RefusalError("ENOENT")
    return node.value if op == "read" else list(node.children)


def anchor(plain: Plain, path: str) -> str:
    while plain.get(path) is None:
        path = above(path)
    return path


def create(plain: Plain, path: str, value: bytes) -> None:
    top = anchor(plain, path)
    plain.put(path, PlainNode(value))
    while True:
        parent, name = above(path), path[path.rindex("/") + 1 :]
        node = plain.get(parent) or PlainNode()
        if name not in node.children:
            node.children.append(name)
        plain.put(parent, node)
        if parent == top:
            return
        path = parent


def remove(plain: Plain, path: str, node: PlainNode | None) -> None:
    if node is None:
        if anchor(plain, path) != above(path):
            raise RefusalError("ENOENT")
        return
    parent = plain.get(above(path))
    if parent is None:
        raise RefusalError("EINVAL")
    # What the transaction touched late may not fit what it touched early; it cannot be committed.
    name = path[path.rindex("/") + 1 :]
    for gone in subtree(plain, path):
        plain.put(gone, None)
    if name not in parent.children:
        raise RefusalError("EIO")
    parent.children.remove(name)
    plain.put(above(path), parent)


def subtree(plain: Plain, top: str) -> list[str]:
    found, todo = [], [top]
    while todo:
        path = todo.pop()
        node = plain.get(path)
        if node is None:
            raise RefusalError("EIO")
        found.append(path)
        todo += [f"{path}/{child}" for child in reversed(node.children)]
    return found


class Transactions(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.store = Store()
        self.conns = [self.store.connect(0), self.store.connect(0)]
        self.conns[0].rm("/tool")
        self.plain = PlainStore()
        self.open: list[dict[int, PlainTransaction]] = [{}, {}]

    @rule(who=st.integers(0, 1))
    def begin(self, who: int) -> None:
        if len(self.open[who]) < 3:
            tx = self.conns[who].transaction_start()
            assert tx not in self.open[who]
            self.open[who][tx] = PlainTransaction(self.plain)

    @rule(
        who=st.integers(0, 1),
        op=st.sampled_from([*MUTATIONS, "read", "directory"]),
        path=PATHS,
        value=VALUES,
        where=st.integers(0, 3),
    )
    def request(self, who: int, op: str, path: str, value: bytes, where: int) -> None:
        ids = [0, *self.open[who]]
        tx = ids[where % len(ids)]
        plain: Plain = self.open[who][tx] if tx else self.plain
        try:
            expected = perform(plain, op, path, value)
        except RefusalError as refusal:
            expected = str(refusal)
        arguments = (path, value) if op == "write" else (path,)
        try:
            answer: object = getattr(self.conns[who], op)(*arguments, tx=tx)
        except XsError as error:
            answer = error.errno
        assert answer == expected, (op, path, tx)
        if isinstance(plain, PlainTransaction):
            plain.log.append((op, path, value, answer))

    @precondition(lambda self: any(self.open))
    @rule(who=st.integers(0, 1), which=st.integers(0, 2), commit=st.booleans())
    def end(self, who: int, which: int, commit: bool) -> None:
        if not self.open[who]:
            return
        tx = list(self.open[who])[which % len(self.open[who])]
        plain = self.open[who].pop(tx)
        if commit and plain.conflicts():
            refused = errno_of(lambda: self.conns[who].transaction_end(tx, True))
            assert refused == "EAGAIN", f"conflict on one of {list(plain.touched)} was missed"
            return
        self.conns[who].transaction_end(tx, commit)
        if commit:
            self.commit_serially(plain)

    def commit_serially(self, plain: PlainTransaction) -> None:
        """Everything it did, done now in one go, has the same answers and the same result."""
        twin = copy.deepcopy(self.plain)
        for op, path, value, answer in plain.log:
            try:
                again = perform(twin, op, path, value)
            except RefusalError as refusal:
                again = str(refusal)
            assert again == answer, (op, path)
        for path in plain.changed:
            self.plain.put(path, plain.mine[path])
        assert shape(self.plain) == shape(twin)

    @invariant()
    def store_is_the_plain_store(self) -> None:
        seen = {}
        todo = ["/"]
        conn = self.conns[0]
        while todo:
            path = todo.pop()
            names = conn.directory(path)
            seen[path] = (conn.read(path), names)
            todo += [f"{path.rstrip('/')}/{name}" for name in names]
        assert seen == shape(self.plain)
        assert self.store.nodes_owned(0) == len(seen) + len(SPECIALS)


def shape(plain: PlainStore) -> dict[str, tuple[bytes, list[str]]]:
    return {path: (node.value, node.children) for path, node in plain.nodes.items()}


TestTransactions = Transactions.TestCase
TestTransactions.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
