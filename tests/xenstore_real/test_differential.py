"""Random requests to the real C xenstored and to ours: every byte that comes back is compared.

Two sockets and the ring of guest 5. Generations, as DIRECTORY_PART shows them, may be other
numbers, but must be equal where the daemon's are.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from declared_differences import declared, must_not_be_asked, uses_stale_errno
from how_many import examples
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from store_worlds import GUEST, SOCKETS, Arrived, OurWorld, RealWorld, message

from xennet.abi.xs_wire import (
    XS_CONTROL,
    XS_DIRECTORY,
    XS_DIRECTORY_PART,
    XS_ERROR,
    XS_GET_DOMAIN_PATH,
    XS_GET_PERMS,
    XS_INTRODUCE,
    XS_IS_DOMAIN_INTRODUCED,
    XS_MKDIR,
    XS_READ,
    XS_RELEASE,
    XS_RESET_WATCHES,
    XS_RESUME,
    XS_RM,
    XS_SET_PERMS,
    XS_SET_TARGET,
    XS_TRANSACTION_END,
    XS_TRANSACTION_START,
    XS_UNWATCH,
    XS_WATCH,
    XS_WATCH_EVENT,
    XS_WRITE,
)
from xennet.xenstore.wire import Decoder, Message

# -- what is asked ---------------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c"])
tops = st.sampled_from(["", "/a", "/b", "/local/domain/5", "/local/domain/5", "/local/domain/0"])
paths = st.builds(lambda top, below: "/".join([top, *below]), tops, st.lists(names, max_size=3))
relative = st.lists(names, min_size=1, max_size=3).map("/".join)
odd_paths = st.one_of(
    st.sampled_from(
        [
            *("/", "", "//", "/a/", "/a//b", "a/", "/a:b", "/a+b", "/a b", "@", "/a/@x", "/@"),
            *("/tool", "/tool/xenstored", "/local", "/local/domain", "/local/domain/5", "/a\x80"),
            *("@introduceDomain", "@releaseDomain", "@whatever", "@introduceDomain/x"),
            *("/local/domain/7", "/local/domain/-5/a", "/local/domain/05/a"),
        ]
    ),
    st.builds(
        lambda start, size: start + "p" * (size - len(start)),
        st.sampled_from(["/", "", "/local/domain/5/", "/local/domain/0/", "@"]),
        st.sampled_from([1000, 2046, 2047, 2048, 2049, 2063, 2064, 2065, 2066, 3072, 3073]),
    ),
)
path = st.one_of(paths, paths, relative, odd_paths).map(lambda text: text.encode("latin-1"))
usual_path = st.one_of(paths, paths, paths, relative).map(str.encode)

value = st.one_of(
    st.sampled_from([b"", b"x", b"y", b"a\0b", b"\0", b"\xff\x80"]),
    st.sampled_from([1900, 2007, 2008, 2015, 2016, 2017, 2020, 2021, 2024, 2025]).map(
        lambda size: b"v" * size
    ),
)
numbers = st.sampled_from(
    [*(b"0", b"5", b"5", b"6", b"7", b"05", b"0x5", b"010", b" 5", b"+5", b"-5", b"5x", b"")]
    + [b"32752", b"65535", b"65536", b"4294967301", b"99999999999999999999", b"abc", b"-1"]
)
domid = st.one_of(st.sampled_from([b"5", b"0", b"6"]), numbers)
perm = st.one_of(
    st.builds(
        lambda letter, number: letter + number,
        st.sampled_from([b"n", b"r", b"w", b"b"]),
        st.sampled_from([b"0", b"5", b"5", b"6"]),
    ),
    st.builds(lambda letter, n: letter + n, st.sampled_from([b"n", b"x", b"", b"rw"]), numbers),
)
token = st.sampled_from([b"t", b"u", b"", b"token", b"\xc3\xa9", b"\xff", b"T" * 4000])
usual_token = st.sampled_from([b"t", b"u"])


def with_nuls(*parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(*parts).map(lambda given: b"".join(part + b"\0" for part in given))


Request = tuple[int, bytes]


def request(kind: int, payload: st.SearchStrategy[bytes]) -> st.SearchStrategy[Request]:
    return payload.map(lambda given: (kind, given))


def value_of(where: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.builds(lambda p, v: p + b"\0" + v, where, value)


def perms_of(where: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    several = st.lists(perm, max_size=7)
    return st.builds(lambda p, entries: b"".join(s + b"\0" for s in [p, *entries]), where, several)


ONE_PATH = (XS_READ, XS_DIRECTORY, XS_GET_PERMS, XS_MKDIR, XS_RM)

on_nodes = st.one_of(
    *(request(kind, with_nuls(usual_path)) for kind in ONE_PATH),
    request(XS_WRITE, value_of(usual_path)),
    request(XS_WRITE, value_of(usual_path)),
    request(XS_WATCH, with_nuls(usual_path, usual_token)),
    request(XS_UNWATCH, with_nuls(usual_path, usual_token)),
    request(
        XS_SET_PERMS,
        st.builds(
            lambda p, entries: b"".join(s + b"\0" for s in [p, *entries]),
            usual_path,
            st.lists(
                st.sampled_from([b"n5", b"n0", b"r0", b"b5", b"r5", b"w5", b"w0"]), min_size=1
            ),
        ),
    ),
)
quiet = st.one_of(
    *(request(kind, with_nuls(path)) for kind in (XS_READ, XS_DIRECTORY, XS_GET_PERMS)),
)
on_odd_nodes = st.one_of(
    *(request(kind, with_nuls(path)) for kind in ONE_PATH),
    request(XS_WRITE, value_of(path)),
    request(XS_SET_PERMS, perms_of(path)),
    request(XS_WATCH, with_nuls(path, token)),
    request(XS_UNWATCH, with_nuls(path, token)),
    request(XS_WATCH, with_nuls(path, token, numbers)),
    request(
        XS_DIRECTORY_PART,
        with_nuls(path, st.sampled_from([b"0", b"1", b"2", b"4", b"99", b"", b"x", b"-1", b"0x2"])),
    ),
)
on_domains = st.one_of(
    request(XS_GET_DOMAIN_PATH, with_nuls(domid)),
    request(XS_IS_DOMAIN_INTRODUCED, with_nuls(domid)),
    request(XS_RESUME, with_nuls(domid)),
    request(XS_SET_TARGET, with_nuls(domid, domid)),
    request(XS_RELEASE, with_nuls(domid)),
    request(XS_INTRODUCE, with_nuls(domid, numbers, st.sampled_from([b"7", b"8", b"0", b"-1"]))),
)
malformed = st.builds(
    lambda kind, payload: (kind, payload),
    st.sampled_from(
        sorted(set(range(27)) - {XS_CONTROL}) + [27, 9999, 65535, 0x100 + XS_WATCH_EVENT, 2**31]
    ),
    st.one_of(
        st.sampled_from(
            [b"", b"\0", b"\0\0", b"/a", b"/a\0x", b"/a\0x\0y\0", b"T", b"T\0x\0", b"F\0"]
        ),
        st.binary(max_size=12),
        with_nuls(path),
        with_nuls(path, path),
    ),
)
controls = st.sampled_from(
    [
        *(b"check\0", b"print\0x\0", b"print\0", b"nonsense\0", b"", b"check", b"help\0"),
        *(
            b"log\0",
            b"log\0off\0",
            b"log\0x\0",
            b"log\0+wrl\0",
            b"log\0-io\0",
            b"log\0+x\0",
            b"live-update\0",
            b"live-update\0-s\0",
        ),
        *(b"quota\0", b"quota-soft\0", b"quota\0005\0", b"quota\0000\0", b"quota\0x\0"),
        *(b"quota\0max\0", b"quota\0max\0-r\0", b"quota\0max\0-x\0"),
        *(b"quota\0set\0node-permissions\0002\0", b"quota-soft\0set\0memory\0001\0"),
        *(b"quota\0set\0nodes\0003\0", b"quota\0set\0watches\0002\0"),
        *(b"quota\0set\0transactions\0001\0", b"quota\0set\0permissions\0002\0"),
        *(b"quota\0set\0path-max\00060\0", b"quota\0set\0transaction-nodes\0004\0"),
        *(b"quota\0set\0node-size\00060\0", b"quota\0set\0none\0001\0"),
    ]
).map(lambda payload: (XS_CONTROL, payload))
odd = st.one_of(on_odd_nodes, on_odd_nodes, on_domains, malformed, controls)

req_ids = st.sampled_from([0, 1, 7, 0xFFFFFFFF])
speakers = st.sampled_from([*SOCKETS, GUEST, GUEST])


# -- how answers are compared ----------------------------------------------------------------------


def decode(data: bytes) -> list[Message]:
    decoder = Decoder()
    messages = decoder.feed(data)
    assert decoder.next() is None
    return messages


def without_repeated_events(messages: list[Message]) -> list[Message]:
    """When requests come faster than events can be sent, the daemon sends fewer equal ones."""
    seen: set[Message] = set()
    kept = []
    for message_ in messages:
        if message_.type != XS_WATCH_EVENT or message_ not in seen:
            kept.append(message_)
        seen.add(message_)
    return kept


class Generations:
    """Pairs the daemon's generation numbers with ours, one to one."""

    def __init__(self) -> None:
        self._ours: dict[bytes, bytes] = {}
        self._theirs: dict[bytes, bytes] = {}

    def same(self, theirs: Message, ours: Message) -> bool:
        their_number, _, their_rest = theirs.payload.partition(b"\0")
        our_number, _, our_rest = ours.payload.partition(b"\0")
        return (
            theirs[:3] == ours[:3]
            and their_rest == our_rest
            and self._ours.setdefault(their_number, our_number) == our_number
            and self._theirs.setdefault(our_number, their_number) == their_number
        )


class Differential(RuleBasedStateMachine):
    release: str

    def __init__(self) -> None:
        super().__init__()
        self.real = RealWorld(self.release)
        self.ours = OurWorld(self.release)
        self.generations = Generations()
        self.open_transactions: dict[str, list[int]] = {who: [] for who in (*SOCKETS, GUEST)}
        self.guest_exists = False

    def teardown(self) -> None:
        self.ours.close()
        self.real.close()

    # -- comparing

    def compare(
        self,
        asked: list[Message],
        who: str,
        theirs: Arrived,
        ours: Arrived,
        faster_than_events: bool = False,
    ) -> None:
        assert self.real.daemon.running, self.real.daemon.last_words()
        for name in (*SOCKETS, GUEST):
            real_open, our_open = self.real.is_open(name), self.ours.is_open(name)
            shown = f"{name}: open for real {real_open}, ours {our_open}, {who} asked {asked}"
            assert real_open == our_open, shown
            requests = list(asked) if name == who else []
            their_stream, our_stream = (decode(side.get(name, b"")) for side in (theirs, ours))
            if faster_than_events:
                their_stream = without_repeated_events(their_stream)
                our_stream = without_repeated_events(our_stream)
            self._compare_stream(name, requests, their_stream, our_stream)
        if not self.ours.is_open(GUEST):
            self.open_transactions[GUEST] = []

    def _compare_stream(
        self, name: str, asked: list[Message], theirs: list[Message], ours: list[Message]
    ) -> None:
        shown = f"{name}: asked {asked}\nreal {theirs}\nours {ours}"
        assert len(theirs) == len(ours), shown
        for their, our in zip(theirs, ours, strict=True):
            if their.type == XS_WATCH_EVENT and (their.req_id, their.tx_id) == (0, 0):
                assert their == our, shown
                continue
            question = asked.pop(0)
            if their != our and declared(self.release, question, their, our) is None:
                assert question.type == XS_DIRECTORY_PART, shown
                assert self.generations.same(their, our), shown
            self._note_transactions(name, question, their)

    def _note_transactions(self, name: str, question: Message, answer: Message) -> None:
        transactions = self.open_transactions[name]
        if answer.type == XS_TRANSACTION_START:
            transactions.append(int(answer.payload[:-1]))
        elif answer.type == XS_RESET_WATCHES:
            transactions.clear()
        elif question.type == XS_TRANSACTION_END and question.tx_id in transactions:
            flag_was_bad = answer.type == XS_ERROR and answer.payload == b"EINVAL\0"
            if not flag_was_bad:
                transactions.remove(question.tx_id)

    # -- asking

    def ask(self, who: str, asked: list[Message], cuts: list[int] | None = None) -> None:
        if who == GUEST and not self.ours.is_open(GUEST):
            who = "A"
        if any(must_not_be_asked(m) for m in asked):
            return
        if len(asked) == 1 and uses_stale_errno(self.release, asked[0]):
            # Some request must have failed in the daemon: errno 0 would be no answer at all, and
            # the next request on this connection would end the daemon (assertion conn->in == NULL).
            self.ask(who, [Message(XS_READ, 0, 0, b"/none\0")])
        data = b"".join(message(m.type, m.payload, m.req_id, m.tx_id) for m in asked)
        edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts or ()), len(data)]
        pieces = [data[i:j] for i, j in pairwise(edges) if i < j]
        theirs, ours = self.real.round_trip(who, pieces), self.ours.round_trip(who, pieces)
        self.compare(asked, who, theirs, ours, faster_than_events=len(asked) > 1)

    def transaction(self, who: str, choice: int) -> int:
        """None, one of the open ones, or (rarely) one that is not."""
        return ([0, 0, *self.open_transactions[who] * 3])[
            choice % (2 + 3 * len(self.open_transactions[who]))
        ]

    @initialize(introduced=st.booleans())
    def guest_has_a_home(self, introduced: bool) -> None:
        if introduced:
            self.guest_is_created()
            self.ask("A", [Message(XS_INTRODUCE, 1, 0, b"5\0001\0007\0")])
            self.ask("A", [Message(XS_WRITE, 2, 0, b"/local/domain/5\0")])
            self.ask("A", [Message(XS_SET_PERMS, 3, 0, b"/local/domain/5\0n5\0")])

    @rule(who=speakers, asked=on_nodes, choice=st.integers(0, 40), req_id=req_ids)
    def node_request(self, who: str, asked: Request, choice: int, req_id: int) -> None:
        kind, payload = asked
        self.ask(who, [Message(kind, req_id, self.transaction(who, choice), payload)])

    @rule(who=speakers, asked=st.lists(on_nodes, min_size=2, max_size=6))
    def one_by_one(self, who: str, asked: list[Request]) -> None:
        for kind, payload in asked:
            self.ask(who, [Message(kind, 0, 0, payload)])

    @rule(who=speakers, asked=odd, choice=st.integers(0, 40), bogus=st.integers(0, 9))
    def odd_request(self, who: str, asked: Request, choice: int, bogus: int) -> None:
        kind, payload = asked
        tx_id = 4711 if bogus == 9 else self.transaction(who, choice)
        self.ask(who, [Message(kind, 5, tx_id, payload)])

    @rule(who=speakers, choice=st.integers(0, 40))
    def start_transaction(self, who: str, choice: int) -> None:
        self.ask(who, [Message(XS_TRANSACTION_START, 0, 0, b"\0")])

    @rule(
        who=speakers,
        choice=st.integers(0, 40),
        flag=st.sampled_from([b"T\0"] * 4 + [b"F\0", b"X\0"]),
    )
    def end_transaction(self, who: str, choice: int, flag: bytes) -> None:
        self.ask(who, [Message(XS_TRANSACTION_END, 0, self.transaction(who, choice), flag)])

    @rule(who=speakers)
    def reset_watches(self, who: str) -> None:
        self.ask(who, [Message(XS_RESET_WATCHES, 0, 0, b"\0")])

    @rule(
        who=speakers,
        asked=st.lists(st.one_of(quiet, on_nodes), min_size=2, max_size=5),
        cuts=st.lists(st.integers(0, 400), max_size=6),
    )
    def several_at_once_in_pieces(self, who: str, asked: list[Request], cuts: list[int]) -> None:
        self.ask(who, [Message(kind, i, 0, p) for i, (kind, p) in enumerate(asked)], cuts)

    # -- what happens to guest and clients

    @precondition(lambda self: not self.guest_exists)
    @rule()
    def guest_is_created(self) -> None:
        self.guest_exists = True
        self.compare([], "", self.real.create_guest(), self.ours.create_guest())

    @precondition(lambda self: self.guest_exists and not self.ours.is_open(GUEST))
    @rule()
    def guest_is_introduced(self) -> None:
        self.ask("B", [Message(XS_INTRODUCE, 0, 0, b"5\0001\0007\0")])

    @precondition(lambda self: self.guest_exists)
    @rule()
    def guest_shuts_down(self) -> None:
        self.compare([], "", self.real.shut_guest_down(), self.ours.shut_guest_down())

    @precondition(lambda self: self.guest_exists)
    @rule(often=st.integers(0, 3))
    def guest_is_destroyed(self, often: int) -> None:
        if often == 0:
            self.guest_exists = False
            self.compare([], "", self.real.destroy_guest(), self.ours.destroy_guest())

    @rule(who=st.sampled_from(SOCKETS), often=st.integers(0, 2))
    def socket_reconnects(self, who: str, often: int) -> None:
        if often == 0:
            self.open_transactions[who] = []
            self.compare([], "", self.real.reconnect(who), self.ours.reconnect(who))


class Differential417(Differential):
    release = "4.17"


class Differential420(Differential):
    release = "4.20"


SETTINGS = settings(
    max_examples=examples(240),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestDifferential417 = pytest.mark.usefixtures("xenstored_4_17")(Differential417.TestCase)
TestDifferential417.settings = SETTINGS
TestDifferential420 = pytest.mark.usefixtures("xenstored_4_20")(Differential420.TestCase)
TestDifferential420.settings = SETTINGS
