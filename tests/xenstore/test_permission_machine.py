"""Rights of domains that come and go, against the rules written down plainly."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from xenstore_refusal import errno_of

from xennet.xenstore import Store

GUESTS = (1, 2, 3)
NAMES = ("/x", "/y")
LETTERS = {"n": "", "r": "r", "w": "w", "b": "rw"}
ENTRY = st.tuples(st.sampled_from("nrwb"), st.sampled_from((0, *GUESTS)))


class Permissions(RuleBasedStateMachine):
    """Each entry remembers which life of its domain was meant; 0 means nobody."""

    @initialize()
    def start(self) -> None:
        self.store = Store()
        self.dom0 = self.store.connect(0)
        self.lives = 0
        self.life: dict[int, int] = {0: -1}
        self.target: dict[int, int] = {}
        self.perms: dict[str, list[tuple[str, int, int]]] = {}

    def may(self, guest: int, name: str) -> str:
        who = {guest, self.target.get(guest, guest)}
        (letter, owner, _), *others = self.perms[name]
        if owner in who:
            return "rw"
        for other_letter, domid, life in others:
            if domid in who and life == self.life.get(domid):
                return LETTERS[other_letter]
        return LETTERS[letter]

    @rule(guest=st.sampled_from(GUESTS))
    def introduce(self, guest: int) -> None:
        if guest not in self.life:
            self.lives += 1
            self.life[guest] = self.lives
            self.store.introduce(guest)

    @rule(guest=st.sampled_from(GUESTS))
    def die(self, guest: int) -> None:
        self.store.domain_died(guest)
        self.life.pop(guest, None)
        self.target.pop(guest, None)
        self.target = {stub: t for stub, t in self.target.items() if t != guest}
        for name in [n for n, perms in self.perms.items() if perms[0][1] == guest]:
            del self.perms[name]

    @rule(guest=st.sampled_from(GUESTS), of=st.sampled_from(GUESTS))
    def set_target(self, guest: int, of: int) -> None:
        if guest in self.life and of in self.life:
            self.store.set_target(guest, of)
            self.target[guest] = of

    @rule(name=st.sampled_from(NAMES), entries=st.lists(ENTRY, min_size=1, max_size=3))
    def set_perms(self, name: str, entries: list[tuple[str, int]]) -> None:
        self.dom0.mkdir(name)
        self.perms.setdefault(name, [("n", 0, -1)])
        owner = entries[0][1]
        texts = [f"{letter}{domid}" for letter, domid in entries]
        refused = errno_of(lambda: self.dom0.set_perms(name, texts))
        assert refused == (None if owner in self.life else "ENOENT")
        if refused is None:
            self.perms[name] = [(letter, d, self.life.get(d, 0)) for letter, d in entries]

    @rule(name=st.sampled_from(NAMES), child=st.booleans(), inside=st.booleans())
    def new_generation(self, name: str, child: bool, inside: bool) -> None:
        """Writes by dom0 that must not revive what is stale."""
        if name in self.perms:
            tx = self.dom0.transaction_start() if inside else 0
            if child:
                self.dom0.write(f"{name}/child", b"", tx)
                self.dom0.rm(f"{name}/child", tx)
            else:
                self.dom0.write(name, b"", tx)
            if tx:
                self.dom0.transaction_end(tx, True)

    @rule(guest=st.sampled_from(GUESTS), name=st.sampled_from(NAMES), inside=st.booleans())
    def access(self, guest: int, name: str, inside: bool) -> None:
        if guest not in self.life or name not in self.perms:
            return
        conn = self.store.connect(guest)
        tx = conn.transaction_start() if inside else 0
        allowed = self.may(guest, name)
        read = errno_of(lambda: conn.read(name, tx))
        assert read == (None if "r" in allowed else "EACCES")
        write = errno_of(lambda: conn.write(name, b"", tx))
        assert write == (None if "w" in allowed else "EACCES")
        shown = [str(perm) for perm in self.dom0.get_perms(name)]
        assert shown == [f"{letter}{domid}" for letter, domid, _ in self.perms[name]]
        conn.close()


TestPermissions = Permissions.TestCase
TestPermissions.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
