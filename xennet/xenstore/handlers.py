"""The message types of a server: what each payload means and how it is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from attrs import evolve

from xennet.abi import xs_numbers as xs
from xennet.xenstore.arguments import at_least, atoi, exactly, one
from xennet.xenstore.connection import Connection
from xennet.xenstore.control import DIALECTS, control, shown
from xennet.xenstore.errors import XsError
from xennet.xenstore.quota import UNLIMITED
from xennet.xenstore.store import Store
from xennet.xenstore.tap import Tap
from xennet.xenstore.trace import TraceFile
from xennet.xenstore.wire import decode_text, encode_text, strings

Answer = Callable[[Connection, bytes, int], bytes]
"""(connection, payload, transaction id) -> payload of the reply. Raises XsError for an XS_ERROR."""

_OK = b"OK\0"
_DOMID = 0xFFFF


class Handler(NamedTuple):
    """How one message type is answered.

    ``privileged``: other domains get EACCES. ``transactional``: a transaction id that is not open
    gets ENOENT, which is so for all types but a few.
    """

    answer: Answer
    privileged: bool = False
    transactional: bool = True


class Server:
    """What all sessions of one server share: the store, and the message types that it answers.

    ``newer`` adds GET_FEATURE, SET_FEATURE, GET_QUOTA and SET_QUOTA, which are younger than Xen
    4.20; ``features`` are the server_features bits that its domains may have. ``say(text)`` is
    called for ``CONTROL print``, and with what happens to the trace file.
    """

    def __init__(
        self,
        store: Store,
        *,
        newer: bool = False,
        features: int = 0,
        say: Callable[[str], None] = lambda text: None,
        trace_file: str | None = None,
    ) -> None:
        self.store = store
        self.features = features
        self.say = say
        self.trace = TraceFile(store, trace_file, say)
        #: Who is shown the bytes of each session that begins from now on.
        self.tap: Tap | None = None
        self.dialect = DIALECTS[store.like.name]
        known = {
            xs.XS_CONTROL: Handler(
                lambda _, payload, __: control(self, payload),
                privileged=not self.dialect.answers_anything,
            ),
            **HANDLERS,
            **(self._newer() if newer else {}),
        }
        self.table: Mapping[int, Handler] = {
            kind: handler for kind, handler in known.items() if kind not in store.like.unknown_types
        }

    def __repr__(self) -> str:
        return f"<Server of {self.store!r}>"

    def features_of(self, domid: int) -> int:
        """The server_features for a domain's ring page."""
        domain = self.store.domains.get(domid)
        return self.features if domain is None or domain.features is None else domain.features

    def _newer(self) -> dict[int, Handler]:
        return {
            xs.XS_GET_FEATURE: Handler(self._get_feature),
            xs.XS_SET_FEATURE: Handler(self._set_feature, privileged=True),
            xs.XS_GET_QUOTA: Handler(self._get_quota, privileged=True),
            xs.XS_SET_QUOTA: Handler(self._set_quota, privileged=True),
        }

    def _get_feature(self, c: Connection, payload: bytes, tx: int) -> bytes:
        words = _optional(payload, 1)
        if not words:
            return _text(str(self.features))
        if not c.identity.privileged:
            raise XsError("EACCES", words[0], f"domain {c.domid} is not privileged")
        domid = _domid(words[0])
        self.store.domain(domid)
        return _text(str(self.features_of(domid)))

    def _set_feature(self, c: Connection, payload: bytes, tx: int) -> bytes:
        words = exactly(payload, 2)
        domain = self.store.domain(_domid(words[0]))
        bits = _unsigned(words[1])
        if domain.introduced:
            raise XsError("EBUSY", words[0], "features are set before the domain is introduced")
        if bits & ~self.features:
            raise XsError("EINVAL", words[1], f"only the bits of {self.features} are supported")
        domain.features = bits
        return _OK

    def _get_quota(self, c: Connection, payload: bytes, tx: int) -> bytes:
        words = _optional(payload, 2)
        if not words:
            return _text(" ".join(QUOTA_FIELDS))
        *domids, name = words
        field = _quota_field(name)
        if not domids:
            return _text(str(shown(self.store.quota, field)))
        domid = _domid(domids[0])
        self.store.domain(domid)
        return _text(str(shown(self.store.quota_of(domid), field)))

    def _set_quota(self, c: Connection, payload: bytes, tx: int) -> bytes:
        words = strings(payload)
        if len(words) not in (2, 3):
            raise XsError("EINVAL", "", f"{len(words)} strings, 2 or 3 are needed")
        *domids, name, value = words
        field = _quota_field(name)
        limit = {field: _unsigned(value) or UNLIMITED}
        if domids:
            domid = _domid(domids[0])
            self.store.domain(domid)
            self.store.set_quota(evolve(self.store.quota_of(domid), **limit), domid)
        else:
            self.store.set_quota(evolve(self.store.quota, **limit))
        return _OK


QUOTA_FIELDS: Mapping[str, str] = {
    "nodes": "nodes",
    "watches": "watches",
    "outstanding": "outstanding",
    "memory": "memory",
    "soft-memory": "soft_memory",
    "transactions": "transactions",
    "transaction-nodes": "transaction_nodes",
    "node-permissions": "perms",
    "path-max": "path_max",
    "node-size": "node_size",
}
"""Names in GET_QUOTA and SET_QUOTA -> fields of Quota."""


def _text(text: str) -> bytes:
    return encode_text(text) + b"\0"


def _listed(words: list[str]) -> bytes:
    return ("\0".join(words) + "\0").encode() if words else b""


def _optional(payload: bytes, most: int) -> list[str]:
    """Up to ``most`` strings; a request without strings carries nothing, or one nul.

    Raises XsError EINVAL for more.
    """
    words = [] if payload == b"\0" else strings(payload)
    if len(words) > most:
        raise XsError("EINVAL", "", f"{len(words)} strings, at most {most} are known")
    return words


def _unsigned(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 1 << 32):
        raise XsError("EINVAL", text, "not a decimal number of 32 bits")
    return int(text)


def _domid(text: str) -> int:
    number = _unsigned(text)
    if number > _DOMID:
        raise XsError("EINVAL", text, "not a domain id")
    return number


def _quota_field(name: str) -> str:
    if name not in QUOTA_FIELDS:
        raise XsError("EINVAL", name, f"the quotas are {' '.join(QUOTA_FIELDS)}")
    return QUOTA_FIELDS[name]


def _read(c: Connection, payload: bytes, tx: int) -> bytes:
    return c.read(one(payload), tx)


def _directory(c: Connection, payload: bytes, tx: int) -> bytes:
    names = c.listing(one(payload), tx)
    return names + b"\0" if names else b""


def _directory_part(c: Connection, payload: bytes, tx: int) -> bytes:
    """The generation and as many whole names as fit, from a byte offset into the list of names.

    A further nul tells that the list ends here.
    """
    path, offset = exactly(payload, 2)
    generation, names = c.directory_part(path, tx)
    head = _text(str(generation))
    listed = _listed(names)
    start = atoi(offset) % (1 << 32)
    if start >= len(listed):
        return head + b"\0"
    most = xs.XENSTORE_PAYLOAD_MAX - len(head) - 1
    end = len(listed)
    if end - start > most:
        return head + listed[start : listed.rfind(b"\0", start, start + most) + 1]
    return head + listed[start:] + b"\0"


def _get_perms(c: Connection, payload: bytes, tx: int) -> bytes:
    return _listed([str(perm) for perm in c.get_perms(one(payload), tx)])


def _write(c: Connection, payload: bytes, tx: int) -> bytes:
    path, nul, value = payload.partition(b"\0")
    if not nul:
        raise XsError("EINVAL", decode_text(payload), "no nul after the path")
    c.write(decode_text(path), value, tx)
    return _OK


def _mkdir(c: Connection, payload: bytes, tx: int) -> bytes:
    c.mkdir(one(payload), tx)
    return _OK


def _rm(c: Connection, payload: bytes, tx: int) -> bytes:
    c.rm(one(payload), tx)
    return _OK


def _set_perms(c: Connection, payload: bytes, tx: int) -> bytes:
    words = strings(payload)
    if len(words) < 2:
        raise XsError("EINVAL", words[0] if words else "", "no permissions given")
    c.set_perms(words[0], words[1:], tx)
    return _OK


def _watch(c: Connection, payload: bytes, tx: int) -> bytes:
    path, token = exactly(payload, 2)
    c.watch(path, token)
    return _OK


def _unwatch(c: Connection, payload: bytes, tx: int) -> bytes:
    path, token = exactly(payload, 2)
    c.unwatch(path, token)
    return _OK


def _reset_watches(c: Connection, payload: bytes, tx: int) -> bytes:
    c.reset_watches(tx)
    return _OK


def _transaction_start(c: Connection, payload: bytes, tx: int) -> bytes:
    return _text(str(c.transaction_start(tx)))


def _transaction_end(c: Connection, payload: bytes, tx: int) -> bytes:
    flag = one(payload)
    if flag not in ("T", "F"):
        raise XsError("EINVAL", flag, "a transaction ends with T or F")
    c.transaction_end(tx, flag == "T")
    return _OK


def _introduce(c: Connection, payload: bytes, tx: int) -> bytes:
    domid, gfn, port = (atoi(word) for word in at_least(payload, 3))
    # Ports are unsigned: only 0 is none, and it is the event channel that refuses "-1".
    c.introduce(domid, gfn, port % (1 << 32), tx)
    return _OK


def _release(c: Connection, payload: bytes, tx: int) -> bytes:
    c.release(atoi(one(payload)), tx)
    return _OK


def _resume(c: Connection, payload: bytes, tx: int) -> bytes:
    c.resume(atoi(one(payload)), tx)
    return _OK


def _set_target(c: Connection, payload: bytes, tx: int) -> bytes:
    domid, target = (atoi(word) for word in at_least(payload, 2))
    c.set_target(domid, target, tx)
    return _OK


def _is_domain_introduced(c: Connection, payload: bytes, tx: int) -> bytes:
    return b"T\0" if c.is_domain_introduced(atoi(one(payload)), tx) else b"F\0"


def _get_domain_path(c: Connection, payload: bytes, tx: int) -> bytes:
    return _text(c.get_domain_path(atoi(one(payload)) % (1 << 32), tx))


HANDLERS: Mapping[int, Handler] = {
    xs.XS_DIRECTORY: Handler(_directory),
    xs.XS_READ: Handler(_read),
    xs.XS_GET_PERMS: Handler(_get_perms),
    xs.XS_WATCH: Handler(_watch, transactional=False),
    xs.XS_UNWATCH: Handler(_unwatch, transactional=False),
    xs.XS_TRANSACTION_START: Handler(_transaction_start),
    xs.XS_TRANSACTION_END: Handler(_transaction_end),
    xs.XS_INTRODUCE: Handler(_introduce, privileged=True),
    xs.XS_RELEASE: Handler(_release, privileged=True),
    xs.XS_GET_DOMAIN_PATH: Handler(_get_domain_path),
    xs.XS_WRITE: Handler(_write),
    xs.XS_MKDIR: Handler(_mkdir),
    xs.XS_RM: Handler(_rm),
    xs.XS_SET_PERMS: Handler(_set_perms),
    xs.XS_IS_DOMAIN_INTRODUCED: Handler(_is_domain_introduced, privileged=True),
    xs.XS_RESUME: Handler(_resume, privileged=True),
    xs.XS_SET_TARGET: Handler(_set_target, privileged=True),
    xs.XS_RESET_WATCHES: Handler(_reset_watches),
    xs.XS_DIRECTORY_PART: Handler(_directory_part),
}
"""The message types whose answers need nothing but the connection."""
